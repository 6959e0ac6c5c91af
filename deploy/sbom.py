"""`python -m deploy.sbom`: what is delivered, as a CycloneDX file.

The file lists Python packages (from `cyclonedx-py`), shared libraries, Debian packages and the bundle's weights, with
versions and licences. Needs the extra `sbom`.
"""

import argparse
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from engines.manifest import MINI, Manifest, write_atomically
from runtime.commands.status import run_command
from runtime.errors import MediaError, OptionError

Component = dict[str, Any]
KNOWN = tomllib.loads(Path(__file__).with_name("known_licences.toml").read_text(encoding="utf-8"))
ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = ROOT / "pyproject.toml"
HASH = re.compile(r"-[0-9a-f]{8}(?=-|$)")  # that repairing a wheel puts in the name of a library
LIBRARIES = ("lib*.so*", "*.dylib", "*.dll")  # of Linux, macOS, Windows
SPEC = "1.6"


def expression(words: str) -> list[Component]:
    """A licence as CycloneDX writes it."""
    return [{"expression": words}] if words else []


def python_packages(python: Path, without: Sequence[str]) -> Component:
    """The document of `cyclonedx-py` about an environment, less some packages. Raises OptionError."""
    command = [sys.executable, "-m", "cyclonedx_py", "environment", str(python), "--spec-version", SPEC]
    command += ["--pyproject", str(PYPROJECT), "--mc-type", "application", "--output-reproducible"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise OptionError(
            f"cyclonedx-py cannot read {python}: {done.stderr.strip()[-300:]}; is the extra `sbom` installed?"
        )
    document: Component = json.loads(done.stdout)
    document["components"] = kept = [c for c in document["components"] if c["name"] not in without]
    for component in kept:
        if component["name"] in KNOWN["packages"]:
            component["licenses"] = expression(KNOWN["packages"][component["name"]])
    names = {c["bom-ref"] for c in kept} | {document["metadata"]["component"]["bom-ref"]}
    document["dependencies"] = [
        d | {"dependsOn": [ref for ref in d.get("dependsOn", ()) if ref in names]}
        for d in document.get("dependencies", ())
        if d["ref"] in names
    ]
    return document


def libraries(folder: Path) -> Iterator[Component]:
    """Shared libraries that lie in a folder: those of wheels, and those that a freezer collected."""
    files = (path for pattern in LIBRARIES for path in folder.rglob(pattern) if path.is_file())
    for file in sorted({path.name for path in files if ".cpython-" not in path.name}):
        name, _, version = re.sub(r"\.(dylib|dll)$", "", file).partition(".so")
        name = HASH.sub("", name)
        if name not in KNOWN["libraries"]:
            name = name.rstrip("0123456789.")  # libpython3.11
        licence = expression(KNOWN["libraries"].get(name, ""))
        entry = {"type": "library", "bom-ref": f"library:{file}", "name": name, "licenses": licence}
        yield entry | ({"version": version.strip(".")} if version else {})


def debian_packages(root: Path) -> Iterator[Component]:
    """Debian packages of a root folder. Their licences are in their copyright files, which main demands.

    Raises MediaError.
    """
    status = root / "var" / "lib" / "dpkg" / "status"
    try:
        paragraphs = status.read_text(encoding="utf-8").split("\n\n")
    except OSError as error:
        raise MediaError(f"{status}: {error.strerror}; give the root folder of a Debian system") from error
    for paragraph in filter(str.strip, paragraphs):
        fields = dict(re.findall(r"^([\w-]+): (.*)$", paragraph, re.MULTILINE))
        if not fields["Status"].endswith(" installed"):
            continue
        name, version = fields["Package"], fields["Version"]
        notice = Path("usr/share/doc", name, "copyright")
        is_main = "/" not in fields.get("Section", "") and (root / notice).is_file()
        licences = [{"license": {"name": f"Debian main: /{notice}"}}] if is_main else []
        purl = f"pkg:deb/debian/{name}@{version.replace(':', '%3A').replace('+', '%2B')}?arch={fields['Architecture']}"
        yield {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl, "licenses": licences}


def weights(bundle: Path) -> Iterator[Component]:
    """The networks of a bundle."""
    manifest = Manifest.read(bundle)
    for entry in manifest.weights:
        yield {
            "type": "machine-learning-model",
            "bom-ref": f"weights:{manifest.name}:{entry.role}",
            "name": f"{manifest.name}/{entry.role}",
            "description": f"{entry.name}; {entry.origin}; data: {entry.data_licence}",
            "licenses": expression(KNOWN["weights"].get(entry.licence, entry.licence)),
        }


def page_parts() -> Iterator[Component]:
    """What of other people's work is in the server's page."""
    for record in sorted((ROOT / "runtime" / "serve" / "page").glob("*/vendor.json")):
        part = json.loads(record.read_text(encoding="utf-8"))
        name, version, licence = part["package"], part["version"], expression(part.get("licence", ""))
        purl = f"pkg:npm/{name}@{version}"
        yield {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl, "licenses": licence}


def problems_of(document: Component) -> list[str]:
    """Where a document departs from CycloneDX's schema."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    found = JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(document), all_errors=True)
    return [str(problem) for problem in found or ()]


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.sbom", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--python", type=Path, default=Path(sys.executable), help="of the environment that is delivered")
    add("--without", nargs="*", default=[], metavar="PACKAGE", help="packages of it that are not delivered")
    add("--libraries", type=Path, nargs="*", default=[], metavar="FOLDER", help="folders with shared libraries")
    add("--debian", type=Path, metavar="ROOT", help="root folder of a Debian system that is delivered")
    add("--bundle", type=Path, default=MINI, help="bundle that is delivered (default: the one of this program)")
    add("-o", "--out", type=Path, required=True, help="file to write")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file. Returns the exit status: 1 if something cannot be read or the result is not valid."""
    args = get_parser().parse_args(argv)

    def run() -> None:
        document = python_packages(args.python, args.without)
        more = [*(c for folder in args.libraries for c in libraries(folder)), *weights(args.bundle), *page_parts()]
        more += debian_packages(args.debian) if args.debian else ()
        document["components"] += {c["bom-ref"]: c for c in more}.values()
        if problems := problems_of(document):
            raise MediaError(f"the list is not valid CycloneDX {SPEC}: {problems[0][:300]}")
        write_atomically(args.out, json.dumps(document, indent=1) + "\n")
        print(f"{args.out}: {len(document['components'])} components")

    return run_command(run, debug=False)


if __name__ == "__main__":
    sys.exit(main())
