"""The command `maskvat serve`: its flags. What needs the extra `serve` is imported late, so that it can say so."""

import argparse
import logging
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from runtime.commands.make import StderrLog, add_engine_options
from runtime.commands.option_groups import FlagGroups, HelpFormatter
from runtime.commands.standard_streams import open_missing
from runtime.commands.status import run_command
from runtime.errors import OptionError

NEEDED = ("starlette", "uvicorn", "h11", "python_multipart", "prometheus_client")


def get_serve_parser(prog: str = "maskvat serve") -> argparse.ArgumentParser:
    """The parser of `maskvat serve`."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Serve sounds to pages, editors and other machines. docs/SERVER.md is the guide.",
        formatter_class=HelpFormatter,
    )
    groups = FlagGroups(parser)
    _add_access(parser)
    _add_limits(parser)
    add = groups("what runs it")
    add_engine_options(add)
    add("--cards", metavar="N,N", help="NVIDIA GPUs that share the queue, as `nvidia-smi -L` numbers or names them")
    parser.add_argument("--debug", action="store_true", help="log more, and show the traceback of an error")
    return parser


def _add_access(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("who may use it").add_argument
    add("--host", default="127.0.0.1", help="address to listen at; others than this machine need a token")
    add("--port", type=int, metavar="N", default=8440, help="port to listen at; 0 lets the system choose")
    add("--allow-host", action="append", default=[], metavar="NAME",
        help="further name or address that clients use for this server, for example a proxy's")  # fmt: skip
    add("--trust-proxy", action="append", default=[], metavar="ADDRESS",
        help="address or network of a proxy whose X-Forwarded-For names the client for the audit log")  # fmt: skip
    add("--no-token", action="store_true", help="let every program of this machine use the server")
    add("--open", action="store_true",
        help="open the page in this machine's browser; if the server runs already, open its page and end")  # fmt: skip
    add("--allow-folder", type=Path, action="append", default=[], metavar="FOLDER",
        help="let clients name videos in this folder by their path")  # fmt: skip
    add("--state", type=Path, metavar="FOLDER",
        help="folder for tokens, uploads and jobs (default: maskvat/serve in the user's state folder)")  # fmt: skip


def _add_limits(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("limits").add_argument
    add("--workers", type=int, metavar="N", default=1,
        help="processes that make sounds, 1 to 64; with --cards: of each card. Each opens the bundle")  # fmt: skip
    add("--max-upload", type=float, metavar="MB", default=2000.0, help="size of an upload")
    add(
        "--max-storage",
        type=float,
        metavar="GB",
        default=20.0,
        help="size of uploads and results",
    )
    add("--min-free", type=float, metavar="MB", default=500.0, help="what stays free on the disk")
    add("--max-seconds", type=float, metavar="SECONDS", default=600.0, help="length of a video")
    add("--max-queue", type=int, metavar="N", default=200, help="jobs that wait")
    add("--max-per-client", type=int, metavar="N", default=50, help="jobs of one token that wait or run")
    add("--keep", type=float, metavar="HOURS", default=24.0, help="time after which uploads and results are deleted")
    add("--stall", type=float, metavar="SECONDS", default=300.0, help="time without progress that ends a worker")
    add("--grace", type=float, metavar="SECONDS", default=30.0,
        help="time that running jobs get when the server is stopped; then they wait for the next start")  # fmt: skip


def process(argv: Sequence[str], prog: str = "maskvat serve") -> int:
    """Run the server as a process of its own. Returns its exit status."""
    open_missing()
    os.umask(0o077)  # uploads, jobs and tokens are nobody else's business
    args = get_serve_parser(prog).parse_args(argv)
    logging.basicConfig(
        level=logging.DEBUG if args.debug else logging.INFO, format="%(message)s", handlers=[StderrLog()]
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def run() -> None:
        from runtime.serve.config import read_config

        config = read_config(args)
        try:
            from runtime.serve.start import run_server
        except ModuleNotFoundError as error:
            if error.name in NEEDED:
                text = f"{error.name} is not installed; install it with `pip install 'maskvat[serve]'`"
                raise OptionError(text) from error
            raise
        run_server(config)

    return run_command(run, args.debug)
