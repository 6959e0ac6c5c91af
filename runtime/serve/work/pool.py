"""The queue's other end: workers that take jobs, and what becomes of each job."""

import asyncio
import logging
import shutil
import sqlite3
import time
from contextlib import suppress
from dataclasses import asdict

from runtime.serve.audit import AuditLog
from runtime.serve.config import ServerConfig
from runtime.serve.metrics import Metrics
from runtime.serve.storage import Storage, in_words, size_of
from runtime.serve.store import Job, Store, Values
from runtime.serve.work.client_names import client_text
from runtime.serve.work.events import Events
from runtime.serve.work.job_files import JobFiles
from runtime.serve.work.job_request import JobSpec, worker_request
from runtime.serve.work.results import finish_results, written_report
from runtime.serve.work.waiting import first_of, wait_for_event
from runtime.serve.work.worker import Worker, WorkerError

log = logging.getLogger(__name__)
HOPELESS = ("manifest_error", "contract_error", "backend_unavailable", "option_error")  # another try would not help
LONGEST_PAUSE = 30.0  # seconds between two starts of a worker that does not start
LOOK_AGAIN = 10.0  # seconds until a worker without a job looks again: the database may have refused
MISTAKE = "the server made a mistake, or its database failed; its log says more"
TOO_LARGE = "results_too_large"
ON_CPU = "the worker of card %s runs on the CPU: see `maskvat doctor`, or force the card with --backend"
CANCEL_WAIT = 10.0  # seconds until a worker that does not cancel is killed


