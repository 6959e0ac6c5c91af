"""Where the files of jobs are, and whether a job may read what it names."""

import shutil
from contextlib import suppress
from pathlib import Path

from engines.manifest import MINI
from runtime.serve.config import ServerConfig
from runtime.serve.storage import size_of
from runtime.serve.store import Job, Store
from runtime.serve.work.client_names import names_for_client
from runtime.serve.work.job_request import JobSpec
from runtime.serve.work.worker import WorkerError


class JobFiles:
    """The folder `jobs` of the state."""

    def __init__(self, config: ServerConfig, store: Store) -> None:
        self._config, self._store = config, store

    def all_of(self, job_id: str) -> Path:
        """The folder of a job, with a folder for each time that it was started."""
        return self._config.state / "jobs" / job_id

    def folder(self, job: Job) -> Path:
        """Where this start of a job writes: a process of an earlier start may still be alive."""
        name: str = (job.result or {}).get("folder", str(job.starts))
        return self.all_of(job.id) / name

    def drop_earlier(self, job: Job) -> None:
        """Delete what earlier starts of a job left behind."""
        with suppress(FileNotFoundError):
            for path in self.all_of(job.id).iterdir():
                if path != self.folder(job):
                    shutil.rmtree(path, ignore_errors=True)

    def delete(self, job_id: str) -> int:
        """Delete the files of a job. Returns how many bytes they had."""
        size = size_of(self.all_of(job_id))
        shutil.rmtree(self.all_of(job_id), ignore_errors=True)
        return size

    def check_path(self, spec: JobSpec) -> None:
        """Check again that a file may be read: links, or the operator's flags, may have changed. Raises WorkerError."""
        if "path" in spec.source:
            real = Path(spec.video).resolve()
            if str(real) != spec.video or not self._config.may_read(real):
                raise WorkerError("path_not_allowed", "the file is no longer in a folder that the server may read")

    def take_of(self, job: Job) -> Path | None:
        """The file of the take that a job begins with. Raises WorkerError if it is gone."""
        take = job.spec["take"]
        if take is None:
            return None
        source = self._store.job(take["job_id"])
        path = None if source is None else self.take_file(source, take["number"])
        if path is None:
            raise WorkerError("take_gone", "the take was deleted before the job began; make it again")
        return path

    def take_file(self, job: Job, number: int) -> Path | None:
        """The file of a kept take, from 1; None if there is none."""
        for result in (job.result or {}).get("results", ()):
            if result["kind"] == "take" and result["take"] == number:
                path = self.folder(job) / result["name"]
                return path if path.is_file() else None
        return None

    def names(self, job: Job) -> dict[str, str]:
        """Paths that may be in what a worker says about a job, and what the client calls them."""
        with suppress(WorkerError):
            return self._names(job, self.take_of(job))
        return self._names(job, None)

    def _names(self, job: Job, take: Path | None) -> dict[str, str]:
        spec, engines = JobSpec(**job.spec), self._config.engines or MINI
        return names_for_client(spec, self._config.state, self.folder(job), take, engines)
