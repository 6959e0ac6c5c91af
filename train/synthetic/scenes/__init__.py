"""Simulated clips: rigid bodies in MuJoCo, filmed and sounded."""
