"""Timecode, ranges of a video, and takes that are saved, made again in part, varied and extended."""
