"""`python -m runtime.info BUNDLE`: show what a bundle contains."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from engines.backends import BACKENDS
from engines.manifest import MANIFEST, MINI, Manifest
from engines.words.vocabulary import Vocabulary
from runtime.commands.crash_guard import run_guarded
from runtime.commands.status import run_command


def describe(folder: Path, manifest: Manifest) -> str:
    """Describe a bundle on one page, for people."""
    c = manifest.config
    lines = [
        f"{manifest.name}: MaskVAT {c.design}, width {c.hidden_size}, {c.n_blocks} blocks, {c.n_heads} heads",
        f"{c.sample_rate} Hz, hop {c.hop_length}, {c.n_codebooks} codebooks of {c.codebook_size}, "
        f"windows of {c.window_seconds} s overlapping by {c.overlap_seconds} s",
        f"contract {manifest.contract_version}; built with "
        + ", ".join(f"{k} {v}" for k, v in manifest.built_with.items() if not isinstance(v, dict)),
        "",
        f"{'file':28} {'graph':16} {'precision':10} {'MB':>7}",
    ]
    for name, entry in manifest.files.items():
        lines.append(f"{name:28} {entry.graph:16} {entry.precision:10} {entry.bytes / 1e6:7.2f}")
    text = f"; {manifest.tokeniser} for free text" if manifest.tokeniser else ""
    lines += ["", f"words: {manifest.vocabulary} (--words lists them){text}"]
    lines += ["", "precisions of step to choose from, the preferred one first"]
    lines += [f"  {name}: {', '.join(b.choices(folder, manifest)) or 'none'}" for name, b in BACKENDS.items()]
    lines += ["", "parity"]
    lines += [f"  {graph}: {json.dumps(values)}" for graph, values in manifest.parity.items()]
    lines += ["", "weights"]
    for w in manifest.weights:
        trained = "" if w.trained else " (UNTRAINED)"
        one_pass = f"; guidance {w.distilled_guidance:g} in one pass" if w.distilled_guidance else ""
        lines.append(f"  {w.role}: {w.name}{trained}{one_pass}; {w.licence}; data: {w.data_licence}; {w.origin}")
    return "\n".join(lines)


def get_info_parser(prog: str = "python -m runtime.info") -> argparse.ArgumentParser:
    """The command's parser."""
    parser = argparse.ArgumentParser(prog=prog, description="Show what a bundle contains.")
    parser.add_argument(
        "bundle", type=Path, nargs="?", metavar="BUNDLE", default=MINI, help="its folder (default: the shipped bundle)"
    )
    parser.add_argument("--json", action="store_true", help="print the manifest unchanged")
    parser.add_argument("--words", action="store_true", help="print the words of the vocabulary, one a line")
    return parser


def main(argv: Sequence[str] | None = None, prog: str = "python -m runtime.info") -> int:
    args = get_info_parser(prog).parse_args(argv)

    def show() -> None:
        manifest = Manifest.load(args.bundle)
        vocabulary = Vocabulary.load(args.bundle / manifest.vocabulary, manifest.config)
        if args.words:
            print("\n".join(vocabulary.words) or "the vocabulary has no words")
        elif args.json:
            print((args.bundle / MANIFEST).read_text(encoding="utf-8"))
        else:
            print(describe(args.bundle, manifest))

    return run_command(show, debug=False)


if __name__ == "__main__":
    sys.exit(run_guarded(main, debug=False))
