"""Edit a sound: time codes, and ranges of a clip."""
