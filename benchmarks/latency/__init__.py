"""Latency per step count, against PyTorch and against the machine's own limits."""
