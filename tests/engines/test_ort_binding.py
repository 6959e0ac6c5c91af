"""ONNX Runtime's I/O binding, as used on GPUs, but in the CPU's memory: equal results, few copies, fallbacks."""

import ctypes
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Event, Thread, get_ident
from time import sleep
from typing import Any

import numpy as np
import pytest

from engines import ort
from engines.base import BackendUnavailable, ContractError, EngineError, Feeds
from engines.contract import graphs
from engines.cuda import Cuda, Stream
from engines.host_copies import copy_stream
from engines.ort import SLOTS, OrtEngine
from tests.support.fake_cuda import Error, FakeCuda
from tests.support.fake_engines import NEEDS_ORT, small_config, step_feeds

pytestmark = NEEDS_ORT
STEP = graphs(small_config())["step"]


@pytest.fixture
def path(bundles: Callable[..., Path]) -> Path:
    return bundles() / "step.onnx"


@pytest.fixture
def engine(path: Path) -> OrtEngine:
    return OrtEngine(path, STEP, "cpu", 1, device="cpu")


@pytest.fixture
def plain(path: Path) -> OrtEngine:
    return OrtEngine(path, STEP, "cpu", 1)


def same(one: Feeds, other: Feeds) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """Bytes of an array -> how often an array of that size was copied to the device."""
    import onnxruntime

    counts: Counter[int] = Counter()
    original = onnxruntime.OrtValue.update_inplace

    def counted(self: Any, value: np.ndarray) -> None:
        counts[value.nbytes] += 1
        original(self, value)

    monkeypatch.setattr(onnxruntime.OrtValue, "update_inplace", counted)
    return counts


# ---------------------------------------------------------------- results and traffic
def test_a_loop_gives_what_plain_runs_give(engine: OrtEngine, plain: OrtEngine) -> None:
    fixed, _ = step_feeds(0)
    bound, kept = engine.bind(fixed), []
    for n in range(4):
        varying = step_feeds(n)[1]
        out = bound.run(varying)
        assert same(out, plain.run(fixed | varying)) and same(out, plain.bind(fixed).run(varying))
        kept.append((out, {k: v.copy() for k, v in out.items()}))
    assert all(same(out, then) for out, then in kept)  # what was returned does not change with later steps


def test_arrays_of_any_layout(engine: OrtEngine, plain: OrtEngine) -> None:
    fixed, varying = step_feeds(0, batch=2)
    turned = {k: np.asfortranarray(v) if v.ndim > 1 else v for k, v in varying.items()}
    assert not turned["u"].flags.c_contiguous
    assert same(engine.bind(fixed).run(turned), plain.run(fixed | varying))


def test_no_null_rows(engine: OrtEngine, plain: OrtEngine) -> None:
    fixed, varying = step_feeds(0)
    fixed |= {k: v[:0] for k, v in fixed.items() if k.startswith("null_")}
    assert same(engine.bind(fixed).run(varying), plain.run(fixed | varying))


def test_conditions_are_copied_once_and_buffers_made_once(engine: OrtEngine, copied: Counter[int]) -> None:
    for seed in range(3):
        copied.clear()
        fixed, varying = step_feeds(seed, batch=2)
        bound = engine.bind(fixed)
        for _ in range(4):
            bound.run(varying)
        assert copied == Counter(v.nbytes for v in (*fixed.values(), *4 * list(varying.values())))
    assert len(engine._slots) == 1


def test_clips_that_take_turns_do_not_see_each_other(engine: OrtEngine, plain: OrtEngine) -> None:
    clips = [step_feeds(seed, batch) for seed, batch in ((0, 1), (1, 1), (2, 3))]
    bound = [engine.bind(fixed) for fixed, _ in clips]
    for _ in range(3):
        for b, (fixed, varying) in zip(bound, clips, strict=True):
            assert same(b.run(varying), plain.run(fixed | varying))


