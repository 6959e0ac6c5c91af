"""The last line of a campaign: one JSON object with the date and the machine."""

import json
import time
from pathlib import Path
from typing import Any

from benchmarks.common import machine


def finish(campaign: str, results: dict[str, Any], out: Path | None) -> None:
    """Print the results as one line of JSON, and write them to a file if one is given."""
    document = {"campaign": campaign, "date": time.strftime("%Y-%m-%d")} | results | {"machine": machine.facts()}
    print(json.dumps(document))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
