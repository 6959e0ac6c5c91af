"""Deliver the sound: copies of a video that carry it, and what such a copy kept of its source."""
