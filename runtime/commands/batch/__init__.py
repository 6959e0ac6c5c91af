"""`maskvat batch`: sounds for several videos, a folder, or the rows of a CSV table."""
