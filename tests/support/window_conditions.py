"""The conditions that `step` gets for a real video."""

from contextlib import nullcontext
from pathlib import Path

from engines.base import Feeds
from engines.feeds import step_conditions
from runtime.bundle import Bundle
from runtime.features import Encoders
from runtime.video import Video
from runtime.windows import windows


def first_window(bundle: Bundle, path: Path) -> tuple[Feeds, int]:
    """The conditions of the first window of a video, and the length of that window in token frames."""
    config = bundle.config
    with Video(path) as video:
        window = next(windows(config, video))
    encoders = Encoders(bundle, lambda stage: nullcontext(), lambda frames: None)
    clip, sync = encoders.clip_features(window.clip_frames), encoders.sync_features(window.sync_frames)
    features = {"clip_features": clip, "sync_features": sync}
    return step_conditions(config, window.length, features, bundle["condition"].run), window.length
