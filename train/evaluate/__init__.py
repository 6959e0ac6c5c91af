"""Scores folders of generated sound against the true videos, and writes a report.

core      runs an evaluation from start to end; files pairs the clips of folders by name
scores    measures clips and adds up values; bootstrap makes confidence intervals
report    writes report.json and report.md; page, plots and playable make index.html with its pictures and players
codec     adds the true sounds after a codec; avbench writes folders for hkchengrex/av-benchmark

The measures themselves are in train.metrics.
"""