class Pool:
    """Worker processes and the jobs that they do."""

    def __init__(
        self, config: ServerConfig, store: Store, events: Events, metrics: Metrics, audit: AuditLog, storage: Storage
    ) -> None:
        self._config, self._store, self._events = config, store, events
        self._metrics, self._audit, self._storage = metrics, audit, storage
        self.files = JobFiles(config, store)
        self._slots: list[asyncio.Task[None]] = []
        self._wakes: list[asyncio.Event] = []
        self._running: dict[str, tuple[Worker, str]] = {}  # job -> its worker, and why it is to stop ("": it is not)
        self.ready: set[Worker] = set()
        self.facts: Values = {}  # of the bundle, from the first worker that opened it
        self.problem: WorkerError | None = None  # why the last worker could not start
        self._given_up: set[int] = set()  # slots whose worker will never start
        self.hopeless = asyncio.Event()  # no worker will ever start
        self.draining = False
        self.doomed: set[str] = set()  # running jobs that are deleted when they end
        self._patience_ends = 0.0  # when running jobs go back to the queue, while draining

    # ------------------------------------------------------------ for the routes
    def start(self) -> None:
        """Start the workers."""
        for number, card in enumerate(self._config.slots):
            wake = asyncio.Event()
            self._wakes.append(wake)
            self._slots.append(asyncio.create_task(self._slot(number, card, wake)))

    def wake(self) -> None:
        """Say that there is a job."""
        self.count()
        for wake in self._wakes:
            wake.set()

    def count(self) -> None:
        """Bring the gauges up to date."""
        with suppress(sqlite3.Error):  # the next count is right
            self._metrics.queued.set(self._store.count(("queued",)))
        self._metrics.running.set(len(self._running))
        for card in self._config.slots:
            self._metrics.workers.labels(card).set(sum(worker.card == card for worker in self.ready))

    async def cancel(self, job: Job) -> None:
        """Cancel a job that waits or runs."""
        if job.id in self._running:
            self._store.note_wish(job.id, "cancelled")
            await self._stop_job(job.id, "cancelled")
        elif job.is_open:
            self._end(job.id, "cancelled", error={"code": "cancelled", "message": "the job was cancelled"})

    def delete_when_ended(self, job_id: str) -> None:
        """Delete a job that runs as soon as it ends, also after a restart."""
        self.doomed.add(job_id)
        self._store.note_wish(job_id, "deleted")

    async def stop_large(self) -> None:
        """Stop jobs that write more than they reserved."""
        for job in [job for job_id in self._running if (job := self._store.job(job_id)) is not None]:
            reserve = job.spec.get("reserve", 0)
            if reserve and size_of(self.files.folder(job)) > reserve:
                await self._stop_job(job.id, TOO_LARGE)

    async def _stop_job(self, job_id: str, why: str) -> None:
        worker, stopping = self._running[job_id]
        if stopping:
            return
        self._running[job_id] = (worker, why)
        await worker.cancel()
        asyncio.get_running_loop().call_later(CANCEL_WAIT, self._kill_if_still_running, job_id, worker)

    def _kill_if_still_running(self, job_id: str, worker: Worker) -> None:
        if self._running.get(job_id, (None, ""))[0] is worker:
            worker.kill()

    async def drain(self, grace: float) -> None:
        """Start no more jobs. Running ones get `grace` seconds; after that they go back to the queue."""
        self.draining, self._patience_ends = True, time.monotonic() + grace
        self.wake()
        while self._running and time.monotonic() < self._patience_ends:
            await asyncio.sleep(0.1)
        for job_id in list(self._running):
            await self._stop_job(job_id, "requeued")
        if self._slots:
            _, late = await asyncio.wait(self._slots, timeout=CANCEL_WAIT + 10)
            for slot in late:
                slot.cancel()
            await asyncio.gather(*self._slots, return_exceptions=True)

    def hurry(self) -> None:
        """Let running jobs go back to the queue now."""
        self._patience_ends = 0.0

    # ------------------------------------------------------------ one worker after the other
    async def _slot(self, number: int, card: str, wake: asyncio.Event) -> None:
        pause = 1.0
        while not self.draining:
            worker = Worker(self._config.worker_command, self._config.limits.stall, card)
            try:
                await worker.start()
                self.ready.add(worker)
                self.facts, self.problem, pause = worker.facts, None, 1.0
                if card and worker.facts.get("backend") == "cpu":
                    log.warning(ON_CPU, card)
                self.count()
                await self._serve(worker, wake)
            except WorkerError as error:
                if worker not in self.ready:
                    self._cannot_start(number, card, error)
                if not self.draining:
                    self._metrics.restarts.labels(error.code).inc()
            except Exception:  # a slot never ends: nothing would do jobs
                log.exception("a worker's slot failed; it is tried again")
                self.ready.discard(worker)  # so that it pauses
            finally:
                was_ready = worker in self.ready
                self.ready.discard(worker)
                self.count()
                await worker.stop()
            if not was_ready:
                wake.clear()
                await wait_for_event(wake, pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    def _cannot_start(self, number: int, card: str, error: WorkerError) -> None:
        log.error("a worker%s cannot start: %s", f" of card {card}" if card else "", error)
        self.problem = error
        if error.code in HOPELESS:
            self._given_up.add(number)
        if not self.facts and len(self._given_up) == len(self._slots):  # another card's worker may open the bundle
            self.hopeless.set()

    async def _serve(self, worker: Worker, wake: asyncio.Event) -> None:
        """Give jobs to a worker until it ends. Raises WorkerError when it does."""
        while not self.draining:
            wake.clear()
            if worker.exited.is_set():
                raise WorkerError("crashed", "a worker ended between two jobs", dead=True)
            job = self._claim()
            if job is not None:
                await self._perform(job, worker)
            else:
                await first_of(wake.wait(), worker.exited.wait(), asyncio.sleep(LOOK_AGAIN))

    def _claim(self) -> Job | None:
        if self._storage.disk_is_low:  # jobs wait: whoever fills the disk may free it
            return None
        try:
            return self._store.claim()
        except sqlite3.Error:
            log.exception("cannot read the queue; it is tried again")
            return None

    async def _perform(self, job: Job, worker: Worker) -> None:
        """Do one job. Raises WorkerError if the worker has to be started anew."""
        self._running[job.id] = (worker, "")
        self.count()
        self._metrics.wait.observe(max(0.0, time.time() - job.created))  # the clock may have been set back
        begin = time.monotonic()
        self._events.log(job.id).publish("status", {"status": "running", "phase": "starting", "progress": 0.0})
        try:
            ended = await self._make(job, worker)
        except WorkerError as error:
            shutil.rmtree(self.files.folder(job), ignore_errors=True)
            self._failed(job, error)
            ended = error
        except OSError as error:
            shutil.rmtree(self.files.folder(job), ignore_errors=True)
            ended = WorkerError("system_error", f"cannot write results: {error.strerror or error}")
            self._failed(job, ended)
        except Exception as error:
            log.exception("%s failed", job.id)
            broken = WorkerError("internal_error", MISTAKE, dead=True)
            self._failed(job, broken)
            raise broken from error
        finally:
            del self._running[job.id]
            self._metrics.seconds.observe(time.monotonic() - begin)
            self.count()
        if ended is not None and ended.dead:
            raise ended

    async def _make(self, job: Job, worker: Worker) -> WorkerError | None:
        """Let the worker make all files. Returns how it ended, if it did after that. Raises WorkerError, OSError."""
        spec, folder, ended = JobSpec(**job.spec), self.files.folder(job), None
        self.files.check_path(spec)
        params = worker_request(spec, folder, self.files.take_of(job), self._config.limits)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            report = await worker.generate(params, self._events.log(job.id).progress)
        except WorkerError as error:
            found = written_report(folder) if error.dead else None
            if found is None:
                raise
            log.warning("%s: %s; its files were written before", job.id, error)
            report, ended = found, error
        report, results = finish_results(folder, report, spec.label, self.files.names(job))
        size = size_of(folder)
        if spec.reserve and size > spec.reserve:
            raise WorkerError(TOO_LARGE, _too_large(spec.reserve), ended is not None)
        self.files.drop_earlier(job)
        facts = ("takes", "samples", "sample_rate", "warnings", "bundle", "backend", "total_seconds")
        result = {"folder": folder.name, "results": [asdict(r) for r in results]}
        self._end(job.id, "succeeded", result | {name: report[name] for name in facts}, kept=size)
        self._metrics.job_done(report)
        return ended

    def _failed(self, job: Job, error: WorkerError) -> None:
        """Note why a job made nothing. If the database cannot do it now, `end_lost` does."""
        try:
            self._note_failure(job, error)
        except sqlite3.Error:
            log.exception("cannot note that %s failed; it is tried again", job.id)

    def end_lost(self) -> None:
        """Note the end of jobs that the database calls running, and that no worker does: it refused to note it."""
        for job in [] if self.draining else self._store.jobs(statuses=("running",)):
            if job.id not in self._running:
                self._end(job.id, "failed", error={"code": "internal_error", "message": MISTAKE})

    def _note_failure(self, job: Job, error: WorkerError) -> None:
        why = self._running[job.id][1]
        if why == "requeued":
            self._store.requeue(job.id)
            self._events.log(job.id).publish("status", {"status": "queued", "phase": "queued", "progress": 0.0})
        elif why == "cancelled":
            self._end(job.id, why, error={"code": "cancelled", "message": "the job was cancelled"})
        else:
            log.warning("%s failed: %s", job.id, error)
            code, message = error.code, client_text(error.message, self.files.names(job))
            if why == TOO_LARGE:
                code, message = TOO_LARGE, _too_large(job.spec["reserve"])
            self._metrics.errors.labels(code).inc()
            self._end(job.id, "failed", error={"code": code, "message": message})

    def _end(
        self, job_id: str, status: str, result: Values | None = None, error: Values | None = None, kept: int = 0
    ) -> None:
        self._store.finish(job_id, status, result, error)
        self._storage.job_ended(job_id, kept)
        self._metrics.jobs.labels(status).inc()
        code = {} if error is None else {"code": error["code"]}
        self._audit.write("server", "", f"job {status}", target=job_id, **code)
        done = 1.0 if status == "succeeded" else 0.0
        data = {"status": status, "phase": "done", "progress": done, "error": error}
        self._events.log(job_id).publish("status", data, last=True)
        if job_id in self.doomed:
            self.doomed.discard(job_id)
            self.delete(job_id)
        self.count()

    def delete(self, job_id: str) -> None:
        """Delete a job that does not run, with its results and takes."""
        self._storage.kept -= self.files.delete(job_id)
        self._store.delete_job(job_id)
        self._events.drop(job_id)


def _too_large(limit: int) -> str:
    return (
        f"the results have more than {in_words(limit)}, which was reserved for them; ask for fewer takes or fewer bits"
    )
