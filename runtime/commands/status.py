"""The exit status of a command, and the one line that explains it."""

import sys
from collections.abc import Callable
from contextlib import suppress

from engines.advice import MEMORY, short_of_memory
from runtime.commands import signals
from runtime.commands.standard_streams import drop_unread, say, usable, write
from runtime.errors import MaskVATError


def describe_error(error: BaseException) -> tuple[str, str]:
    """The stable code of an error for programs, and its message as one line, with the error's notes."""
    if not isinstance(error, MaskVATError) and (isinstance(error, MemoryError) or short_of_memory(str(error))):
        return "out_of_memory", MEMORY
    code = "system_error" if isinstance(error, OSError) else "internal_error"
    text = "; ".join([str(error), *getattr(error, "__notes__", ())])
    return getattr(error, "code", code) if isinstance(error, MaskVATError) else code, " ".join(text.split())


def run_command(
    main: Callable[[], object], debug: bool, on_error: Callable[[str, str], None] = lambda code, message: None
) -> int:
    """Run a command and return its exit status: 0, 1 after an error, or 128 + the signal that stopped it.

    An error is one line on stderr, or a traceback with `debug`; `on_error` gets its code and message, too. Prints
    nothing more once the output has no reader.
    """
    try:
        main()
        if usable(sys.stdout):
            write(sys.stdout, "")
    except KeyboardInterrupt as stopped:
        notes = getattr(stopped, "__notes__", ())
        text = "; ".join(["stopped", *notes]) if notes else signals.STOPPED
        say(text)
        with suppress(OSError, ValueError):
            on_error("stopped", text)
        return getattr(stopped, "status", 130)
    except BrokenPipeError:
        drop_unread()
        return 1
    except (MaskVATError, OSError, MemoryError, ImportError, RuntimeError) as error:
        code, text = describe_error(error)
        with suppress(OSError, ValueError):
            on_error(code, text)
        if debug or code == "internal_error":
            raise
        say(f"error: {text}")
        drop_unread()
        return 1
    finally:
        signals.finish()
    return 0
