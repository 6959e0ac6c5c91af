"""The command: flags, what is missing, addresses; and whole servers with real workers (slow)."""

import errno
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.commands.make import main as make
from runtime.errors import MediaError, OptionError
from runtime.serve.command import get_serve_parser, process
from runtime.serve.config import ServerConfig, read_config
from runtime.serve.start import InUse, listen, run_server
from tests.support.fake_engines import NEEDS_ORT
from tests.support.paths import ROOT
from tests.support.serve_process import ServeProcess
from tests.support.serving import events_of


def config_of(*flags: str) -> ServerConfig:
    return read_config(get_serve_parser().parse_args(flags))


def test_flags(tmp_path: Path) -> None:
    config = config_of(
        "--state", str(tmp_path), "--max-upload", "5", "--keep", "2", "--backend", "cpu", "--engines", "b"
    )
    assert config.limits.upload_bytes == 5_000_000 and config.limits.keep == 7200
    assert config.worker_command[-4:] == (
        "--backend=cpu",
        "--precision=auto",
        "--threads=0",
        f"--engines={Path('b').absolute()}",
    )
    assert config.host == "127.0.0.1" and config.hosts == {"localhost", "127.0.0.1", "::1"}


@pytest.mark.parametrize(
    "flags",
    [
        ("--port", "70000"),
        ("--workers", "0"),
        ("--max-upload", "-1"),
        ("--keep", "nan"),
        ("--stall", "0"),
        ("--allow-folder", "no such folder"),
        ("--allow-folder", __file__),
        ("--allow-host", "*"),
        ("--allow-host", "http://a"),
        ("--allow-host", "a:80"),
        ("--host", "0.0.0.0"),
        ("--host", "10.0.0.1", "--no-token"),
    ],
)
def test_wrong_flags_end_before_anything_is_made(tmp_path: Path, flags: tuple[str, ...]) -> None:
    with pytest.raises(OptionError):
        config_of("--state", str(tmp_path / "s"), *flags)
    assert not (tmp_path / "s").exists()


def test_it_listens_on_this_machine_only(tmp_path: Path) -> None:
    sockets = listen(ServerConfig(tmp_path, port=0))
    try:
        names = [s.getsockname()[:2] for s in sockets]
        assert {name for name, _ in names} <= {"127.0.0.1", "::1"} and len({port for _, port in names}) == 1
        with pytest.raises(InUse, match="--port"):
            listen(ServerConfig(tmp_path, port=names[0][1]))
    finally:
        for s in sockets:
            s.close()


def test_another_program_cannot_take_the_ipv6_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create, failing = socket.create_server, [errno.EADDRINUSE]

    def create_server(address: tuple[str, int], **more: Any) -> socket.socket:
        if address[0] == "::1" and failing:
            raise OSError(failing[0], "no")
        return create(("127.0.0.1", 0), backlog=1) if address[0] == "::1" else create(address, **more)

    monkeypatch.setattr("runtime.serve.start.socket.create_server", create_server)
    for port in (0, free_port()):
        with pytest.raises(InUse, match="::1"):
            listen(ServerConfig(tmp_path, port=port))
    for number in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):  # no IPv6 here
        failing[:] = [number]
        (only,) = listen(ServerConfig(tmp_path, port=0))
        only.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def test_two_servers_do_not_share_a_state(tmp_path: Path) -> None:
    from engines.locks import locked

    for shows in (False, True):  # --open does not help if the other server does not answer
        with locked(tmp_path / "lock"), pytest.raises(InUse, match="another server"):
            run_server(ServerConfig(tmp_path, port=0, open=shows))


def test_a_state_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MediaError, match="--state"):
        run_server(ServerConfig(tmp_path / "file" / "s", port=0))


def test_without_the_extra_it_says_how_to_install_it(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['starlette'] = sys.modules['uvicorn'] = None\n"
        "from runtime.commands.subcommands import run\n"
        f"sys.exit(run('serve', ['--state', {str(tmp_path / 's')!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and "'maskvat[serve]'" in done.stderr
    assert done.stderr.count("\n") == 1 and not (tmp_path / "s").exists()


def test_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)
    try:
        assert process(["--state", str(tmp_path), "--workers", "99"]) == 1
    finally:
        signal.signal(signal.SIGINT, before)
    assert "workers is 99" in capsys.readouterr().err


# ---------------------------------------------------------------- real servers
REAL = [pytest.mark.slow, NEEDS_ORT, pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")]


def marked(test: Callable[..., None]) -> Callable[..., None]:
    for mark in REAL:
        test = mark(test)
    return test


@pytest.fixture
def flags(bundles: Callable[..., Path]) -> list[str]:
    return ["--engines", str(bundles()), "--backend", "cpu", "--threads", "1"]


@marked
def test_the_sound_is_that_of_the_command(flags: list[str], make_video: Callable[..., Path], tmp_path: Path) -> None:
    video = make_video(40)
    wav = tmp_path / "a.wav"
    assert make([str(video), "-o", str(wav), *flags, "--steps", "3", "--seed", "5", "--bits", "24", "--quiet"]) == 0
    with ServeProcess(tmp_path / "s", *flags) as server:
        options = {"steps": 3, "seed": 5, "bits": "24"}
        job = server.ask(file_id=server.upload(video), options=options, deliver={"video": True, "timeline": "otio"})
        found = events_of(server.bytes(f"/v1/jobs/{job}/events").decode())
        assert [data["status"] for _, kind, data in found if kind == "status"][-1] == "succeeded"
        assert server.bytes(f"/v1/jobs/{job}/results/sound.wav") == wav.read_bytes()
        redo = server.wait(server.ask(take={"job_id": job}, options={"redo": "0.2-0.8", "steps": 3}))
        assert redo["status"] == "succeeded", redo
        assert server.bytes(f"/v1/jobs/{redo['id']}/results/sound.wav") != wav.read_bytes()
        assert server.stop() == 0
    assert not (tmp_path / "s" / "server.json").exists()


@marked
def test_a_worker_is_killed_in_the_middle(flags: list[str], make_video: Callable[..., Path], tmp_path: Path) -> None:
    with ServeProcess(tmp_path / "s", *flags) as server:
        file_id = server.upload(make_video(40))
        job = server.ask(file_id=file_id, options={"steps": 1024, "candidates": 8})
        server.wait(job, lambda j: j["progress"] > 0)
        for pid in server.children():
            subprocess.run(["kill", "-9", str(pid)], check=False)
        assert server.wait(job)["error"]["code"] == "crashed"
        again = server.ask(file_id=file_id, options={"steps": 1})
        assert server.wait(again)["status"] == "succeeded"


@marked
def test_a_killed_server_loses_no_accepted_job(
    flags: list[str], make_video: Callable[..., Path], tmp_path: Path
) -> None:
    with ServeProcess(tmp_path / "s", *flags) as server:
        file_id = server.upload(make_video(40))
        jobs = [server.ask(file_id=file_id, options={"steps": 60, "seed": n}) for n in range(4)]
        server.wait(jobs[0], lambda j: j["status"] == "running")
        server.kill()
        server.start()
        ended = [server.wait(job) for job in jobs]
        assert [job["status"] for job in ended] == ["succeeded"] * 4
        sounds = {server.bytes(f"/v1/jobs/{job}/results/sound.wav") for job in jobs}
        assert len(sounds) == 4