def test_threads(engine: OrtEngine, plain: OrtEngine) -> None:
    start = Barrier(4)

    def one_generation(seed: int) -> bool:
        fixed, varying = step_feeds(seed, 1 + seed % 2)
        bound, want = engine.bind(fixed), plain.run(fixed | varying)
        start.wait()
        return all(same(bound.run(varying), want) for _ in range(10))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(one_generation, range(4)))


def test_buffers_of_few_shapes_are_kept(engine: OrtEngine, plain: OrtEngine) -> None:
    for length in (*range(8, 8 + 2 * SLOTS), 8):
        fixed, varying = step_feeds(length, length=length)
        assert same(engine.bind(fixed).run(varying), plain.run(fixed | varying))
        assert len(engine._slots) <= SLOTS
    numbers = {slot.cuda_graph for slot in engine._slots.values()}
    assert len(numbers) == SLOTS and min(numbers) > SLOTS  # numbers never come again: old graphs know freed buffers


def test_outputs_of_unknown_length_are_not_bound(bundles: Callable[..., Path]) -> None:
    graph = graphs(small_config())["codec_decoder"]
    codes = np.ones((1, 9, 5), np.int32)
    decoder = OrtEngine(bundles() / "codec_decoder.onnx", graph, "cpu", 1, device="cpu")
    assert same(decoder.bind({"codes": codes}).run({}), decoder.run({"codes": codes}))


def test_fixed_inputs_are_checked_when_they_are_given(plain: OrtEngine) -> None:
    fixed, varying = step_feeds(0)
    with pytest.raises(ContractError, match=r"missing tensors \[\], unexpected tensors \['codec'\]"):
        plain.bind(fixed | {"codec": varying["codes"]})
    with pytest.raises(ContractError, match=r"expected guidance float32 \[\], got float64"):
        plain.bind(fixed | {"guidance": np.array(1.0)})


# ---------------------------------------------------------------- as on a card
class Card:
    """Sessions for the backend "cuda" that run on the CPU, and refuse CUDA graphs if so configured."""

    def __init__(self, session: Callable[..., Any]) -> None:
        self.session, self.options = session, list[dict[str, str]]()
        self.opens_with_graph, self.run_error = True, ""
        self.graph_ids: list[int | None] = []
        self.capturing = Event()
        self.threads: set[int] = set()

    def open(self, path: Path, backend: str, threads: int, options: dict[str, str]) -> Any:
        if backend == "cpu":
            return self.session(path, backend, threads, options)
        self.options.append(options)
        if options and not self.opens_with_graph:
            raise BackendUnavailable("not all nodes are on the card")
        session, card = self.session(path, "cpu", threads, {}), self

        class Session:
            def __getattr__(self, name: str) -> Any:
                return getattr(session, name)

            def run_with_iobinding(self, *arguments: Any) -> None:
                card.threads.add(get_ident())
                if card.run_error and (options or "CUDA failure" in card.run_error):
                    raise RuntimeError(card.run_error)
                card.capturing.set()
                sleep(0.02)  # others have time to put something on the stream
                session.run_with_iobinding(*arguments)
                card.capturing.clear()

            def run(self, *arguments: Any) -> Any:
                card.threads.add(get_ident())
                assert not card.capturing.is_set(), "put on a stream that is captured"
                return session.run(*arguments)

        return Session()

    def run_options(self, number: int | None) -> None:
        self.graph_ids.append(number)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    made = Card(ort._session)
    monkeypatch.setattr(ort, "_session", made.open)
    monkeypatch.setattr(ort, "_run_options", made.run_options)
    monkeypatch.setattr(ort, "available", lambda: {"cpu": None, "cuda": None})
    return made


def on_card(path: Path) -> OrtEngine:
    return OrtEngine(path, STEP, "cuda", 1, device="cpu")


def test_the_step_is_a_cuda_graph_for_each_kind_of_shapes(card: Card, path: Path, plain: OrtEngine) -> None:
    engine = on_card(path)
    assert card.options == [{"enable_cuda_graph": "1"}]
    for batch in (1, 1, 2):
        fixed, varying = step_feeds(batch, batch)
        bound = engine.bind(fixed)
        for _ in range(2):
            assert same(bound.run(varying), plain.run(fixed | varying))
    engine.run(fixed | varying)
    assert [n for n in card.graph_ids if n is not None] == [1, 1, 1, 1, 2, 2, ort.NO_CUDA_GRAPH]


