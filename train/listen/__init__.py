"""The paper's listening test. It runs in a checkout, as benchmarks do, and is not part of what is installed."""
