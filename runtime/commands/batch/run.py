"""Make the sounds of a batch: one opened bundle, several threads, and each failure on its own."""

import json
import logging
import threading
import time
from argparse import Namespace
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any

from engines.manifest import write_atomically
from runtime.commands import signals
from runtime.commands.batch.options import args_of, chosen_jobs, parse_batch
from runtime.commands.batch.plan import make_plan
from runtime.commands.batch.progress import BatchProgress
from runtime.commands.batch.sources import Entry, with_name
from runtime.commands.batch.supervise import BatchState, Result, how_to_go_on
from runtime.commands.crash_guard import JOB, tell
from runtime.commands.deliverables import plan_delivery
from runtime.commands.make import begin_process, make_sound, open_engines, read_request
from runtime.commands.standard_streams import drop_unread, say
from runtime.commands.status import describe_error, run_command
from runtime.errors import Cancelled
from runtime.pipeline import Pipeline
from runtime.version import program_version

log = logging.getLogger(__name__)
POLL = 0.2  # seconds after which a signal is noticed


class Batch:
    """The sounds of a batch, and what became of them."""

    def __init__(self, args: Namespace, state: BatchState) -> None:
        """Check everything, or take what an earlier child process has checked. Raises MaskVATError."""
        self.args, self.results = args, state.results
        self._alone = [number for number in state.alone if number not in state.results]
        self._begin, self._cancel = time.monotonic(), threading.Event()
        self._broken: OSError | None = None  # nobody reads the progress
        self.bundle: str | None = None
        self.stopped = 0  # exit status if a signal came
        known = state.entries
        if known is None:
            plan = make_plan(args)
            self.entries = plan.entries
            tell({"entries": [_to_json(entry) for entry in self.entries]})
        else:
            self.entries = [_from_json(values) for values in known]
        videos = [entry.video for entry in self.entries]
        self.progress = BatchProgress(args.progress, args.quiet, videos, self.results)
        if known is None:
            self._settle(plan.skipped, [[str(p) for p in outputs] for outputs in plan.outputs])

    def _settle(self, skipped: list[int], outputs: list[list[str]]) -> None:
        """Note the results that are known before the work."""
        for number, entry in enumerate(self.entries):
            if entry.problem:
                self._finish(number, _failure("media_error", entry.problem))
            elif number in skipped:
                self._finish(number, {"status": "skipped", "outputs": outputs[number]})

    def work(self) -> None:
        """Make the sounds that have no result yet. Raises what ends the whole batch."""
        waiting = [n for n in range(len(self.entries)) if n not in self.results]
        if not waiting:
            return
        jobs, threads = chosen_jobs(self.args, len(waiting))
        try:
            with open_engines(Namespace(**vars(self.args) | {"threads": threads}), wait=True) as pipeline:
                self.bundle = pipeline.bundle.manifest.name
                for number in self._alone:
                    self._run([number], pipeline, 1)
                self._run([n for n in waiting if n not in self._alone], pipeline, jobs)
        except KeyboardInterrupt as stop:
            self.stopped = getattr(stop, "status", 130)
        finally:
            self.progress.clear()
        signals.finish()  # only the report is left
        if self._broken is not None:
            raise BrokenPipeError from self._broken

    def _run(self, numbers: list[int], pipeline: Pipeline, jobs: int) -> None:
        """Make some sounds, so many at the same time."""
        with ThreadPoolExecutor(jobs, "maskvat-batch") as pool:
            left: set[Future[None]] = {pool.submit(self._make, number, pipeline) for number in numbers}
            try:
                while left:
                    ended, left = wait(left, POLL)
                    for future in ended:
                        future.result()
            except BaseException:
                self._cancel.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _make(self, number: int, pipeline: Pipeline) -> None:
        """Make one sound, in a thread of the pool. Its errors become its result."""
        if self._cancel.is_set():
            return
        JOB.set(number)
        signals.ALSO.set(self._check)
        entry, begin = self.entries[number], time.monotonic()
        tell({"video": str(entry.video)})
        try:
            request = read_request(args_of(self.args, entry))
            delivery = plan_delivery(request.args, request.config, request.edit)
            report = make_sound(request, delivery, pipeline, partial(self._show, number), self._cancel)
        except (Cancelled, KeyboardInterrupt):
            return
        except Exception as error:  # whatever one file does, the others are made
            log.debug("%s", entry.video, exc_info=True)
            self._finish(number, _failure(*describe_error(error)))
        else:
            self._finish(number, _success(report, time.monotonic() - begin))

    def _check(self) -> None:
        if self._cancel.is_set():
            raise Cancelled("the batch has ended")

    def _show(self, number: int, progress: Any) -> None:
        try:
            self.progress.update(number, progress)
        except OSError as error:
            self._stop_unread(error)
            self._check()

    def _finish(self, number: int, result: Result) -> None:
        """Keep a result, tell it to the parent process, and show it."""
        JOB.set(number)
        tell({"result": result})
        try:
            self.progress.finish(number, result)
        except OSError as error:
            self._stop_unread(error)
        if result["status"] == "done":
            self.progress.clear()
            for path in result.get("outputs", ()):
                log.info("%s", path)
            for warning in result.get("warnings", ()):
                log.warning("%s: %s", self.entries[number].video, warning)

    def _stop_unread(self, error: OSError) -> None:
        self._broken = error
        self._cancel.set()

    # ------------------------------------------------------------ the end
    @property
    def status(self) -> int:
        """The exit status: 0 if every sound is there, 1 if not, 128 + the signal that stopped it."""
        return self.stopped or int(self.counts()["done"] + self.counts()["skipped"] < len(self.entries))

    def counts(self) -> dict[str, int]:
        found = [result["status"] for result in self.results.values()]
        counts = {status: found.count(status) for status in ("done", "skipped", "failed")}
        return counts | {"not_done": len(self.entries) - len(found)}

    def summary(self) -> dict[str, Any]:
        """What became of each sound, as JSON values."""
        clips = []
        for number, entry in enumerate(self.entries):
            named = {"video": str(entry.video)} | ({"where": entry.where} if entry.where else {})
            named |= {flag[2:]: value for flag, value in entry.flags.items()}
            clips.append(named | self.results.get(number, {"status": "not_done"}))
        return {
            "version": program_version(),
            "bundle": self.bundle,
            "counts": self.counts(),
            "seconds": round(time.monotonic() - self._begin, 3),
            "clips": clips,
        }

    def report(self) -> None:
        """Write the summary, list the failures and say how many sounds are done."""
        summary = self.summary()
        if self.args.summary is not None:
            write_atomically(self.args.summary, json.dumps(summary, indent=1) + "\n")
        self.progress.print_summary(summary)
        for number, result in sorted(self.results.items()):
            if result["status"] == "failed":
                say(f"failed: {with_name(self.entries[number], result['error']['message'])}")
        counts = self.counts()
        more = "".join(f", {counts[name]} {name}" for name in ("skipped", "failed") if counts[name])
        line = f"{counts['done']} of {len(self.entries)} sounds are done{more}"
        if self.stopped:
            say(f"stopped; {line}; {how_to_go_on(self.args.overwrite)}")
        else:
            log.info("%s in %.1f s", line, summary["seconds"])


