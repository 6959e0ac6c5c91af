"""A program that speaks the protocol of `maskvat stdio` for tests of plug-ins. It needs the standard library alone.

    python fake_stdio.py LOG [BEHAVIOUR] stdio

It writes each request to LOG, one a line. A generation writes the files that it was asked for, a few bytes each.
BEHAVIOUR: "hang" never answers a generation, "slow" waits until it is cancelled, "die" ends in it with a last word on
standard error, "refuse" answers it with an error, "broken" with engine_error, "future" has a protocol of tomorrow,
"noise" is another program.
"""

import json
import sys
from pathlib import Path
from typing import Any

HELLO = {"event": "hello", "protocol": 1, "version": "9.9", "bundle": {"name": "fake", "contract": 3}}
LOADED = {"bundle": HELLO["bundle"], "backend": "cpu", "precision": "int8", "warnings": [], "seconds": 0.1}
REPORT = {"samples": 1, "sample_rate": 44100, "warnings": [], "bundle": "fake", "backend": "cpu", "total_seconds": 0.1}


def say(**event: Any) -> None:
    print(json.dumps(event), flush=True)


def make(request: dict[str, Any]) -> dict[str, Any]:
    """Write the sounds, and return the report."""
    options, output = request["options"], Path(request["output"])
    names = [f"{output.stem}{f'.take{n}' if n > 1 else ''}" for n in range(1, options.get("takes", 1) + 1)]
    files = [output.with_name(name + suffix) for suffix in (output.suffix, ".npz") for name in names]
    for file in files:
        file.write_bytes(b"fake")
    takes = [{"file": str(files[n]), "candidate": n, "score": float(n)} for n in range(len(names))]
    sampling = {"seed": options.get("seed", 1)}
    return REPORT | {"outputs": [str(file) for file in files], "takes": takes, "sampling": sampling}


def generate(request: dict[str, Any], behaviour: str) -> None:
    number = request["id"]
    say(event="progress", id=number, stage="sample", window=0, step=1, steps=4, fraction=0.25)
    if behaviour == "die":
        print("Segmentation fault", file=sys.stderr, flush=True)
        sys.exit(3)
    elif behaviour == "refuse":
        say(event="error", id=number, code="media_error", message="shot.mp4 is damaged; give a whole video")
    elif behaviour == "broken":
        say(event="error", id=number, code="engine_error", message="the driver is gone")
    elif behaviour not in ("hang", "slow"):
        say(event="done", id=number, result=make(request))


def main(log: Path, behaviour: str) -> None:
    if behaviour == "noise":
        print("usage: another program", flush=True)
    else:
        say(
            **HELLO | {"methods": ["load", "generate"], "max_line": 1048576} | {"protocol": 1 + (behaviour == "future")}
        )
    for line in sys.stdin:
        request = json.loads(line)
        with log.open("a") as file:
            file.write(line)
        if request["method"] == "load":
            say(event="started", id=request["id"])
            say(event="done", id=request["id"], result=LOADED)
        elif request["method"] == "cancel" and behaviour != "hang":
            say(event="done", id=request["id"], result={"cancelled": True})
            say(event="error", id=request["target"], code="cancelled", message="generation was cancelled")
        elif request["method"] in ("generate", "redo"):
            generate(request, behaviour)
        elif request["method"] == "close":
            break


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 3 else "")
