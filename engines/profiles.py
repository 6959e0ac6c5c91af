"""TensorRT's shape profiles, from the contract: the smallest, usual and largest length for every axis letter."""

from engines.contract import Graph, ModelConfig
from engines.feeds import CODEC_CHUNK, CODEC_PERIOD
from engines.length_adapter import condition_indices

Range = tuple[int, int, int]  # smallest, usual (at which the plan is fastest), largest
Shape = tuple[int, ...]
Profile = dict[str, tuple[Shape, Shape, Shape]]  # input -> smallest, usual and largest shape

CANDIDATES = 10  # the paper's number: the default for the largest batch that a plan takes
# graphs with one of these inputs run on several candidates (or texts) at once
PER_CANDIDATE = {"codes", "audio", "audio_features", "tokens"}


def ranges(config: ModelConfig, graph: Graph, candidates: int = CANDIDATES) -> dict[str, Range]:
    """The range of each axis letter. Lengths end at the window, or at the codec's chunk if that is longer.

    Graphs that see only the video take a batch of one, because all candidates share it. TensorRT reserves memory for
    the largest shapes, and the frames of ten videos would need gigabytes. Raises ValueError if `candidates` < 1.
    """
    if candidates < 1:
        raise ValueError(f"candidates must be at least 1, got {candidates}")
    c = config
    tokens = c.window_tokens
    n, s, y = c.n_frames(tokens), c.n_sync(tokens), c.n_sync_frames(tokens)
    indices = condition_indices(c, tokens, n, s)
    pairs = len(indices.get("frame_features_index", (0,)))
    frames = int(indices["frame_index"].max()) + 2 if "frame_index" in indices else 1  # with the row of [NULL]
    rate = c.audio_rate if graph.name == "audio_encoder" else c.sample_rate
    samples = -(-tokens * c.hop_length * rate // c.sample_rate)
    shortest = 2 * c.audio_stride * rate // c.audio_rate  # shorter sounds are padded to this (runtime.candidates)
    steps = -(-tokens * c.hop_length * c.audio_rate // (c.sample_rate * c.audio_stride))
    before = -(-c.codec_context // CODEC_PERIOD) * CODEC_PERIOD  # context that begins where a period does
    chunk = before + CODEC_CHUNK + c.codec_context  # of the codec; may be longer than a window
    longest = tokens if graph.name == "step" else max(tokens, chunk)
    usual = min(tokens, chunk) if graph.name == "codec_decoder" else tokens
    batch = candidates if PER_CANDIDATE & {spec.name for spec in graph.inputs} else 1
    return {
        "B": (1, 1, batch),
        "T": (1, usual, longest),
        "N": (1, n, n),
        "M": (2, n + 1, n + 1),
        "S": (1, s, s),
        "Y": (c.sync_stride, y, y),
        "P": (1, tokens, tokens),
        "C": (1, pairs, n + s),  # two rising sequences have at most this many distinct pairs
        "F": (1, frames, 2 * (n + s)),  # with [NULL], or twice the condition frames (engines.feeds.replace_null)
        "G": (1, 2, 2),  # without guidance nothing is computed for [NULL]
        "L": (min(shortest, samples), samples, max(shortest, samples)),
        "A": (1, steps, steps + 1),
    }


def profile(config: ModelConfig, graph: Graph, candidates: int = CANDIDATES) -> Profile:
    """The smallest, usual and largest shape of each input that has an axis of any length."""
    found = ranges(config, graph, candidates)

    def shape(axes: tuple[str | int, ...], which: int) -> Shape:
        return tuple(axis if isinstance(axis, int) else found[axis][which] for axis in axes)

    return {
        spec.name: (shape(spec.axes, 0), shape(spec.axes, 1), shape(spec.axes, 2))
        for spec in graph.inputs
        if any(isinstance(axis, str) for axis in spec.axes)
    }
