"""The exit status of a command, and the one line that explains it."""

import sys
from collections.abc import Callable

from engines.memory import MEMORY, short_of_memory
from runtime.commands import signals
from runtime.commands.standard_streams import drop_unread, say, usable, write
from runtime.errors import MaskVATError


def run_command(main: Callable[[], object], debug: bool) -> int:
    """Run a command and return its exit status: 0, 1 after an error, or 128 + the signal that stopped it.

    An error is one line on stderr, or a traceback with `debug`. Prints nothing more once the output has no reader.
    """
    try:
        main()
        if usable(sys.stdout):
            write(sys.stdout, "")
    except KeyboardInterrupt as stopped:
        say(signals.STOPPED)
        return getattr(stopped, "status", 130)
    except BrokenPipeError:
        drop_unread()
        return 1
    except (MaskVATError, OSError, MemoryError, ImportError, RuntimeError) as error:
        short = isinstance(error, MemoryError) or short_of_memory(str(error))
        if debug or not (short or isinstance(error, (MaskVATError, OSError))):
            raise
        say(f"error: {MEMORY if short and not isinstance(error, MaskVATError) else ' '.join(str(error).split())}")
        drop_unread()
        return 1
    finally:
        signals.finish()
    return 0
