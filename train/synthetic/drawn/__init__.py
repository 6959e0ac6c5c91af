"""Drawn clips: shapes that hit each other."""
