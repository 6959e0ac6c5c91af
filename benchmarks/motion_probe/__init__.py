"""Does motion, computed without learned weights, tell when real videos sound? A probe."""
