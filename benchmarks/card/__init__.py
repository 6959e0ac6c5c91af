"""One command for a machine with an NVIDIA GPU and no network, for some minutes at a time: see docs/CARD.md."""
