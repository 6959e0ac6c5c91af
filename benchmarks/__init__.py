"""Benchmarks. Each result names the machine and the versions it was measured with. No other package imports this one."""
