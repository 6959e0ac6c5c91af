"""What files are, and their clocks: parts of reading video and sound."""
