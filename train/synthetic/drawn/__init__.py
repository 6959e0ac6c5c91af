"""Drawn clips: what happens (kinds, flight), what it looks like (shapes), and the files of a clip (render)."""
