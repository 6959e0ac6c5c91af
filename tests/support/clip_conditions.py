"""The conditions that `step` gets for a real clip."""

from contextlib import nullcontext
from pathlib import Path

from engines.base import Feeds
from engines.contract import condition_indices
from engines.feeds import add_null_row
from runtime.bundle import Bundle
from runtime.features import Encoders
from runtime.video import Video
from runtime.windows import windows


def first_window(bundle: Bundle, path: Path) -> tuple[Feeds, int]:
    """The conditions of the first window of a clip, and the length of that window in token frames."""
    config = bundle.config
    with Video(path) as video:
        window = next(windows(config, video))
    encoders = Encoders(bundle, lambda stage: nullcontext(), lambda: None)
    clip, sync = encoders.clip_features(window.clip_frames), encoders.sync_features(window.sync_frames)
    indices = dict(condition_indices(config, window.length, clip.shape[1], sync.shape[1]))
    frame_index = indices.pop("frame_index")
    feeds = bundle["condition"].run({"clip_features": clip, "sync_features": sync} | indices)
    feeds["frame_index"] = add_null_row(frame_index, feeds["modulation"].shape[1])
    return feeds, window.length
