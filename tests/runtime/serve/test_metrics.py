"""Metrics: Prometheus' own parser reads them, promtool accepts them, and they count."""

import shutil
import subprocess

import pytest

from tests.support.serving import Serving


def values(text: str) -> dict[str, float]:
    parser = pytest.importorskip("prometheus_client.parser")
    samples = [s for family in parser.text_string_to_metric_families(text) for s in family.samples]
    return {f"{s.name}{sorted(s.labels.items()) or ''}": s.value for s in samples}


def test_the_metrics_count(server: Serving) -> None:
    server.do()
    server.do("error")
    found = values(server.get("/metrics").text)
    assert (
        found["maskvat_jobs_total[('result', 'succeeded')]"] == found["maskvat_jobs_total[('result', 'failed')]"] == 1
    )
    assert found["maskvat_job_errors_total[('code', 'media_error')]"] == 1
    assert found["maskvat_job_seconds_count"] == found["maskvat_job_wait_seconds_count"] == 2
    assert found["maskvat_stage_seconds_count[('stage', 'sample')]"] == found["maskvat_sound_seconds_total"] == 1
    assert found["maskvat_workers_ready[('card', '')]"] == 1
    assert found["maskvat_jobs_queued"] == found["maskvat_jobs_running"] == 0
    assert found["maskvat_build_info[('backend', 'cpu'), ('bundle', 'fake'), ('version', '0')]"] == 1
    assert found["maskvat_upload_bytes_total"] == 2 * len(b"a video")


def test_promtool_accepts_them(server: Serving) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    server.do()
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=server.get("/metrics").content, capture_output=True, check=False
    )
    assert done.returncode == 0 and done.stderr == b"", done.stderr.decode()
