"""Code that several benchmarks share: true tracks, paired comparisons, timing, machine facts, and reports."""
