"""The log that all TensorRT engines of a process share: each thread keeps its own errors."""

from threading import Thread

from engines.plan_build import Errors


def in_thread(work: object) -> None:
    thread = Thread(target=work)  # type: ignore[arg-type]
    thread.start()
    thread.join()


def test_another_thread_does_not_clear_the_reason() -> None:
    errors, other = Errors(), list[str]()
    errors.clear()
    errors.append("OutOfMemory")

    def work() -> None:
        errors.clear()
        errors.append("another plan")
        other.append(errors.take())
        errors.clear()

    in_thread(work)
    assert other == ["another plan"] and errors.take() == "OutOfMemory" and errors.take() == "no reason given"


def test_the_librarys_own_threads_report_to_all() -> None:
    errors = Errors()
    errors.clear()
    in_thread(lambda: errors.append("tactic 3: OutOfMemory"))
    assert errors.take() == "tactic 3: OutOfMemory"


def test_only_the_latest_errors_are_kept() -> None:
    errors = Errors()
    errors.clear()
    for n in range(9):
        errors.append(str(n))
    assert errors.take() == "5; 6; 7; 8"