def _success(report: dict[str, Any], seconds: float) -> Result:
    facts = {name: report[name] for name in ("outputs", "warnings", "samples", "sample_rate")}
    return {"status": "done", **facts, "seconds": round(seconds, 3)}


def _failure(code: str, message: str) -> Result:
    return {"status": "failed", "error": {"code": code, "message": message}}


def _to_json(entry: Entry) -> list[Any]:
    output = None if entry.output is None else str(entry.output)
    return [str(entry.video), output, entry.flags, entry.where, entry.problem]


def _from_json(values: list[Any]) -> Entry:
    video, output, *rest = values
    return Entry(Path(video), None if output is None else Path(output), *rest)


def execute(args: Namespace, state: BatchState) -> int:
    """Run a batch and return its exit status."""
    batches: list[Batch] = []

    def run() -> None:
        batches.append(Batch(args, state))
        batches[0].work()
        batches[0].report()

    def on_error(code: str, message: str) -> None:
        BatchProgress(args.progress, args.quiet, [], {}).print_error(code, message)

    status = run_command(run, args.debug, on_error)
    drop_unread()
    return status or batches[0].status


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command inside of the caller's process. Returns its exit status."""
    return execute(parse_batch(argv), BatchState())


def standalone(argv: Sequence[str], state: BatchState) -> int:
    """Run the command as a process of its own. Returns its exit status."""
    args = parse_batch(argv)
    begin_process(args.debug, args.quiet)
    return execute(args, state)
