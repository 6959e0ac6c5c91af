"""Scores folders of sound against the true videos and writes a report."""
