"""What the server tells Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from runtime.serve.store import Values

SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600)


class Metrics:
    """Counters, gauges and histograms; their names begin with `maskvat_`."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # when a counter began is of no use, and doubles the text
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        GCCollector(registry=registry)
        self.info = Gauge("maskvat_build_info", "What runs here; always 1.", ("version", "bundle", "backend"),
            registry=registry)  # fmt: skip
        self.jobs = Counter("maskvat_jobs", "Jobs that ended, by result.", ("result",), registry=registry)
        self.errors = Counter("maskvat_job_errors", "Jobs that failed, by code.", ("code",), registry=registry)
        self.queued = Gauge("maskvat_jobs_queued", "Jobs that wait.", registry=registry)
        self.running = Gauge("maskvat_jobs_running", "Jobs that are being done.", registry=registry)
        self.wait = Histogram("maskvat_job_wait_seconds", "Time that jobs waited.", buckets=SECONDS, registry=registry)
        self.seconds = Histogram("maskvat_job_seconds", "Time that jobs took, without the wait.", buckets=SECONDS,
            registry=registry)  # fmt: skip
        self.stages = Histogram("maskvat_stage_seconds", "Time of each stage of a job.", ("stage",), buckets=SECONDS,
            registry=registry)  # fmt: skip
        self.sound = Counter("maskvat_sound_seconds", "Seconds of sound that were made.", registry=registry)
        self.workers = Gauge("maskvat_workers_ready", "Worker processes that are ready or at work.", ("card",),
            registry=registry)  # fmt: skip
        self.restarts = Counter("maskvat_worker_ends", "Worker processes that ended and were started anew, by reason.",
            ("reason",), registry=registry)  # fmt: skip
        self.uploads = Counter("maskvat_upload_bytes", "Bytes of uploads.", registry=registry)
        self.storage = Gauge("maskvat_storage_bytes", "Bytes of uploads and results on the disk.", registry=registry)
        self.requests = Counter("maskvat_http_requests", "Answers, by method and status.", ("method", "status"),
            registry=registry)  # fmt: skip

    def job_done(self, report: Values) -> None:
        """Note what the report of a finished job says."""
        for stage, seconds in report.get("seconds", {}).items():
            self.stages.labels(stage).observe(seconds)
        if report.get("sample_rate"):
            self.sound.inc(report["samples"] / report["sample_rate"])

    def text(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)
