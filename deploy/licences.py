"""`python -m deploy.licences SBOM`: the list of licences of what is delivered. An unknown licence is an error.

`deploy/known_licences.toml` says which licences may be delivered. Needs the extra `sbom`.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from deploy.sbom import KNOWN, PYPROJECT
from engines.manifest import write_atomically
from runtime.commands.status import run_command
from runtime.errors import MediaError, OptionError

GPL = PYPROJECT.parent / "plugins" / "blender" / "LICENSE"  # the text of GPL-3.0
TEXTS = ("LICEN[CS]E*", "COPYING*", "NOTICE*", "ThirdPartyNotices*")  # names of files that licences ask to pass on
DEBIAN = "Debian main: /usr/share/doc/"  # the file lies in the image


def licence_of(component: dict[str, Any]) -> str:
    """A component's licence in SPDX words, or Debian's file; "" if it is not known."""
    entries = component.get("licenses", [])
    words = [e.get("expression") or e["license"].get("id") or e["license"].get("name", "") for e in entries]
    return words[0] if len(words) == 1 else " AND ".join(f"({word})" for word in words)


@cache
def spdx() -> Any:
    """Reads SPDX expressions; it takes a moment to make."""
    from license_expression import get_spdx_licensing

    return get_spdx_licensing()


def objection(licence: str) -> str:
    """Why a component with this licence may not be delivered; "" if it may."""
    from license_expression import ExpressionError

    if not licence:
        return "its licence is not known"
    if licence.startswith(DEBIAN):
        return ""
    allowed = {*KNOWN["allowed"], *KNOWN["copyleft"], *KNOWN["exceptions"]}
    try:
        parsed = spdx().parse(licence, validate=True)
    except ExpressionError as error:
        return f"{licence!r} is no SPDX expression: {error}"
    unknown = sorted({key for symbol in parsed.symbols for key in str(symbol).split(" WITH ")} - allowed)
    return f"{', '.join(unknown)} is not among the licences that may be delivered" if unknown else ""


def table(components: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Lines of Markdown. Raises OptionError, which names every component that may not be delivered."""
    bad = []
    yield "| what | version | kind | licence |\n|---|---|---|---|"
    for c in sorted(components, key=lambda c: (c["type"], c["name"].lower())):
        licence = licence_of(c)
        if reason := objection(licence):
            bad.append(f"{c['name']} {c.get('version', '')}: {reason}".replace(" :", ":"))
        yield f"| {c['name']} | {c.get('version', '')} | {c['type']} | {licence} |"
    if bad:
        known = "look each up and add it to deploy/known_licences.toml, or leave it out"
        raise OptionError(f"{len(bad)} components may not be delivered ({'; '.join(bad)}); {known}")


def texts(folders: Sequence[Path]) -> Iterator[str]:
    """The texts of licences that lie beside the packages in some folders, each once."""
    seen = set()
    for folder in folders:
        for path in sorted({p for pattern in TEXTS for p in folder.rglob(pattern) if p.is_file()}):
            text = path.read_text(encoding="utf-8", errors="replace").strip()
            if text and path.suffix != ".py" and text not in seen:
                seen.add(text)
                yield f"\n## {path.relative_to(folder).as_posix()}\n\n```\n{text}\n```"


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.licences", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("sbom", type=Path, help="file that `python -m deploy.sbom` wrote")
    parser.add_argument("--texts", type=Path, nargs="*", default=[], metavar="FOLDER",
        help="also give the texts of licences in these folders, and that of the GPL")  # fmt: skip
    parser.add_argument("-o", "--out", type=Path, required=True, help="file to write")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Write the list. Returns the exit status: 1, and no file, if a component may not be delivered."""
    args = get_parser().parse_args(argv)

    def run() -> None:
        try:
            document = json.loads(args.sbom.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise MediaError(f"{args.sbom} cannot be read: {error}; make it with `python -m deploy.sbom`") from error
        components = [document["metadata"]["component"], *document["components"]]
        lines = ["# Licences of what is in this delivery\n", *table(components), *texts(args.texts)]
        if args.texts:
            lines.append(f"\n## GPL-3.0\n\n```\n{GPL.read_text(encoding='utf-8').strip()}\n```")
        write_atomically(args.out, "\n".join(lines) + "\n")
        print(f"{args.out}: {len(components)} components, all with a known licence")

    return run_command(run, debug=False)


if __name__ == "__main__":
    sys.exit(main())
