"""PyTorch side: the model, its losses, the frozen encoders, and the loop that trains them."""
