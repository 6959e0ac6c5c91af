"""Timecode, ranges of time, and how a video counts its frames."""
