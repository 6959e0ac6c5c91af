"""How many clips a card makes per hour for many users: a model on paper, and a simulation that checks it."""
