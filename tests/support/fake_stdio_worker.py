"""A worker that speaks the protocol of `maskvat stdio` and makes no sound. It imports nothing of the project.

The seed of a request says what it does; see BEHAVIOUR. Every request must match the protocol's schema.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

BEHAVIOUR = {"crash": 901, "hang": 902, "error": 903, "slow": 904, "nonsense": 905, "deaf": 906, "brief": 907,
    "large": 908, "published": 909, "killed late": 910, "half published": 911}  # fmt: skip
BROKEN = ("card 8", "card 9")
SCHEMA = Path(__file__).resolve().parents[2] / "runtime" / "commands" / "stdio" / "schema.json"
cancelled: set[object] = set()
arrived: list[dict] = []
news = threading.Condition()


def send(event: str, **values: object) -> None:
    sys.stdout.write(json.dumps({"event": event} | values) + "\n")
    sys.stdout.flush()


def listen() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        if os.environ.get("FAKE_CHECK"):
            import jsonschema

            schema = {"$defs": json.loads(SCHEMA.read_text())["$defs"], "$ref": "#/$defs/request"}
            try:
                jsonschema.Draft202012Validator(schema).validate(request)
            except jsonschema.ValidationError as error:
                send("error", id=request.get("id"), code="bad_request", message=error.message)
                continue
        if request["method"] == "cancel":
            cancelled.add(request["target"])
            send("done", id=request["id"], result={"cancelled": True})
        with news:
            arrived.append(request)
            news.notify()
    with news:
        arrived.append({"method": "close", "id": 0})
        news.notify()


def backend() -> str:
    """With --cards, the card that it may use."""
    return f"card {os.environ['CUDA_VISIBLE_DEVICES']}" if "--cards" in sys.argv else "cpu"


def file_names(options: dict, output: str) -> list[str]:
    """One file for each that is asked for; the sounds first."""
    names = [output]
    for n in range(2, int(options.get("takes", 1)) + 1):
        names.append(output.replace(".wav", f".take{n}.wav"))
    names += [options[name] for name in ("mux", "report", "timeline") if name in options]
    names.append(options["save"])
    for n in range(2, int(options.get("takes", 1)) + 1):
        names.append(options["save"].replace(".npz", f".take{n}.npz"))
    return names


def write_files(names: list[str], request: dict, report: dict) -> None:
    """Small files. As with a real worker, only report and timeline hold paths; the others have the video's name."""
    options = request["options"]
    begun = Path(options.get("from", "none"))
    for name in names:
        content = {"video": request["name"], "sound": "sound.wav", "from": "/".join(begun.parts[-3:])}
        if name == options.get("timeline"):
            content = {"video": request["video"], "sound": request["output"], "name": Path(request["video"]).name}
        text = json.dumps(report if name == options["report"] else content)
        if name.endswith((".mlt", ".xml", ".fcpxml")):
            text = f"<a>{''.join(f'<b>{value}</b>' for value in content.values())}</a>"
        Path(name).write_text(text)


def generate(request: dict) -> None:
    number, options = request["id"], request.get("options", {})
    kind = {seed: name for name, seed in BEHAVIOUR.items()}.get(options.get("seed"))
    send("started", id=number)
    steps = {"slow": 600, "deaf": 600, "brief": 20}.get(kind, 3)
    for step in range(1, steps + 1):
        fraction = step / steps
        send("progress", id=number, stage="sample", window=0, step=step, steps=steps, fraction=fraction)
        if kind == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "nonsense":
            sys.stdout.write("this is not JSON\n")
            sys.stdout.flush()
        if kind in ("hang", "nonsense"):
            time.sleep(600)
        if kind in ("slow", "deaf", "brief"):
            time.sleep(0.05)
        if number in cancelled and kind != "deaf":
            send("error", id=number, code="cancelled", message="generation was cancelled")
            return
    if kind == "error":
        send("error", id=number, code="media_error", message=f"{request['video']} is not a video")
        return
    names = file_names(options, request["output"])
    takes = [{"file": n, "candidate": i, "score": None} for i, n in enumerate(x for x in names if x.endswith(".wav"))]
    report = {
        "outputs": names, "takes": takes, "samples": 44100, "sample_rate": 44100, "bundle": "fake",
        "backend": backend(),
        "clip": request["name"], "warnings": [f"{request['video']}: one damaged frame skipped"],
        "total_seconds": 0.1, "seconds": {"video": 0.05, "sample": 0.05},
    }  # fmt: skip
    write_files(names, request, report)
    end_late(kind, names, number)
    send("done", id=number, result=report)


def end_late(kind: str | None, names: list[str], number: object) -> None:
    """What may happen between the last file and the answer."""
    if kind == "large":
        os.truncate(names[0], 10**10)  # it takes no room on the disk
    if kind == "half published":
        os.unlink(names[-1])
    if kind == "published":
        send("error", id=number, code="crashed", message="it crashed", fatal=True, published=True)
        os._exit(1)
    if kind in ("killed late", "half published"):
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    if "--no-start" in sys.argv:
        sys.exit("error: it does not start")
    send("hello", protocol=1, version="0", bundle={"name": "fake", "contract": 3}, methods=["load"], max_line=1 << 20)
    threading.Thread(target=listen, daemon=True).start()
    while True:
        with news:
            while not arrived:
                news.wait()
            request = arrived.pop(0)
        if request["method"] == "load":
            if "--no-bundle" in sys.argv:
                send("error", id=request["id"], code="manifest_error", message="no bundle in nowhere")
                continue
            if backend() in BROKEN:
                send("error", id=request["id"], code="backend_unavailable", message=f"{backend()} is broken")
                continue
            result = {"bundle": {"name": "fake", "contract": 3}, "backend": backend(), "precision": "fp32"}
            send("done", id=request["id"], result=result | {"warnings": [], "seconds": 0.0})
        elif request["method"] == "generate":
            generate(request)
        elif request["method"] == "close":
            send("done", id=request["id"], result={})
            return


if __name__ == "__main__":
    main()
