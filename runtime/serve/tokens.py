"""Who may use the server: tokens in a file that only its owner can read, and sessions of a page."""

import hmac
import os
import secrets
import stat
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from runtime.errors import MediaError

MIN_LENGTH = 32  # characters of a token
SESSION = 12 * 3600.0  # seconds
LOGIN = 600.0  # seconds that a login code can be used
FIRST = "local"  # name of the token that is made at the first start
HEADER = "# One token a line: NAME TOKEN. Only the owner may read this file. Changes count at once.\n"


class Tokens:
    """Tokens by name. The file is read again when it changes."""

    def __init__(self, path: Path) -> None:
        """Reads the file, or makes it with a first token. Raises MediaError if others can read it, or it is wrong."""
        self.path = path
        if not path.exists():
            _write_private(path, f"{HEADER}{FIRST} {secrets.token_urlsafe(32)}\n")
        self._stamp: tuple[int, int] = (0, 0)
        self._tokens: dict[str, bytes] = {}
        self._read()

    def _read(self) -> None:
        try:
            info = self.path.stat()
            stamp = (info.st_mtime_ns, info.st_size)
            if stamp == self._stamp:
                return
            if sys.platform != "win32" and stat.S_IMODE(info.st_mode) & 0o077:
                raise MediaError(f"{self.path} can be read by others; run `chmod 600 {self.path}`")
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise MediaError(f"cannot read the tokens in {self.path}: {error}; check its permissions") from error
        self._tokens, self._stamp = _parse(self.path, lines), stamp

    def first(self) -> str:
        """A token that is valid."""
        return next(iter(self._tokens.values())).decode()

    def name_of(self, token: str) -> str | None:
        """Whose token it is. The time it takes does not depend on the token. Raises MediaError if the file is wrong."""
        self._read()
        found = None
        for name, known in self._tokens.items():
            if hmac.compare_digest(known, token.encode(errors="replace")):
                found = name
        return found

    def fingerprint(self, name: str) -> bytes | None:
        """Hash of the token that a name has now; None if it has none. Raises MediaError if the file is wrong."""
        self._read()
        token = self._tokens.get(name)
        return None if token is None else sha256(token).digest()


def _parse(path: Path, lines: list[str]) -> dict[str, bytes]:
    tokens: dict[str, bytes] = {}
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2 or len(words[1]) < MIN_LENGTH or words[0] in tokens:
            raise MediaError(
                f"{path}, line {number}: give a name of its own and a token of {MIN_LENGTH} characters or more"
            )
        tokens[words[0]] = words[1].encode()
    if not tokens:
        raise MediaError(f"{path} has no token; delete the file to get a new one")
    return tokens


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


@dataclass(frozen=True)
class _Pass:
    """What a code or cookie stands for. `token` is the hash of the client's token when it was given."""

    client: str
    token: bytes | None
    end: float


@dataclass
class Sessions:
    """Cookies of pages, and codes that are exchanged for one. Only hashes are kept. They end with the server.

    They are worth nothing as soon as the client's token is changed or removed. `fingerprint`: `Tokens.fingerprint`.
    """

    fingerprint: Callable[[str], bytes | None]
    _codes: dict[bytes, _Pass] = field(default_factory=dict)
    _cookies: dict[bytes, _Pass] = field(default_factory=dict)

    def new_code(self, client: str) -> str:
        """A code that can be exchanged once, soon. Raises MediaError if the tokens cannot be read."""
        return self._issue(self._codes, client, LOGIN)

    def exchange(self, code: str) -> str | None:
        """The client that a code stands for. It cannot be used again. Raises MediaError as `new_code`."""
        found = self._find(self._codes, code)
        self._codes.pop(_hash(code), None)
        return found

    def new_cookie(self, client: str) -> str:
        """Raises MediaError as `new_code`."""
        return self._issue(self._cookies, client, SESSION)

    def client_of(self, cookie: str) -> str | None:
        """Raises MediaError as `new_code`."""
        return self._find(self._cookies, cookie)

    def end(self, cookie: str) -> None:
        self._cookies.pop(_hash(cookie), None)

    def _issue(self, known: dict[bytes, _Pass], client: str, seconds: float) -> str:
        for old in [key for key, given in known.items() if given.end < time.monotonic()]:
            del known[old]
        value = secrets.token_urlsafe(32)
        known[_hash(value)] = _Pass(client, self.fingerprint(client), time.monotonic() + seconds)
        return value

    def _find(self, known: dict[bytes, _Pass], value: str) -> str | None:
        given = known.get(_hash(value))
        if given is None or given.token is None or given.end <= time.monotonic():
            return None
        now = self.fingerprint(given.client)
        return given.client if now is not None and hmac.compare_digest(now, given.token) else None


def _hash(value: str) -> bytes:
    return sha256(value.encode(errors="replace")).digest()
