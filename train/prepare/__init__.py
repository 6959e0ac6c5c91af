"""Videos to prepared samples: features and codes in folders or shards."""
