"""Networks, and nothing else: what each learns is in train.tasks."""
