"""The audit log: who asked for what and when, one JSON object a line. No contents, no file names, no words."""

import json
import logging
import os
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path

LOG_BYTES, LOG_FILES = 10**7, 5  # when a new file begins, and how many old ones are kept


class AuditLog:
    """Appends to `audit.jsonl`."""

    def __init__(self, path: Path) -> None:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        self._handler = _PrivateFiles(path, maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8")

    def write(self, who: str, address: str, action: str, **facts: object) -> None:
        """Note an action: for example who "local", address "127.0.0.1", action "POST /v1/jobs"."""
        when = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": when, "who": who, "address": address, "action": action} | facts)
        self._handler.emit(logging.LogRecord("audit", logging.INFO, "", 0, line, None, None))

    def close(self) -> None:
        self._handler.close()


class _PrivateFiles(RotatingFileHandler):
    def _open(self):  # type: ignore[no-untyped-def]
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return open(descriptor, "a", encoding=self.encoding)
