"""One training loop for every task: budgets, run states on disk, averaged weights, reports."""
