"""`maskvat stdio`: one warm process that takes JSON lines from another program. docs/EMBEDDING.md is the protocol."""
