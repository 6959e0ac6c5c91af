"""The errors of training that a user can mend. Commands print them in one line."""


class RecipeError(Exception):
    """A recipe, or an option that changes it, is not understood."""


class CheckpointError(Exception):
    """A system folder is incomplete, altered, or does not fit the code."""


class TrainingError(Exception):
    """Training cannot go on."""


class ShardError(ValueError):
    """Shards that are absent, unfinished, damaged or of another format."""
