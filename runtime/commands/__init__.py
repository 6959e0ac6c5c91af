"""The command line: what `python -m runtime.infer` does around a generation."""
