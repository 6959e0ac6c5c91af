"""The candidates of one video. They are decoded side by side; a budget drops those that SCAV ranks low on the way.

Each candidate has noise of its own (runtime.rng). A candidate that stays therefore gets the same tokens as if none had
been dropped, apart from the engines' rounding in batches of another size.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from engines.advice import own_command
from engines.base import Array, Bound, Feeds
from engines.contract import FloatArray, Int32Array
from engines.feeds import all_positions, conditional_only, positions
from engines.length_adapter import interpolation_matrix
from runtime.audio import resample
from runtime.bundle import Bundle
from runtime.context import SCORE, GenerationContext
from runtime.decode import DecodeState, UnmaskSchedule, advance
from runtime.errors import BackendUnavailable, EngineError
from runtime.rng import CONFIDENCE, TOKENS, uniforms
from runtime.sampling import SamplingConfig
from runtime.take import DroppedCandidate
from runtime.windows import Window

STEP_MEMORY = 2 * 2**30  # bytes that the candidates of one batch may use in `step`


@dataclass(frozen=True)
class Scene:
    """A window, its picture features, and the inputs of `step` made from them."""

    window: Window
    frame_features: FloatArray  # [1, N, Df]
    feeds: Feeds  # engines.feeds.step_conditions


@dataclass(frozen=True)
class Span:
    """Consecutive steps that are alike, how many candidates take them, and how many are kept after them."""

    steps: range
    guided: bool
    candidates: int
    keep: int


def spans(sampling: SamplingConfig) -> list[Span]:
    """Cut the steps of a window where guidance begins and ends, and where candidates are dropped.

    A budget of n numbers cuts the steps into n + 1 parts of nearly equal length. Its k-th number is how many candidates
    are kept after part k.
    """
    s, parts = sampling, len(sampling.budget) + 1
    keep = {s.steps * k // parts: n for k, n in enumerate(s.budget, 1)}
    guided = range(round(s.guidance_from * s.steps), round(s.guidance_until * s.steps)) if s.guidance else range(0)
    running, out = s.candidates, []
    for begin, end in pairwise(sorted({0, guided.start, guided.stop, *keep, s.steps})):
        out.append(Span(range(begin, end), begin in guided, running, keep.get(end, running)))
        running = out[-1].keep
    return out


class Candidates:
    """The codes of all candidates, which grow window by window; their scores; and which candidates still run."""

    def __init__(self, context: GenerationContext, known: Int32Array | None = None) -> None:
        """`known` are tokens [K, T] of an earlier take, with the mask token where they are to be filled."""
        self.context, self.config, self.sampling = context, context.config, context.sampling
        s = self.sampling
        self.running = list(range(s.candidates))
        begin = np.zeros((self.config.n_codebooks, 0), np.int32) if known is None else known
        self.chains = [begin for _ in self.running]  # replaced, never written to
        self.confidence = [
            np.full(begin.shape[1], np.nan, np.float32) for _ in self.running
        ]  # [T], runtime.edit.activity
        self.scores = np.zeros(s.candidates)  # sum of SCAV distances over windows; nan if dropped
        self.dropped: list[DroppedCandidate] = []  # in the order in which they were dropped
        self._plan = UnmaskSchedule(self.config.mask_token, s.steps, s.diversity, s.schedule)
        self._largest = s.candidates  # largest batch that the engines can hold, as far as is known
        self._done = 0.0  # cost of what is done in this window, in the unit of `cost`
        self._bounds: dict[tuple[int, bool], Bound] = {}  # for this window, by batch size and whether guided

    def cost(self) -> float:
        """The cost of decoding the next window, counted in steps of one candidate: see runtime.context."""
        running, cost = len(self.running), 0.0
        for span in spans(self.sampling):
            cost += len(span.steps) * min(span.candidates, running)
            if span.keep < running:
                cost += SCORE * running
                running = span.keep
        return cost + (SCORE * running if self.sampling.candidates > 1 else 0)

    def extend(self, scene: Scene) -> None:
        """Decode a window for all candidates that still run, and score them if there is a choice.

        A budget drops candidates in the first window only. The rest are ranked by their distances in all windows.
        """
        begin, end = scene.window.start, scene.window.start + scene.window.length
        rows = {i: self._begin(scene.window, i) for i in self.running}
        self._bounds.clear()
        self._done = 0.0
        for span in spans(self.sampling):
            self._steps(scene, span, rows)
            if span.keep < len(self.running):
                self._drop(scene, span, rows)
        for i in self.running:
            chain = self.chains[i]
            self.chains[i] = np.concatenate([chain[:, :begin], rows[i].codes[0], chain[:, end:]], axis=1)
            self.confidence[i] = joined_confidence(self.confidence[i], begin, rows[i].logp[0])
            if self.sampling.candidates > 1:
                self.scores[i] += self._distance(scene, rows[i].codes[0])

    def order(self) -> Array:
        """The candidates that ran to the end, the best first. Equals keep their order."""
        running = np.array(self.running)
        return running[np.argsort(self.scores[running], kind="stable")]

    def _begin(self, window: Window, candidate: int) -> DecodeState:
        codes = np.full((1, self.config.n_codebooks, window.length), self.config.mask_token, np.int32)
        known = self.chains[candidate][:, window.start : window.start + window.length]
        codes[0, :, : known.shape[1]] = known
        return DecodeState.begin(codes, self.config.mask_token)

    # ------------------------------------------------------------ steps
    def _steps(self, scene: Scene, span: Span, rows: dict[int, DecodeState]) -> None:
        """Take a span of steps with all candidates that still run, in as few batches as memory allows."""
        waiting = list(self.running)
        while waiting:
            batch = waiting[: min(self._batch_size(scene.window.length), self._largest)]
            joined = DecodeState.join([rows[i] for i in batch])
            try:
                self._advance(scene, span, batch, joined)
            except EngineError as error:  # `rows` have not changed since before the span
                if len(batch) == 1:
                    raise
                self._largest = len(batch) // 2
                self._bounds.clear()  # they hold memory, too
                self.context.warnings.append(
                    f"the engines failed with {len(batch)} candidates at once; smaller batches were used: {error}"
                )
                continue
            rows.update((i, joined[n]) for n, i in enumerate(batch))
            self._done += len(batch) * len(span.steps)
            del waiting[: len(batch)]

    def _batch_size(self, length: int) -> int:
        """Candidates in one batch. The same on every machine, so that the bytes are the same, too."""
        c = self.config
        rows = 2 if self.sampling.guidance else 1
        logits = 3 * c.n_codebooks * c.codebook_size  # logits, exponentials, cumulative sums
        per_token = 4 * (logits + rows * (16 * c.hidden_size + 2 * c.n_heads * length))
        return max(1, STEP_MEMORY // (per_token * length))

    def _bind(self, scene: Scene, size: int, guided: bool) -> Bound:
        """`step` with the inputs that stay the same in this window. All batches of one size share it."""
        if (size, guided) not in self._bounds:
            feeds = dict(scene.feeds if guided else conditional_only(scene.feeds))
            feeds["guidance"] = np.array(self.sampling.guidance, np.float32)
            if self.context.bundle.draws_all_positions:
                feeds["index"] = all_positions((size, self.config.n_codebooks, scene.window.length))
            self._bounds[size, guided] = self.context.bundle["step"].bind(feeds)
        return self._bounds[size, guided]

    def _advance(self, scene: Scene, span: Span, batch: list[int], rows: DecodeState) -> None:
        s, window = self.sampling, scene.window
        everywhere = self.context.bundle.draws_all_positions

        def step(codes: Int32Array, u: FloatArray) -> tuple[Int32Array, FloatArray]:
            if everywhere:
                out = self._draw(self._bind(scene, len(batch), span.guided), {"codes": codes, "u": u})
                return out["tokens"], out["logp"]
            # candidates that are alike, as all are before their first step, are one row with the draws of all
            alike = (codes == codes[:1]).all()
            seen = codes[:1] if alike else codes
            index = positions(seen == self.config.mask_token)
            draws = np.take_along_axis(u, index, axis=-1)  # [B, K, P]
            given = {"codes": seen, "index": index, "u": draws}
            if alike:
                given |= {"index": np.tile(index, len(batch)), "u": _side_by_side(draws)}
            out = self._draw(self._bind(scene, len(seen), span.guided), given)
            tokens, logp = codes.copy(), np.zeros(codes.shape, np.float32)
            np.put_along_axis(tokens, index, _rows(out["tokens"], draws.shape), axis=-1)
            np.put_along_axis(logp, index, _rows(out["logp"], draws.shape), axis=-1)
            return tokens, logp

        def noise(n: int) -> tuple[FloatArray, FloatArray]:
            def draw(stream: int) -> FloatArray:
                shape = rows.codes.shape[1:]
                return np.stack([uniforms(s.seed, i, window.number, n, stream, shape) for i in batch])

            return draw(TOKENS), draw(CONFIDENCE)

        def on_step(n: int) -> None:
            self.context.work.decoding_done(self._done + len(batch) * (n + 1 - span.steps.start))
            self.context.report_progress("sample", window.number, n + 1)

        with self.context.timer("sample"):  # the engine and the work on the host
            advance(rows, step, noise, self._plan, span.steps, on_step)

    def _draw(self, bound: Bound, varying: Feeds) -> Feeds:
        """Run `step`. Raises BackendUnavailable if it computed NaN or infinity: the tokens alone would not show it."""
        with self.context.timer("step"):
            out = bound.run(varying)
        if not np.isfinite(out["logp"]).all():
            step = self.context.bundle["step"]
            raise BackendUnavailable(
                f"{step.backend} returned log-probabilities that are not finite (step in {step.precision}); "
                f"use another --precision or --backend, and check the bundle with {own_command('doctor')}"
            )
        return out

    # ------------------------------------------------------------ ranking
    def _drop(self, scene: Scene, span: Span, rows: dict[int, DecodeState]) -> None:
        """Keep the candidates whose previews are nearest to the picture."""
        previews = {i: self._distance(scene, rows[i].preview(self.config.mask_token)[0]) for i in self.running}
        order = np.argsort([previews[i] for i in self.running], kind="stable")
        kept = sorted(self.running[n] for n in order[: span.keep])
        for i in set(self.running) - set(kept):
            self.scores[i] = np.nan
        self.dropped += [
            DroppedCandidate(i, span.steps.stop, float(d) if np.isfinite(d) else None)
            for i, d in previews.items()
            if i not in kept
        ]
        self.running = kept

    def _distance(self, scene: Scene, codes: Int32Array) -> float:
        """SCAV distance between the sound of codes [K, T] and this window's picture."""
        window, steps = scene.window.number, self.sampling.steps
        self.context.report_progress("select", window, steps)
        audio = self.context.sound(codes, window)
        with self.context.timer("select"):
            audio = resample(audio, self.config.sample_rate, self.config.audio_rate)
            distance = scav_distance(self.context.bundle, scene.frame_features, audio)
        self._done += SCORE
        self.context.work.decoding_done(self._done)
        return distance


