"""What a recipe can train: each task joins a network, its data and its losses."""
