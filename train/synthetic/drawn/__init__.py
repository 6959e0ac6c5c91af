"""Drawn clips: what happens (kinds), what it looks like (shapes), and the pictures and sound of a clip (render)."""
