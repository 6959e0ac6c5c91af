"""Time to generate a sound, compared with PyTorch and with the limits of the machine."""