def _side_by_side(rows: Array) -> Array:
    """[B, K, P] as one row [1, K, B * P]."""
    return np.ascontiguousarray(rows.transpose(1, 0, 2)).reshape(1, rows.shape[1], -1)


def _rows(drawn: Array, shape: tuple[int, ...]) -> Array:
    """What a step drew, as `shape` [B, K, P]: undoes `_side_by_side`."""
    batch, books, count = shape
    return drawn if len(drawn) == batch else drawn.reshape(books, batch, count).transpose(1, 0, 2)


def joined_confidence(confidence: FloatArray, begin: int, logp: FloatArray) -> FloatArray:
    """`confidence` [T] with that of a window from token `begin` on: means of logp [K, t] over the tokens drawn."""
    end, drawn = begin + logp.shape[1], np.isfinite(logp)
    count = drawn.sum(axis=0)
    means = np.where(drawn, logp, 0).sum(axis=0) / np.maximum(count, 1)
    out = np.pad(confidence, (0, max(0, end - len(confidence))), constant_values=np.nan)
    out[begin:end] = np.where(count > 0, means, out[begin:end])
    return out


def scav_distance(bundle: Bundle, frame_features: FloatArray, audio: FloatArray) -> float:
    """The SCAV distance (arXiv 2407.05782), by which MaskVAT selects candidates (paper, section 3.2.4).

    It is the mean squared difference between the embeddings of frame features [1, N, Df] and audio [L] at
    `config.audio_rate`. Compare it only between candidates of the same video. Sounds too short for one step of the
    audio encoder are padded.
    """
    shortest = 2 * bundle.config.audio_stride  # one step and the frames' overhang
    audio = np.pad(audio, (0, max(0, shortest - len(audio)))).astype(np.float32, copy=False)
    (audio_features,) = bundle.run("audio_encoder", audio=audio[None])
    (sound,) = bundle.run("scav_audio", audio_features=audio_features)  # [1, A, 8, H]
    matrix = interpolation_matrix(sound.shape[1], frame_features.shape[1])
    (picture,) = bundle.run("scav_video", frame_features=frame_features, interpolation=matrix)  # [1, A, H]
    return float(np.mean((picture[:, :, None].astype(np.float64) - sound) ** 2))
