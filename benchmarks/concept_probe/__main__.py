"""`python -m benchmarks.concept_probe VIDEOS --backgrounds SIMULATED`: which frame features teach concepts best?

A probe (a small classifier) learns concepts from made-up frame features. It is scored on real clips: the 31 of those
given whose names have the smallest SHA-256 digests. The others are kept for reports. The kinds of features ("routes"):

  a        square root of the probabilities of ImageNet classes
  a_warm   the same at temperature 2
  b        square root of the probabilities of concepts, and of "none of them"
  c        the encoder's 1,280 numbers

They are compared clip by clip, also with a plain rule that sums the class probabilities of each concept. Values are
means over clips with a bootstrap 95 % interval. Quantiles of made-up features are printed beside those of real ones.
The last line is one JSON object.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.report import command_parser, find_videos, finish, make_result, run_command, table
from runtime.errors import OptionError
from train.evaluate.bootstrap import format_summary, summarise
from train.extras import requires_extra
from train.synthetic.concepts.compose import answer, draw_spans, looks
from train.synthetic.concepts.features import ClassifierHead, FeatureMaker, Floats
from train.synthetic.concepts.table import Concept, membership, read_table

with requires_extra("bench", __name__):
    import torch

    from benchmarks.concept_probe.probe import ROUTES, RealVideo, fit, make_examples, plain_rule, score
    from benchmarks.concept_probe.real import choosing_videos, pooled_features, read_encoder, read_truth
    from train.models.loading import WeightsError

SEQUENCES, FRAMES = 100, 40  # made-up sequences whose quantiles are compared with real ones
HIDDEN = (0, 256)  # 0: a linear probe
Scores = dict[str, np.ndarray]


def read_videos(args: argparse.Namespace, concepts: list[Concept]) -> tuple[list[RealVideo], list[Floats], Any]:
    """The real clips to choose with, the backgrounds, and the classifier."""
    encoder, head = read_encoder(args.weights)
    truth = read_truth(concepts)
    paths = choosing_videos(video for folder in args.videos for video in find_videos(folder))
    unknown = [path.name for path in paths if path.name not in truth]
    if unknown:
        raise OptionError(f"{len(unknown)} clips have no answer in truth.csv: {', '.join(unknown[:3])}; give all clips")
    videos = [RealVideo(p.name, pooled_features(p, encoder, args.cache), truth[p.name]) for p in paths]
    simulated = [video for folder in args.backgrounds for video in find_videos(folder)]
    return videos, [pooled_features(video, encoder, args.cache) for video in simulated], head


def compare_looks(maker: FeatureMaker, head: ClassifierHead, videos: list[RealVideo], listed: Any) -> dict[str, Any]:
    """Quantiles of real and made-up sequences and of the backgrounds, and a table of them."""
    rng = np.random.default_rng(0)
    count = len(maker.table)
    made = [maker.pooled(draw_spans(count, FRAMES, rng), rng) for _ in range(SEQUENCES)]
    sets = {"real": [video.pooled for video in videos], "made_up": made, "simulated": maker.backgrounds}
    found = {name: looks([head.probabilities(x) for x in pooled], listed) for name, pooled in sets.items()}
    rows = [[key, *(" ".join(f"{q:.2f}" for q in found[name][key]) for name in found)] for key in found["real"]]
    print(table(["quantiles 10 25 50 75 90 %", *found], rows), flush=True)
    return found


def score_routes(args: argparse.Namespace, maker: FeatureMaker, videos: list[RealVideo]) -> dict[str, Scores]:
    """Name of the probe -> its scores per clip, the mean over seeds."""
    head, matrix, count = maker.head, membership(maker.table), len(maker.table)

    def draw(rng: np.random.Generator) -> Any:
        span = draw_spans(count, 1, rng)[0]
        return span, answer(span, count)

    scores = {"plain": [score(plain_rule(head, matrix), videos)]}
    for seed in range(args.seeds):
        examples = make_examples(maker, draw, args.examples, seed)
        probabilities = head.probabilities(examples.pooled)
        for route, features in ROUTES.items():
            inputs = features(examples.pooled, probabilities, matrix)
            for hidden in HIDDEN:
                probe = fit(inputs, examples.answers, hidden, args.steps, seed)
                found = score(lambda x, f=features, p=probe: p(f(x, head.probabilities(x), matrix)), videos)
                name = f"{route}_{'linear' if hidden == 0 else 'layers'}"
                scores.setdefault(name, []).append(found)
                print(
                    f"seed {seed} {name:14} first {found['first'].mean():.3f} log {found['log'].mean():.3f}", flush=True
                )
    return {name: {key: np.mean([f[key] for f in found], 0) for key in found[0]} for name, found in scores.items()}


def summary(scores: dict[str, Scores]) -> dict[str, Any]:
    """Means with intervals per probe, and differences of every probe to the plain rule and to route a's."""
    means = {name: {key: summarise(values) for key, values in found.items()} for name, found in scores.items()}
    pairs = {}
    for base in ("plain", "a_linear", "a_layers"):
        for name in scores:
            if name not in (base, "plain") and (base == "plain" or name.endswith(base[1:])):
                differences = {key: scores[name][key] - scores[base][key] for key in ("first", "five", "log")}
                pairs[f"{name} - {base}"] = {key: summarise(values) for key, values in differences.items()}
    return {"probes": means, "pairs": pairs}


