"""Seconds of published systems beside ours, on one machine: python -m benchmarks.latency.peers."""
