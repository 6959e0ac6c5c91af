"""Prepared samples, read: folders and shards, the order of samples, batches."""
