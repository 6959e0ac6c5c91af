"""Reads prepared samples: folders and shards, the order of samples, batches."""