def print_summary(found: dict[str, Any]) -> None:
    keys = ("first", "five", "log")
    for part in ("probes", "pairs"):
        extra = ("nothing", "nothing_unknown") if part == "probes" else ()
        rows = [[name, *(format_summary(row[key]) for key in (*keys, *extra))] for name, row in found[part].items()]
        print("\n" + table([part, *keys, *extra], rows))


def run(args: argparse.Namespace) -> None:
    if min(args.examples, args.steps, args.seeds) < 1:
        raise OptionError("--examples, --steps and --seeds must be 1 or more")
    torch.set_num_threads(1)
    concepts = read_table(args.table)
    videos, backgrounds, head = read_videos(args, concepts)
    maker = FeatureMaker(concepts, head, backgrounds)
    quantiles = compare_looks(maker, head, videos, membership(concepts).any(0))
    scores = score_routes(args, maker, videos)
    values: dict[str, Any] = {name: getattr(args, name) for name in ("examples", "steps", "seeds")}
    values |= {"concepts": len(concepts), "backgrounds": len(backgrounds), "settings": asdict(maker.settings)}
    values |= {"clips": [video.name for video in videos], "quantiles": quantiles, "summary": summary(scores)}
    values["scores"] = {name: {key: x.round(4).tolist() for key, x in found.items()} for name, found in scores.items()}
    print_summary(values["summary"])
    finish(make_result("concept_probe", values), args.out)


def main(argv: Sequence[str] | None = None) -> int:
    parser = command_parser("benchmarks.concept_probe", __doc__)
    add = parser.add_argument
    add("videos", type=Path, nargs="+", help="folders of the real development clips")
    add("--backgrounds", type=Path, action="append", required=True, help="folder of simulated videos; may be repeated")
    add("--table", type=Path, help="concept table (default: the project's own)")
    add("--weights", type=Path, help="mobilenet_v2-b0353104.pth (default: from its installed package)")
    add("--examples", type=int, default=16000, help="made-up frames per seed (default: 16000)")
    add("--steps", type=int, default=1500, help="training steps of a probe (default: 1500)")
    add("--seeds", type=int, default=2, help="probes per route, with different examples (default: 2)")
    add("--cache", type=Path, help="folder that keeps the features of the clips, as NAME.npy")
    add("--out", type=Path, help="also write the JSON to this file")
    return run_command(run, parser.parse_args(argv), WeightsError)


if __name__ == "__main__":
    sys.exit(main())
