"""Takes on disk: a NumPy archive (.npz) without pickle, with the tokens, the sound, and how they were made."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, fields
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

from runtime.audio import PathLike, replacing
from runtime.deliver.loudness import Loudness
from runtime.edit.fingerprint import Fingerprint
from runtime.edit.timecode import Span
from runtime.edit.words import PlacedPrompt, PlacedWords
from runtime.errors import MediaError, OptionError
from runtime.sampling import SamplingConfig
from runtime.take import DroppedCandidate, EngineFile, Report, Take

FORMAT = 1  # grows only when an older program would misread a take
# Until then, facts and arrays may be added, each with a default that is what was done before. A reader leaves out those
# that it does not know. Those of sampling and words decide how a take is changed: there an unknown one is an error.
ARRAYS = {"codes": "<u2", "audio": "<f4", "facts": "u1", "activity": "<f4"}
OPTIONAL = {"activity"}
Made = TypeVar("Made")


def check_take_file(path: PathLike) -> None:
    """Raise OptionError if a take cannot get this name."""
    if Path(path).suffix.lower() != ".npz":
        raise OptionError(f"cannot write the take {path}; give a name that ends in .npz")


def save_take(take: Take, path: PathLike) -> None:
    """Write a take, whole or not at all. Raises OptionError for another suffix, MediaError if it fails."""
    check_take_file(path)
    facts = {
        "maskvat_take": FORMAT,
        "contract": take.contract,
        "sample_rate": take.sample_rate,
        "candidate": take.candidate,
        "score": take.score,
        "duration": str(take.duration),
        "start": str(take.start),
        "span": None if take.span is None else span_values(take.span),
        "fingerprint": None if take.fingerprint is None else asdict(take.fingerprint),
        "report": take.report.to_dict(),
    }
    text = np.frombuffer(json.dumps(facts, allow_nan=False).encode(), np.uint8)
    arrays: dict[str, NDArray[Any]] = {"codes": take.codes, "audio": take.audio, "facts": text}
    if take.activity is not None:
        arrays["activity"] = take.activity
    with replacing(path) as part, open(part, "xb") as file:
        np.savez(file, **{name: array.astype(ARRAYS[name]) for name, array in arrays.items()})  # type: ignore[arg-type]


def span_values(span: Span) -> dict[str, Any]:
    """A span as JSON values; fractions are text."""
    rate = None if span.rate is None else str(span.rate)
    return {"begin": str(span.begin), "end": str(span.end), "rate": rate, "frames": span.frames}


def load_take(path: PathLike) -> Take:
    """Read a take. Raises MediaError if the file cannot be read, is damaged, or is no take."""
    if not os.path.isfile(path):
        raise MediaError(f"{path} is not a file; give a take that --save wrote")
    try:
        arrays = _read_arrays(path)
    except OSError as error:
        raise MediaError(f"cannot read {path}: {error.strerror or error}; check its permissions") from error
    except (BadZipFile, ValueError, KeyError, MemoryError, EOFError, NotImplementedError, RuntimeError) as error:
        raise MediaError(f"{path} is not a take, or it is damaged ({error}); give a file that --save wrote") from error
    try:
        facts = json.loads(arrays["facts"].tobytes().decode())
        form = facts["maskvat_take"]
    except (ValueError, KeyError, TypeError) as error:
        raise MediaError(f"{path} is not a take: its description cannot be read; give one that --save wrote") from error
    if form != FORMAT:
        raise MediaError(f"{path} is a take of format {form}, and this program reads format {FORMAT}; update it")
    try:
        _check_age(path, facts["report"])
        take = _take(facts, arrays)
        _check(take)
    except (ValueError, KeyError, TypeError, OptionError, ZeroDivisionError, OverflowError, AttributeError) as error:
        raise MediaError(f"{path} is damaged: its description contradicts itself ({error}); use a copy") from error
    return take


def _read_arrays(path: PathLike) -> dict[str, NDArray[Any]]:
    """The arrays by name. What is compressed is refused: it could be far larger than the file."""
    with ZipFile(path) as archive:
        members = {entry.filename: entry for entry in archive.infolist()}
        names = {name.removesuffix(".npy") for name in members}
        if not set(ARRAYS) - OPTIONAL <= names:
            raise ValueError("it holds something else")
        if any(entry.compress_type != ZIP_STORED for entry in members.values()):
            raise ValueError("it is compressed")
        if archive.testzip() is not None:
            raise ValueError("a checksum is wrong")
    with np.load(path, allow_pickle=False) as arrays:
        found = {name: arrays[name] for name in ARRAYS if name in names}  # the bytes of a member that is no array
    for name, array in found.items():
        if not isinstance(array, np.ndarray) or array.dtype != ARRAYS[name]:
            raise ValueError(f"its {name} have another type")
    return found


def _take(facts: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Take:
    span, made = facts["span"], facts["fingerprint"]
    return Take(
        audio=arrays["audio"].astype(np.float32, copy=False),
        sample_rate=int(facts["sample_rate"]),
        candidate=int(facts["candidate"]),
        score=None if facts["score"] is None else float(facts["score"]),
        codes=arrays["codes"].astype(np.int32),
        duration=Fraction(facts["duration"]),
        start=Fraction(facts["start"]),
        report=_report(facts["report"]),
        span=None if span is None else _span(span),
        fingerprint=None if made is None else Fingerprint(str(made["name"]), int(made["size"]), str(made["digest"])),
        contract=int(facts["contract"]),
        activity=arrays.get("activity"),
    )


def _span(values: dict[str, Any]) -> Span:
    rate = None if values["rate"] is None else Fraction(values["rate"])
    frames = None if values["frames"] is None else (int(values["frames"][0]), int(values["frames"][1]))
    return Span(Fraction(values["begin"]), Fraction(values["end"]), rate, frames)


def _check_age(path: PathLike, report: dict[str, Any]) -> None:
    """Raise MediaError if a newer program made the take, in a way that this one does not know."""
    words = report.get("words") or {"prompts": ()}
    unknown = dict(report["sampling"]).keys() - _names(SamplingConfig) | words.keys() - _names(PlacedWords)
    unknown |= {key for prompt in words["prompts"] for key in prompt.keys() - _names(PlacedPrompt)}
    if unknown:
        raise MediaError(
            f"{path} was made by version {report['version']} of the program, with options that this version does not "
            f"know: {', '.join(sorted(unknown))}; update it"
        )


def _names(kind: Any) -> set[str]:
    """The fields of a dataclass."""
    return {field.name for field in fields(kind)}


def _known(kind: Callable[..., Made], values: dict[str, Any]) -> Made:
    """A dataclass of the values that it knows. Raises TypeError if one without a default is missing."""
    return kind(**{name: values[name] for name in _names(kind) & values.keys()})


def _report(values: dict[str, Any]) -> Report:
    sampling = dict(values["sampling"])
    nested = {
        "sampling": SamplingConfig(**sampling | {"budget": tuple(sampling.get("budget", ()))}),
        "engines": {graph: _known(EngineFile, file) for graph, file in values["engines"].items()},
        "loudness": tuple(_known(Loudness, entry) for entry in values["loudness"]),
        "dropped": tuple(_known(DroppedCandidate, entry) for entry in values["dropped"]),
    }
    return _known(Report, values | nested)


def _check(take: Take) -> None:
    """Raise ValueError, or what a wrong fact raises, if the arrays do not fit each other and the facts."""
    PlacedWords.of_facts(take.report.words)
    if take.codes.ndim != 2 or take.audio.ndim != 1 or 0 in take.codes.shape:
        raise ValueError("an array has another shape")
    if take.activity is not None and (take.activity.ndim != 2 or len(take.activity) != 2):
        raise ValueError("its activity has another shape")
    if len(take.audio) != max(1, round(take.duration * take.sample_rate)):
        raise ValueError("the sound has another length")
    if not np.isfinite(take.audio).all() or np.abs(take.audio).max() > 1:
        raise ValueError("the sound has samples that are no samples")
