"""The tasks that a recipe can name. Each joins a network, its data and its losses."""
