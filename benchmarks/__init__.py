"""Benchmarks. Each result names the machine and the versions it was measured with. Nothing imports this package."""
