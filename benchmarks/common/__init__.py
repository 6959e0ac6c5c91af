"""What every benchmark shares: pairs, machine facts, reports."""
