"""`train.prepare` on a Ray cluster of two nodes, which the tests start on this machine."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import worker_tasks
from tests.support.paths import ROOT

ray = pytest.importorskip("ray", reason="needs the extra ray")
pytest.importorskip("torch")

from ray.cluster_utils import Cluster

from tests.support.corpus import video
from tests.support.tiny_system import tiny_components, write_system
from train.prepare import __main__ as prepare
from train.prepare import (
    workers,
)

pytestmark = [pytest.mark.host, pytest.mark.slow, pytest.mark.torch]  # a cluster needs an idle machine


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster of two nodes with one CPU each."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests")])  # what is installed on a real node
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        nodes.add_node(num_cpus=1)
        nodes.wait_for_nodes()
        yield nodes.address
    finally:
        ray.shutdown()
        nodes.shutdown()
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def test_tasks_run_on_both_nodes_and_survive_dying_processes(cluster: str) -> None:
    results = dict(workers.run(worker_tasks.where, [(n,) for n in range(8)], workers.Workers(threads=1, ray=cluster)))
    assert sorted(results) == list(range(8))
    assert isinstance(results[1], ValueError) and isinstance(results[3], workers.WorkerDied) and results[2][1] is True
    assert len({results[n][0] for n in (0, 4, 5, 6, 7)}) == 2


def test_shards_made_on_the_cluster_are_those_of_one_machine(cluster: str, tmp_path: Path) -> None:
    system = write_system(tmp_path / "system", tiny_components())
    for n in range(4):
        video(tmp_path / "videos" / f"{n}.mkv")
    (tmp_path / "videos" / "bad.mp4").write_bytes(b"not a video")
    options = ["--source", "folder", "--validation", "1", "--shard-clips", "1", "--threads", "1", "--device", "cpu"]
    base = [str(tmp_path / "videos"), str(system)]
    assert prepare.main([*base, str(tmp_path / "ray"), *options, "--ray", cluster]) == 3
    assert prepare.main([*base, str(tmp_path / "here"), *options, "--processes", "0"]) == 3
    names = sorted(p.name for p in (tmp_path / "ray").iterdir())
    assert names == sorted(p.name for p in (tmp_path / "here").iterdir()) and "train-00003.tar" in names
    assert all((tmp_path / "ray" / n).read_bytes() == (tmp_path / "here" / n).read_bytes() for n in names)


def test_no_cluster_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    ray.shutdown()
    system = write_system(tmp_path / "system", {"codec": tiny_components()["codec"]})
    video(tmp_path / "videos" / "a.mkv")
    command = [str(tmp_path / "videos"), str(system), str(tmp_path / "out"), "--source", "folder", "--validation", "0"]
    assert prepare.main([*command, "--ray", "127.0.0.1:1"]) == 1
    printed = capsys.readouterr().err.splitlines()[-1]
    assert printed.startswith("error: no Ray cluster answers at 127.0.0.1:1")
