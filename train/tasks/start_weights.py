"""The weights that a training of MaskVAT begins with, if it does not begin at random."""

from dataclasses import replace

from train.checkpoint import load
from train.errors import RecipeError
from train.models.maskvat import MaskVAT

FRAME_ENCODER_FIELDS = ("frame_dim", "frame_resize", "frame_size", "text_context")  # of ModelConfig
FRAME_WEIGHTS = ("null_frame", "frame_mlp.0.weight", "frame_mlp.0.bias")  # what reads the frame encoder's features


def load_start(model: MaskVAT, folder: str) -> None:
    """Load the maskvat of a system folder. It may have been trained with another frame encoder.

    The layer that reads the frame features then keeps its random weights. Raises RecipeError for other differences.
    """
    start, config = load(folder, "maskvat"), model.config
    same_encoder = {name: getattr(config, name) for name in FRAME_ENCODER_FIELDS}
    if replace(start.config, **same_encoder) != config:
        raise RecipeError(f"the maskvat in {folder} has another configuration: {start.config}, not {config}")
    state = start.state_dict()
    if start.config != config:
        print(f"the maskvat in {folder} has another frame encoder: the layer that reads it begins at random")
        state |= {name: value for name, value in model.state_dict().items() if name in FRAME_WEIGHTS}
    model.load_state_dict(state)
