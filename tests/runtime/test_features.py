"""Encoding a window's pictures in parts: the same features and the same sound as encoding them at once."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import runtime
from engines.contract import FloatArray
from runtime import Cancelled, SamplingConfig, features
from runtime.bundle import Bundle
from runtime.features import Encoders, pieces
from runtime.windows import Frames
from tests.support.fake_engines import NEEDS_ORT, small_config

pytestmark = NEEDS_ORT
CONFIG = small_config()


def moving(n: int, size: int) -> Frames:
    """Noise that is different in every frame."""
    return np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def encode(bundle: Bundle, context: int, frames: Frames) -> tuple[FloatArray, int]:
    """The sync features, and the number of engine runs that made them."""
    before, runs = bundle.manifest, []
    bundle.manifest = replace(before, config=replace(before.config, sync_context=context))
    try:
        made = Encoders(bundle, lambda stage: nullcontext(), lambda _: runs.append(1)).sync_features(frames)
    finally:
        bundle.manifest = before
    return made, len(runs)


@pytest.mark.parametrize("n", [1, 15, 16, 17, 56, 250])
@pytest.mark.parametrize(("stride", "context"), [(8, 16), (4, 24), (1, 10)])
def test_pieces_join_without_gaps_and_have_their_context(stride: int, context: int, n: int) -> None:
    made = list(pieces(replace(CONFIG, sync_stride=stride, sync_context=context), n, 30))
    assert [k for begin, end, _, _ in made for k in range(begin, end)] == list(range(n))
    for begin, _, left, right in made:
        assert begin % stride == left % stride == 0  # the encoder's strides start as they would for all frames
        assert right - left <= 30 + 2 * context
    assert [(left, right) for *_, left, right in made] == [
        (max(0, begin - context), min(n, end + context)) for begin, end, _, _ in made
    ]


def test_pieces_are_few_and_of_one_length() -> None:
    def lengths(stride: int, context: int, n: int) -> list[int]:
        config = replace(CONFIG, sync_stride=stride, sync_context=context)
        return [end - begin for begin, end, *_ in pieces(config, n, features.SYNC_PIECE)]

    assert lengths(1, 10, 250) == [125, 125]
    assert lengths(8, 48, 256) == [128, 128]


def test_an_unknown_context_means_one_piece() -> None:
    assert list(pieces(replace(CONFIG, sync_context=0), 250, 16)) == [(0, 250, 0, 250)]


def test_a_gpu_gets_the_window_at_once(bundles: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "SYNC_PIECE", 16)
    bundle, frames = Bundle(bundles(), "cpu", 1), moving(56, 32)
    bundle.manifest = replace(bundle.manifest, config=replace(bundle.config, sync_context=8))
    calls: list[int] = []
    encoders = Encoders(bundle, lambda stage: nullcontext(), lambda _: calls.append(1))

    def encode() -> tuple[list[FloatArray], int]:
        calls.clear()
        return [encoders.frame_features(frames), encoders.sync_features(frames)], len(calls)

    parts, several = encode()
    bundle.backend = "tensorrt"
    whole, two = encode()
    assert (several, two) == (14 + 4, 2)
    for a, b in zip(parts, whole, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_pieces_give_the_same_sound(
    bundles: Callable[..., Path], make_video: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline, sounds, calls = runtime.load(bundles(), "cpu", threads=1), [], []
    for piece in (1000, 16):
        monkeypatch.setattr(features, "SYNC_PIECE", piece)
        pipeline.forget()
        (take,) = pipeline.generate(make_video(), SamplingConfig(steps=4))
        sounds.append(take.audio.tobytes())
        calls.append(take.report.calls["sync_encoder"])
    assert sounds[0] == sounds[1]
    assert calls[1] > 2 * calls[0]


def test_the_fake_encoder_needs_its_context(bundles: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """If it did not, the test above could not fail."""
    bundle, frames = Bundle(bundles(), "cpu", 1), moving(56, 32)
    whole, runs = encode(bundle, 0, frames)
    assert runs == 1
    monkeypatch.setattr(features, "SYNC_PIECE", 16)
    assert np.array_equal(encode(bundle, 8, frames)[0], whole)
    monkeypatch.setattr(features, "pieces", lambda c, n, longest: ((k, k + 8, k, k + 8) for k in range(0, n, 8)))
    assert not np.array_equal(encode(bundle, 8, frames)[0], whole)


def test_the_shipped_encoder_looks_ten_frames_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "SYNC_PIECE", 16)
    bundle = Bundle(None, "cpu", 1)
    frames = moving(40, bundle.config.sync_size)
    whole, _ = encode(bundle, 0, frames)
    parts, runs = encode(bundle, 10, frames)
    assert runs == 3
    np.testing.assert_allclose(parts, whole, atol=1e-5 * np.abs(whole).max())
    short, _ = encode(bundle, 9, frames)
    assert np.abs(short - whole).max() > 1e-4 * np.abs(whole).max()


def test_encoding_stops_between_pieces(bundles: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "SYNC_PIECE", 8)
    begun: list[str] = []

    def before_part(frames: int) -> None:
        if len(begun) == 2:
            raise Cancelled("enough")

    def timer(stage: str) -> nullcontext[None]:
        begun.append(stage)
        return nullcontext()

    with pytest.raises(Cancelled):
        Encoders(Bundle(bundles(), "cpu", 1), timer, before_part).sync_features(moving(56, 32))
    assert begun == ["sync_encoder"] * 2