def test_nothing_else_runs_while_a_step_is_captured(card: Card, path: Path, plain: OrtEngine) -> None:
    engine = on_card(path)
    fixed, varying = step_feeds(0)
    step = Thread(target=engine.bind(fixed).run, args=(varying,))
    step.start()
    assert card.capturing.wait(5)
    assert same(engine.run(fixed | varying), plain.run(fixed | varying))
    step.join()
    assert len(card.threads) == 1 and get_ident() not in card.threads  # ONNX Runtime's rule for CUDA graphs


def test_what_was_captured_is_given_back_in_the_end(
    card: Card, path: Path, plain: OrtEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plugin that runs for weeks sees many lengths, and only a new session releases the graphs of old ones."""
    monkeypatch.setattr(ort, "CAPTURES", 3)
    engine = on_card(path)
    for length in range(8, 15):
        fixed, varying = step_feeds(length, length=length)
        assert same(engine.bind(fixed).run(varying), plain.run(fixed | varying))
    assert card.options == 3 * [{"enable_cuda_graph": "1"}]


@pytest.mark.parametrize("when", ["open", "run"])
def test_where_capture_fails_it_runs_without(
    card: Card, path: Path, plain: OrtEngine, when: str, caplog: pytest.LogCaptureFixture
) -> None:
    card.opens_with_graph, card.run_error = when == "run", "cannot capture" if when == "run" else ""
    engine = on_card(path)
    fixed, varying = step_feeds(0)
    bound = engine.bind(fixed)
    for _ in range(3):
        assert same(bound.run(varying), plain.run(fixed | varying))
    assert card.options == [{"enable_cuda_graph": "1"}, {}]
    assert sum("step runs without a CUDA graph" in r.message for r in caplog.records) == 1


def test_a_lost_card_ends_the_engine_and_short_memory_does_not(card: Card, path: Path) -> None:
    engine = on_card(path)
    fixed, varying = step_feeds(0)
    bound = engine.bind(fixed)
    for text in ("CUDA failure 2: out of memory ; GPU=0", "Failed to allocate memory for requested buffer of size 9"):
        card.run_error = text
        with pytest.raises(EngineError, match=r"not enough memory on the GPU; .*fewer --candidates"):
            bound.run(varying)
        assert not engine._slots  # a smaller batch has the whole card
        card.run_error = ""
        bound.run(varying)
    assert card.options == [{"enable_cuda_graph": "1"}]  # short memory says nothing about graphs
    card.run_error = "CUDA failure 719: unspecified launch failure ; GPU=0"
    with pytest.raises(BackendUnavailable, match=r"failed in step: CUDA failure 719.*nvidia-smi"):
        bound.run(varying)
    card.run_error = ""
    with pytest.raises(BackendUnavailable, match="cannot run step any more"):
        bound.run(varying)


def test_an_error_at_the_start_is_raised_and_no_other_provider_is_tried(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By itself, ONNX Runtime would print it and continue on the CPU, even in the middle of a run."""
    import onnxruntime

    def fail(*_: object) -> None:
        tries.append(1)
        raise RuntimeError("CUDA failure 35: CUDA driver version is insufficient")

    tries: list[int] = []
    monkeypatch.setattr(onnxruntime.InferenceSession, "_create_inference_session", fail)
    with pytest.raises(BackendUnavailable, match=r"cannot load step\.onnx: CUDA failure 35"):
        OrtEngine(path, STEP, "cpu", 1)
    assert len(tries) == 1 and capsys.readouterr().out == ""


# ---------------------------------------------------------------- pinned copies
class PinnedCard(FakeCuda):
    """A fake driver whose memory is that of ONNX Runtime's buffers on the CPU."""

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import onnxruntime

        original = onnxruntime.OrtValue.ortvalue_from_shape_and_type

        def made(*arguments: Any) -> Any:
            value = original(*arguments)
            size = value.tensor_size_in_bytes()
            self.device[value.data_ptr()] = np.ctypeslib.as_array(
                (ctypes.c_uint8 * size).from_address(value.data_ptr())
            )
            return value

        monkeypatch.setattr(onnxruntime.OrtValue, "ortvalue_from_shape_and_type", made)
        monkeypatch.setattr(ort, "copy_stream", lambda device: Stream(cuda) if device else None)
        cuda = Cuda.__new__(Cuda)
        cuda.api = self


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> PinnedCard:
    fake = PinnedCard()
    fake.watch(monkeypatch)
    return fake


def test_a_step_is_copied_through_pinned_memory(
    card: Card, driver: PinnedCard, path: Path, plain: OrtEngine, copied: Counter[int]
) -> None:
    """The fake driver refuses host memory that is not pinned, and copies only when somebody waits for the stream."""
    engine = on_card(path)
    fixed, _ = step_feeds(0, batch=2)
    bound, kept = engine.bind(fixed), []
    for n in range(3):
        varying = {k: np.asfortranarray(v) if v.ndim > 1 else v for k, v in step_feeds(n, batch=2)[1].items()}
        out = bound.run(varying)
        assert same(out, plain.run(fixed | varying))
        kept.append((out, {k: v.copy() for k, v in out.items()}))
    assert all(same(out, then) for out, then in kept)  # they are not views of the pinned memory
    up = Counter(size for way, size in driver.copies if way == "up")
    down = Counter(size for way, size in driver.copies if way == "down")
    assert up == Counter(3 * [v.nbytes for v in varying.values()])
    assert down == Counter(3 * [v.nbytes for v in out.values()])
    assert copied == Counter(v.nbytes for v in fixed.values())  # pageable, once for the whole clip
    assert driver.calls.count("cudaHostAlloc") == len(varying) + len(out)
    assert driver.calls.count("cudaStreamSynchronize") == 6  # before and after each run, not for each array
    engine.close()
    assert not driver.pinned and not driver.streams and "cudaFree" not in driver.calls  # the buffers are not ours


def test_without_memory_to_pin_it_copies_as_before(
    card: Card, driver: PinnedCard, path: Path, plain: OrtEngine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    driver.failing["cudaHostAlloc"] = Error.cudaErrorMemoryAllocation
    fixed, varying = step_feeds(0)
    bound = on_card(path).bind(fixed)
    for _ in range(2):
        assert same(bound.run(varying), plain.run(fixed | varying))
    assert sum("pageable memory, which costs time only" in r.message for r in caplog.records) == 1


def test_pinned_memory_of_shapes_that_are_not_kept_is_released(card: Card, driver: PinnedCard, path: Path) -> None:
    engine = on_card(path)
    for length in range(8, 8 + 2 * SLOTS):
        fixed, varying = step_feeds(length, length=length)
        out = engine.bind(fixed).run(varying)
    assert len(driver.pinned) == SLOTS * (len(varying) + len(out))


def test_a_card_that_is_lost_in_a_copy_ends_the_engine(card: Card, driver: PinnedCard, path: Path) -> None:
    fixed, varying = step_feeds(0)
    bound = on_card(path).bind(fixed)
    bound.run(varying)
    driver.lost = True
    with pytest.raises(
        BackendUnavailable, match=r"failed in step: CUDA failure: cudaErrorDevicesUnavailable.*nvidia-smi"
    ):
        bound.run(varying)
    driver.lost = False
    with pytest.raises(BackendUnavailable, match="cannot run step any more"):
        bound.run(varying)


def test_only_cuda_has_a_stream_for_copies(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    assert copy_stream(None) is None and copy_stream("cpu") is None and not caplog.records
    monkeypatch.setattr("engines.host_copies.unavailable", lambda: "no driver")
    assert copy_stream("cuda") is None and "no driver" in caplog.text
