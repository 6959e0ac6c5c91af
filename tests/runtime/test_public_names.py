"""The public surface of `runtime`: its names, its version, its errors' codes, and what takes and reports promise."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, asdict, fields, is_dataclass, replace
from fractions import Fraction
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType
from typing import get_args

import numpy as np
import pytest

import runtime
from runtime import OptionError, SamplingConfig, errors, version
from runtime.sampling import number, whole_number
from runtime.take import DroppedCandidate
from tests.support.paths import ROOT
from tests.support.takes import REPORT, make_take

SOUND = np.linspace(-1, 1, 44100, dtype=np.float32)


# ---------------------------------------------------------------- names
def test_all_lists_exactly_the_public_names() -> None:
    for name in runtime.__all__:
        getattr(runtime, name)
    public = {
        name
        for name, value in vars(runtime).items()
        if not name.startswith("_")
        and not isinstance(value, ModuleType)
        and getattr(value, "__module__", "") != "importlib"
    }
    assert set(runtime.__all__) == (public - {"TYPE_CHECKING", "Any"}) | {"__version__"}
    assert runtime.__all__ == sorted(runtime.__all__) and set(runtime.__all__) <= set(dir(runtime))
    assert set(errors.__all__) <= set(runtime.__all__)


def test_importing_runtime_imports_no_library() -> None:
    """The command must handle Ctrl-C before NumPy is imported."""
    code = (
        "import runtime, runtime.infer, sys; print([m for m in ('numpy', 'av', 'engines.base') if m in sys.modules]); "
    )
    code += "runtime.errors.MediaError; runtime.load; print(runtime.SamplingConfig.__module__)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.split("\n") == ["[]", "runtime.sampling", ""]


def test_star_import_gives_all_names() -> None:
    names: dict[str, object] = {}
    exec("from runtime import *", names)
    assert set(runtime.__all__) <= set(names)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'runtime' has no attribute 'lode'"):
        runtime.lode  # noqa: B018


def test_type_checkers_see_the_names() -> None:
    assert (ROOT / "runtime" / "py.typed").is_file()


# ---------------------------------------------------------------- version
def declared() -> str:
    return str(ast.literal_eval((ROOT / "pyproject.toml").read_text().split("\nversion = ")[1].splitlines()[0]))


def test_the_version_is_the_installed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    version.program_version.cache_clear()
    monkeypatch.setattr(version, "version", lambda name: f"7.0 of {name}")
    assert runtime.__version__ == "7.0 of maskvat"
    version.program_version.cache_clear()


def test_the_version_of_a_checkout_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    version.program_version.cache_clear()
    monkeypatch.setattr(version, "version", absent)
    assert runtime.__version__ == f"{declared()}+source"
    assert version.checkout_version(tmp_path / "absent.toml") == "unknown"
    version.program_version.cache_clear()


def test_importing_runtime_does_not_look_the_version_up() -> None:
    code = "import runtime; from runtime import version, Pipeline; "
    code += "assert version.program_version.cache_info().currsize == 0; print(runtime.__version__)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.startswith(declared())


# ---------------------------------------------------------------- errors
def subclasses(kind: type[Exception]) -> Iterator[type[Exception]]:
    yield kind
    for child in kind.__subclasses__():
        yield from subclasses(child)


def error_classes() -> list[type[Exception]]:
    for package in ("engines", "runtime"):
        for path in (ROOT / package).glob("*.py"):
            import_module(f"{package}.{path.stem}")
    return [c for c in subclasses(errors.MaskVATError) if c.__module__.split(".")[0] in ("engines", "runtime")]


def test_every_error_has_a_code_of_its_own() -> None:
    found = error_classes()
    # a class of a command, such as a request of stdio, may have the code of the class that it refines
    codes = [vars(c).get("code") for c in found if c.__name__ in errors.__all__ or "code" in vars(c)]
    assert {c.__name__ for c in found} >= set(errors.__all__)
    assert all(isinstance(code, str) and code.isidentifier() and code.islower() for code in codes), codes
    assert len(set(codes)) == len(codes)


def test_the_codes_are_stable_and_documented() -> None:
    codes = {name: getattr(errors, name).code for name in errors.__all__}
    assert codes == {
        "BackendUnavailable": "backend_unavailable",
        "Cancelled": "cancelled",
        "ContractError": "contract_error",
        "EngineError": "engine_error",
        "ManifestError": "manifest_error",
        "MaskVATError": "maskvat_error",
        "MediaError": "media_error",
        "OptionError": "option_error",
        "PipelineClosed": "pipeline_closed",
    }
    rows = [line.split()[:2] for line in str(errors.__doc__).splitlines() if line.startswith("    ")]
    assert {name: code for name, code in rows if name != "class"} == codes


def test_errors_are_imported_from_runtime_errors() -> None:
    """Outside of `engines` and its tests."""
    names, found = {c.__name__ for c in error_classes()}, []
    for path in (
        p for folder in ("runtime", "train", "export", "benchmarks", "tests") for p in (ROOT / folder).rglob("*.py")
    ):
        relative = path.relative_to(ROOT).as_posix()
        if relative == "runtime/errors.py" or relative.startswith("tests/engines/"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("engines"):
                found += [f"{relative}: {a.name} from {node.module}" for a in node.names if a.name in names]
    assert not found


# ---------------------------------------------------------------- NumPy's numbers
def test_numpy_numbers_become_plain_ones() -> None:
    config = SamplingConfig(
        steps=np.int64(8), guidance=np.float32(2.5), diversity=np.int16(4), seed=np.uint64(2**64 - 1),
        candidates=np.int32(5), takes=np.uint8(1), budget=(np.int64(3), 1), guidance_from=np.float64(0.25),
    )  # fmt: skip
    assert config == SamplingConfig(8, 2.5, 4.0, 2**64 - 1, 5, 1, "cosine", 0.25, 1.0, (3, 1))
    for field in fields(config):
        value = getattr(config, field.name)
        assert type(value) in (int, float, str, tuple)
    assert all(type(n) is int for n in config.budget)
    assert json.loads(json.dumps(asdict(config)))["seed"] == 2**64 - 1


@pytest.mark.parametrize(
    "value", [True, False, np.True_, np.False_, 1.0, np.float32(1), "1", None, [1], np.array([1, 2])]
)
def test_what_is_not_an_integer_is_refused(value: object) -> None:
    with pytest.raises(OptionError, match=r"steps is .*; it must be a whole number from 1 to 1024"):
        SamplingConfig(steps=value)
    with pytest.raises(OptionError, match="n is "):
        whole_number("n", value, 0, 9)


@pytest.mark.parametrize("value", [True, np.True_, "1", None, 1j, float("nan"), np.float32("inf")])
def test_what_is_not_a_number_is_refused(value: object) -> None:
    with pytest.raises(OptionError, match=r"x is .*; it must be a number from 0 to 9"):
        number("x", value, 0, 9)


@pytest.mark.parametrize("threads", [-1, 1025, 1.0, True])
def test_threads_are_checked_before_anything_is_opened(threads: object, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"threads is .*; it must be a whole number from 0 to 1024"):
        runtime.load(tmp_path, threads=threads)


# ---------------------------------------------------------------- takes and reports
def test_takes_compare_by_content() -> None:
    take = make_take(SOUND)
    same = make_take(SOUND.copy(), report=replace(REPORT, total_seconds=9.0))
    assert take == same and hash(take) == hash(same) and take in [same]
    quieter = make_take(SOUND / 2)
    others = [quieter, make_take(SOUND[:-1]), make_take(SOUND, np.ones((9, 87), np.int32))]
    others += [replace(take, **{k: v}) for k, v in [("candidate", 1), ("score", 0.5), ("start", Fraction(1, 3))]]
    for other in others:
        assert take != other
    assert [quieter, take].index(same) == 1 and len({take, same, quieter}) == 2
    assert take != "a take" and (take == 1) is False


def test_takes_and_reports_are_frozen() -> None:
    take = make_take(SOUND)
    for thing, name in ((take, "score"), (take.report, "warnings")):
        with pytest.raises(FrozenInstanceError):
            setattr(thing, name, None)


def test_a_report_as_plain_values() -> None:
    report = replace(REPORT, dropped=(DroppedCandidate(2, 8, None),), scores=(0.5, None))
    values = report.to_dict()
    assert is_dataclass(report) and list(values) == [f.name for f in fields(report)]
    assert values["engines"] == {"step": {"file": "step.onnx", "sha256": "0" * 64}}
    assert values["dropped"] == [{"candidate": 2, "steps": 8, "preview": None}] and values["scores"] == [0.5, None]
    assert values["sampling"]["budget"] == [] and values["warnings"] == []
    assert json.loads(json.dumps(values)) == values
    values["engines"]["step"]["file"] = "other"
    assert report.engines["step"].file == "step.onnx"


def test_a_report_has_the_keys_that_it_always_had() -> None:
    keys = "version clip bundle backend precision threads engines sampling windows samples sample_rate seconds calls "
    keys += "total_seconds loudness warnings scores ranking dropped range words edit"
    assert list(REPORT.to_dict()) == keys.split()


def test_the_stages_are_named() -> None:
    assert get_args(runtime.Stage) == ("video", "sample", "select", "codec")
