"""Shards on an S3-compatible server, which the test starts as a process."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("s3fs", reason="needs the extra s3")
pytest.importorskip("moto", reason="needs the extra test")
torch = pytest.importorskip("torch")

import numpy as np

from tests.support.corpus import video
from tests.support.tiny_system import tiny_components, write_system
from tests.train.data.test_shard_files import NAMES, arrays, write_set
from train import shards as check_shards
from train.data.shard_files import ShardSet, Store
from train.errors import ShardError
from train.prepare import __main__ as prepare


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of an empty bucket."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    log = tmp_path_factory.mktemp("server") / "log"
    before = {k: os.environ.get(k) for k in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    os.environ |= {"AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    with open(log, "w") as out:
        server = subprocess.Popen([sys.executable, "-m", "moto.server", "-p", str(port)], stdout=out, stderr=out)
    try:
        wait_for(f"{address}/moto-api/", server, log)
        urllib.request.urlopen(urllib.request.Request(f"{address}/bucket", method="PUT"), timeout=30)
        yield "s3://bucket"
    finally:
        server.terminate()
        server.wait(30)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def wait_for(url: str, server: subprocess.Popen, log: Path) -> None:
    for _ in range(1200):
        assert server.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(url, timeout=5)
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"{url} does not answer: {log.read_text()}")


@pytest.mark.slow
def test_shards_on_s3(bucket: str, tmp_path: Path) -> None:
    url = write_set(f"{bucket}/set")
    examples = ShardSet(url)
    assert len(examples) == len(NAMES) and np.array_equal(examples[3]["codes"], arrays(3)["codes"])
    assert examples.record(1) == {"clip": NAMES[1]}
    write_set(tmp_path / "set")
    assert Store(url).read("train-00001.tar") == (tmp_path / "set" / "train-00001.tar").read_bytes()
    assert check_shards.main([url]) == 0
    content = bytearray(Store(url).read("train-00001.tar"))
    content[1200] ^= 255
    with Store(url).writing("train-00001.tar") as part:
        part.write_bytes(content)
    assert check_shards.main([url]) == 1
    with Store(url).writing("train-00002.tar") as part:
        part.write_bytes(b"short")
    assert ShardSet(url).bad[0].startswith("train-00002: it has 5 bytes")
    with pytest.raises(ShardError, match="no readable manifest"):
        ShardSet(f"{bucket}/nothing")


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_prepare_writes_to_s3_and_resumes_there(bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    system = write_system(tmp_path / "system", tiny_components())
    for n in range(3):
        video(tmp_path / "videos" / f"{n}.mkv")
    options = ["--source", "folder", "--validation", "1", "--shard-clips", "1", "--processes", "0", "--threads", "1"]
    remote = [str(tmp_path / "videos"), str(system), f"{bucket}/prepared", *options]
    assert prepare.main(remote) == 0
    local = [*remote[:2], str(tmp_path / "out"), *options]
    assert prepare.main(local) == 0
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert set(Store(remote[2]).sizes()) == names and len(names) == 3 * 2 + 5
    assert all(Store(remote[2]).read(n) == (tmp_path / "out" / n).read_bytes() for n in names)
    capsys.readouterr()
    assert prepare.main(remote) == 0
    assert "-00000: " not in capsys.readouterr().out  # nothing is made twice
    examples = ShardSet(remote[2])
    assert len(examples) == 2 and examples[1]["codes"].shape == (9, 862)


@pytest.mark.slow
def test_a_bucket_that_is_not_there(bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    system = write_system(tmp_path / "system", {"codec": tiny_components()["codec"]})
    video(tmp_path / "videos" / "a.mkv")
    command = [str(tmp_path / "videos"), str(system), "s3://absent/x", "--source", "folder", "--validation", "0"]
    assert prepare.main([*command, "--processes", "0"]) == 1
    output = capsys.readouterr().err
    assert "error: " in output and "Traceback" not in output
