"""What the operator chose: addresses, folders, workers, limits."""

import ipaddress
import os
import re
import sys
from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path

from engines.advice import is_app
from runtime.errors import OptionError
from runtime.sampling import number, whole_number

MB, GB, HOUR = 10**6, 10**9, 3600.0
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
MAX_WORKERS = 64
CARD = re.compile(r"\d{1,3}|(GPU|MIG)-[0-9A-Za-z/-]{1,100}")  # as CUDA_VISIBLE_DEVICES takes it
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Limits:
    """What one client, one job or all of them may use."""

    upload_bytes: int = 2000 * MB  # of one upload
    storage_bytes: int = 20 * GB  # of uploads, results, and what accepted jobs may still write
    free_bytes: int = 500 * MB  # that stay free on the disk
    video_seconds: float = 600.0  # of one video
    queue: int = 200  # jobs that wait
    per_client: int = 50  # jobs of one client that wait or run
    keep: float = 24 * HOUR  # seconds until results, and uploads that no job needs, are deleted
    stall: float = 300.0  # seconds without progress until a worker counts as hung
    grace: float = 30.0  # seconds that running jobs get when the server stops
    body_wait: float = 30.0  # seconds until the next piece of an upload
    abandoned: float = 60.0  # seconds until a job whose client must ask, and does not, is cancelled


@dataclass(frozen=True)
class ServerConfig:
    """All that the server needs to know. Raises OptionError if values contradict each other."""

    state: Path
    host: str = "127.0.0.1"
    port: int = 8440  # 0: the system chooses one
    allow_hosts: tuple[str, ...] = ()  # further names that the Host header may have
    allow_folders: tuple[Path, ...] = ()  # resolved; videos in them may be named by their path
    token: bool = True
    open: bool = False  # show the page in the browser of this machine
    trust_proxies: tuple[Network, ...] = ()  # proxies whose X-Forwarded-For is believed
    workers: int = 1  # processes; with cards: of each card
    cards: tuple[str, ...] = ()  # GPUs, as CUDA_VISIBLE_DEVICES names them; (): whatever the workers find
    worker_command: tuple[str, ...] = field(default_factory=lambda: stdio_command())
    limits: Limits = field(default_factory=Limits)
    engines: Path | None = None  # the bundle's folder; None is the one that comes with the program

    def __post_init__(self) -> None:
        if not self.token and not self.is_local:
            raise OptionError(f"--no-token with --host {self.host}: other machines could use the server; drop one")
        if self.host in ("0.0.0.0", "::") and not self.allow_hosts:
            raise OptionError(f"--host {self.host} needs --allow-host NAME for each name or address that clients use")

    @property
    def slots(self) -> tuple[str, ...]:
        """The card of each worker, "" if it may choose."""
        return (self.cards or ("",)) * self.workers

    @property
    def is_local(self) -> bool:
        """Whether only programs on this machine can connect."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def may_read(self, real: Path) -> bool:
        """Whether clients may name this file, without links. The state is not for them: it has other clients' files."""
        inside = any(real.is_relative_to(folder) for folder in self.allow_folders)
        return inside and not real.is_relative_to(self.state.resolve())

    @property
    def hosts(self) -> frozenset[str]:
        """Names that the Host header may have, without a port, in lower case."""
        return frozenset(name.lower() for name in (*LOCAL_HOSTS, self.host, *self.allow_hosts))


def default_state() -> Path:
    """Where state is kept if the operator does not say."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    else:
        base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "maskvat" / "serve"


def read_config(args: Namespace) -> ServerConfig:
    """The configuration that the flags give. Raises OptionError."""
    whole_number("port", args.port, 0, 65535)
    limits = Limits(
        upload_bytes=round(number("max-upload", args.max_upload, 0.001, 10**6) * MB),
        storage_bytes=round(number("max-storage", args.max_storage, 0.001, 10**6) * GB),
        free_bytes=round(number("min-free", args.min_free, 0, 10**6) * MB),
        video_seconds=number("max-seconds", args.max_seconds, 0.1, 6 * HOUR),
        queue=whole_number("max-queue", args.max_queue, 1, 10**5),
        per_client=whole_number("max-per-client", args.max_per_client, 1, 10**5),
        keep=number("keep", args.keep, 0.001, 10**5) * HOUR,
        stall=number("stall", args.stall, 1, 10**5),
        grace=number("grace", args.grace, 0, 10**4),
    )
    return ServerConfig(
        state=(args.state or default_state()).absolute(),
        host=args.host,
        port=args.port,
        allow_hosts=tuple(_host_name(name) for name in args.allow_host),
        allow_folders=tuple(_folder(path) for path in args.allow_folder),
        token=not args.no_token,
        open=args.open,
        trust_proxies=tuple(_network(text) for text in args.trust_proxy),
        workers=whole_number("workers", args.workers, 1, MAX_WORKERS),
        cards=_cards(args),
        worker_command=(*stdio_command(), *engine_flags(args)),
        limits=limits,
        engines=args.engines.absolute() if hasattr(args, "engines") else None,
    )


def stdio_command() -> tuple[str, ...]:
    """`maskvat stdio`. -P: a folder `runtime` where the server was started is not taken for ours."""
    if is_app():
        return (sys.executable, "stdio")
    return (sys.executable, "-P", "-m", "runtime.commands", "stdio")


def engine_flags(args: Namespace) -> list[str]:
    """The flags of `maskvat stdio` that choose the bundle and what runs it."""
    flags = [f"--backend={args.backend}", f"--precision={args.precision}", f"--threads={args.threads}"]
    return [*flags, f"--engines={args.engines.absolute()}"] if hasattr(args, "engines") else flags


def _host_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9.:-]+", name) or (re.search(r":\d+$", name) and name.count(":") == 1):
        raise OptionError(f"--allow-host {name!r}: give a name or an address, without scheme, port and *")
    return name


def _network(text: str) -> Network:
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise OptionError(
            f"--trust-proxy {text!r}: {error}; give the proxy's address or network, for example 10.1.2.0/24"
        ) from error
    if network.prefixlen == 0:
        raise OptionError(f"--trust-proxy {text}: every client could name any address; give the proxy's own")
    return network


def _cards(args: Namespace) -> tuple[str, ...]:
    """The cards of --cards. Raises OptionError."""
    if args.cards is None:
        return ()
    cards = tuple(args.cards.split(","))
    if not all(CARD.fullmatch(card) for card in cards) or len(set(cards)) < len(cards):
        raise OptionError(
            f"--cards {args.cards!r}: give each card once, as `nvidia-smi -L` numbers or names them, for example 0,1"
        )
    if args.backend == "cpu":
        raise OptionError("--cards with --backend cpu: a card would do nothing; drop one")
    if args.workers * len(cards) > MAX_WORKERS:
        raise OptionError(f"{len(cards)} cards with --workers {args.workers} each: at most {MAX_WORKERS} are allowed")
    return cards


def _folder(path: Path) -> Path:
    try:
        found = path.resolve(strict=True)
    except OSError as error:
        raise OptionError(f"--allow-folder {path}: {error.strerror or error}; give a folder that exists") from error
    if not found.is_dir():
        raise OptionError(f"--allow-folder {path} is not a folder")
    return found
