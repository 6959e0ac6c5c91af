"""`python -m runtime.infer video.mp4`: make a sound for a silent video.

The console script `maskvat` does the same and more: see `runtime.commands.subcommands`.

`runtime.commands.make` does the work. It is imported late, because a signal or a crash may come while libraries load.
"""

import sys
from collections.abc import Sequence
from signal import SIG_DFL, SIGINT, default_int_handler, getsignal, signal


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command inside of the caller's process. Returns its exit status: 0, 1 after an error, 130 after Ctrl-C.

    Nothing of the process changes: no signal handler, no logging, no other process.
    """
    from runtime.commands.make import main as run

    return run(argv)


def process() -> int:
    """Run the command as a process of its own: with signal handlers, log lines on stderr, and contained crashes."""
    if getsignal(SIGINT) is default_int_handler:
        signal(SIGINT, SIG_DFL)  # while there is nothing to clean up, end without a traceback
    from runtime.commands.crash_guard import run_guarded

    def run() -> int:
        from runtime.commands.make import standalone

        return standalone()

    return run_guarded(run, "--debug" in sys.argv)


if __name__ == "__main__":
    sys.exit(process())
