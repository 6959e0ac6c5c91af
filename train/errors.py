"""Errors of training that a user can fix. Commands print them in one line."""


class RecipeError(Exception):
    """A recipe, or an option that changes it, is not valid."""


class CheckpointError(Exception):
    """A system folder is incomplete, altered, or does not fit the code."""


class TrainingError(Exception):
    """Training cannot continue."""


class ShardError(ValueError):
    """Shards are missing, unfinished, damaged or in another format."""
