"""Several cards share one queue: each worker sees one card, and a card that is broken stops nobody."""

import time
from collections.abc import Callable

import pytest

from runtime.errors import OptionError
from runtime.serve.command import get_serve_parser
from runtime.serve.config import ServerConfig, read_config
from runtime.serve.work.worker import _environment
from tests.support.serving import FAKE, Serving

Start = Callable[..., Serving]
WITH_CARDS = (*FAKE, "--cards")


def wait_for(found: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not found() and time.monotonic() < end:
        time.sleep(0.02)
    assert found()


def backend_of(server: Serving) -> object:
    """What a job was made on: a fake worker names the card that it sees."""
    job = server.services.store.job(server.do()["id"])
    assert job is not None and job.result is not None
    return job.result["backend"]


def ready_cards(server: Serving) -> list[str]:
    return sorted(worker.card for worker in server.services.pool.ready)


def config_of(*flags: str) -> ServerConfig:
    return read_config(get_serve_parser().parse_args(flags))


def test_jobs_of_one_queue_run_on_all_cards(start: Start) -> None:
    server = start(cards=("0", "1"), worker_command=WITH_CARDS)
    wait_for(lambda: ready_cards(server) == ["0", "1"])
    jobs = [server.ask("slow").json()["id"] for _ in range(2)]
    for job in jobs:
        server.wait(job, lambda j: j["status"] == "running")
    assert {worker.card for worker, _ in server.services.pool._running.values()} == {"0", "1"}
    text = server.get("/metrics").text
    assert 'maskvat_workers_ready{card="0"} 1.0' in text and 'maskvat_workers_ready{card="1"} 1.0' in text
    for job in jobs:
        server.post(f"/v1/jobs/{job}/cancel")


def test_a_worker_that_crashed_comes_back_on_its_card(start: Start) -> None:
    server = start(cards=("3",), worker_command=WITH_CARDS)
    assert server.do("crash")["error"]["code"] == "crashed"
    assert backend_of(server) == "card 3"


def test_a_broken_card_stops_nobody(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    server = start(cards=("9", "0"), worker_command=WITH_CARDS)
    wait_for(lambda: "a worker of card 9 cannot start: card 9 is broken" in caplog.text)
    assert [backend_of(server) for _ in range(2)] == ["card 0", "card 0"]
    assert ready_cards(server) == ["0"] and not server.services.pool.hopeless.is_set()
    assert 'maskvat_workers_ready{card="9"} 0.0' in server.get("/metrics").text


def test_without_any_card_that_works_the_server_ends(start: Start) -> None:
    server = start(cards=("8", "9"), worker_command=WITH_CARDS)
    wait_for(server.services.pool.hopeless.is_set)
    assert server.services.pool.problem is not None and "is broken" in str(server.services.pool.problem)


def test_a_worker_that_uses_no_card_is_told(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    server = start(cards=("0",))  # this fake says that it runs on the CPU
    server.do()
    assert "the worker of card 0 runs on the CPU" in caplog.text


# ---------------------------------------------------------------- flags
def test_each_card_has_its_workers() -> None:
    assert config_of("--cards", "0,GPU-1a2b-3c", "--workers", "2").slots == ("0", "GPU-1a2b-3c") * 2
    assert config_of("--workers", "3").slots == ("", "", "")


@pytest.mark.parametrize(
    ("cards", "more", "reason"),
    [
        ("0,0", (), "each card once"),
        ("", (), "each card once"),
        ("0,", (), "each card once"),
        ("-1", (), "each card once"),
        ("0;1", (), "for example 0,1"),
        ("0", ("--backend", "cpu"), "drop one"),
        ("0,1", ("--workers", "33"), "at most 64"),
    ],
)
def test_wrong_cards_are_refused(cards: str, more: tuple[str, ...], reason: str) -> None:
    with pytest.raises(OptionError, match=reason):
        config_of(f"--cards={cards}", *more)


def test_a_worker_sees_its_card_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    assert _environment("2")["CUDA_VISIBLE_DEVICES"] == "2" and _environment("")["CUDA_VISIBLE_DEVICES"] == "5"
    assert _environment("2")["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
