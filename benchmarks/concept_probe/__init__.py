"""Which frame features let a model learn concepts from made-up examples? A probe on real videos."""
