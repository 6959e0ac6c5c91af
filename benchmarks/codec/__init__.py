"""How much of a sound the codec keeps."""
