"""The list of licences: what is not known ends the build."""

import json
from pathlib import Path

import pytest

pytest.importorskip("license_expression", reason="license-expression is not installed")
from deploy import licences, sbom
from tests.support.fake_engines import rewrite_manifest

APP = {"type": "application", "name": "maskvat", "version": "0.1.0", "licenses": sbom.expression("Apache-2.0")}


def write(folder: Path, *components: dict) -> Path:
    path = folder / "sbom.json"
    path.write_text(json.dumps({"metadata": {"component": APP}, "components": list(components)}))
    return path


def component(licences: object) -> dict:
    return {"type": "library", "name": "thing", "version": "1", "licenses": licences}


@pytest.mark.parametrize(
    "licence",
    ["MIT", "BSD-3-Clause AND 0BSD", "LGPL-3.0-or-later OR GPL-2.0-or-later",
     "GPL-3.0-or-later WITH GCC-exception-3.1", "Debian main: /usr/share/doc/thing/copyright"],
)  # fmt: skip
def test_a_known_licence_passes(licence: str, tmp_path: Path) -> None:
    assert licences.objection(licence) == ""
    given = [{"license": {"name": licence}}] if licence.startswith("Debian") else sbom.expression(licence)
    out = tmp_path / "LICENCES.md"
    assert licences.main([str(write(tmp_path, component(given))), "-o", str(out)]) == 0
    assert f"| thing | 1 | library | {licence} |" in out.read_text()


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ([], "is not known"),
        ([{"license": {"name": "Our own terms"}}], "no SPDX expression"),
        ([{"license": {"id": "CC-BY-NC-4.0"}}], "CC-BY-NC-4.0 is not among"),
        (sbom.expression("MIT AND AGPL-3.0-only"), "AGPL-3.0-only is not among"),
        ([{"license": {"id": "MIT"}}, {"license": {"id": "SSPL-1.0"}}], "SSPL-1.0 is not among"),
        (sbom.expression("GPL-3.0-or-later WITH Classpath-exception-2.0"), "Classpath-exception-2.0 is not among"),
    ],
)
def test_an_unknown_licence_ends_the_build(
    given: list, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "LICENCES.md"
    assert licences.main([str(write(tmp_path, component(given))), "-o", str(out)]) == 1
    said = capsys.readouterr().err
    assert reason in said and "thing 1" in said and "known_licences.toml" in said and not out.exists()


def test_a_missing_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert licences.main([str(tmp_path / "none.json"), "-o", str(tmp_path / "x")]) == 1
    assert "make it with `python -m deploy.sbom`" in capsys.readouterr().err


def test_texts_are_given_once(tmp_path: Path) -> None:
    for name in ("a/LICENSE", "b/LICENSE.txt", "b/NOTICE"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("words" if "NOTICE" not in name else "other words")
    assert [text.split("\n")[1] for text in licences.texts([tmp_path])] == ["## a/LICENSE", "## b/NOTICE"]


# ---------------------------------------------------------------- what is found
def test_libraries_by_name(tmp_path: Path) -> None:
    files = ["libavcodec-5e6b81c2.so.62.28.102", "libpython3.11.so.1.0", "libgfortran-040039e1-0352e75f.so.5.0.0"]
    for name in [
        *files,
        "libstdc++.so.6",
        "libother.so.1",
        "VCRUNTIME140.dll",
        "thing.cpython-311-x86_64-linux-gnu.so",
    ]:
        (tmp_path / name).touch()
    found = {c["name"]: (c.get("version", ""), licences.licence_of(c)) for c in sbom.libraries(tmp_path)}
    assert found == {
        "VCRUNTIME": ("", ""),
        "libavcodec": ("62.28.102", "GPL-3.0-or-later"),
        "libgfortran": ("5.0.0", "GPL-3.0-or-later WITH GCC-exception-3.1"),
        "libother": ("1", ""),
        "libpython": ("1.0", "PSF-2.0"),
        "libstdc++": ("6", "GPL-3.0-or-later WITH GCC-exception-3.1"),
    }


STATUS = """Package: {name}
Status: {status}
Section: {section}
Architecture: amd64
Version: 1:2.0+b1

"""


@pytest.mark.parametrize(
    ("status", "section", "notice", "licence"),
    [
        ("install ok installed", "libs", True, "Debian main: /usr/share/doc/thing/copyright"),
        ("install ok installed", "libs", False, ""),
        ("install ok installed", "non-free/libs", True, ""),
        ("deinstall ok config-files", "libs", True, None),
    ],
)
def test_debian_packages(status: str, section: str, notice: bool, licence: str | None, tmp_path: Path) -> None:
    for folder in ("var/lib/dpkg", "usr/share/doc/thing"):
        (tmp_path / folder).mkdir(parents=True)
    text = STATUS.format(name="thing", status=status, section=section)
    (tmp_path / "var/lib/dpkg/status").write_text(text)
    if notice:
        (tmp_path / "usr/share/doc/thing/copyright").write_text("words")
    found = [(c["purl"], licences.licence_of(c)) for c in sbom.debian_packages(tmp_path)]
    assert found == ([] if licence is None else [("pkg:deb/debian/thing@1%3A2.0%2Bb1?arch=amd64", licence)])


def test_weights_of_the_shipped_bundle() -> None:
    """Their licences are known, too."""
    found = list(sbom.weights(sbom.MINI))
    assert len(found) >= 5 and not [c["name"] for c in found if licences.objection(licences.licence_of(c))]


def test_weights_under_other_terms(own_bundle: Path) -> None:
    rewrite_manifest(own_bundle, lambda manifest: manifest["weights"][0].update(licence="research only"))
    (first, *others) = [licences.objection(licences.licence_of(c)) for c in sbom.weights(own_bundle)]
    assert "research only" in first and not any(others)


def test_the_table_is_in_order() -> None:
    allowed = {*sbom.KNOWN["allowed"], *sbom.KNOWN["copyleft"]}
    tables = ("packages", "libraries", "weights")
    bad = {name: why for t in tables for name, words in sbom.KNOWN[t].items() if (why := licences.objection(words))}
    assert bad == {} and len(allowed) == len(sbom.KNOWN["allowed"]) + len(sbom.KNOWN["copyleft"])
