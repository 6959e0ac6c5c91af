"""Benchmarks. Each result names the machine and the versions that it was measured with. Nothing imports this package."""
