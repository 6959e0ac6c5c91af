"""Measurements that print the machine and the versions they were made with. Nothing imports this package."""
