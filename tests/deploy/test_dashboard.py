"""The dashboard asks for metrics and labels that the server has."""

import json
import re

import pytest

from tests.support.paths import ROOT

pytest.importorskip("prometheus_client", reason="the extra `serve` is not installed")
from prometheus_client.parser import text_string_to_metric_families

from runtime.serve.metrics import Metrics

DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "maskvat.json").read_text(encoding="utf-8"))
NAME = re.compile(r"\b((?:maskvat|process|python)_\w+)")
FROM_PROMETHEUS = {"instance", "le"}


def served() -> dict[str, set[str]]:
    """Names as Prometheus stores them -> labels, after something of each kind has happened."""
    metrics = Metrics()
    metrics.info.labels("0.1.0", "mini", "cpu").set(1)
    for counter in (metrics.jobs, metrics.errors, metrics.restarts):
        counter.labels("x").inc()
    metrics.workers.labels("0").set(1)
    metrics.stages.labels("x").observe(1)
    metrics.requests.labels("GET", "200").inc()
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(metrics.text().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def queries() -> list[str]:
    variables = [v["query"]["query"] for v in DASHBOARD["templating"]["list"] if v["type"] == "query"]
    return variables + [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def unknown(query: str, known: dict[str, set[str]]) -> set[str]:
    """Metrics and labels of a query that the server does not have."""
    names = set(NAME.findall(query))
    labels = {word for group in re.findall(r"by \(([\w, ]+)\)", query) for word in group.split(", ")}
    labels -= FROM_PROMETHEUS | {label for name in names for label in known.get(name, ())}
    return (names - set(known)) | labels


def test_every_metric_exists() -> None:
    known = served()
    assert {query: bad for query in queries() if (bad := unknown(query, known))} == {}
    assert len(queries()) > len(DASHBOARD["panels"])


@pytest.mark.parametrize(
    ("query", "bad"),
    [
        ("rate(maskvat_jobs[1m])", "maskvat_jobs"),  # a counter is stored with _total
        ("maskvat_queue", "maskvat_queue"),
        ("sum by (code) (maskvat_jobs_total)", "code"),
    ],
)
def test_what_does_not_exist_is_found(query: str, bad: str) -> None:
    assert unknown(query, served()) == {bad}


def test_every_metric_of_ours_is_shown() -> None:
    asked = {name for query in queries() for name in NAME.findall(query)}
    ours = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in served() if name.startswith("maskvat_")}
    shown = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in asked}
    assert ours <= shown, ours - shown


def test_the_panels_do_not_overlap() -> None:
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
