"""Videos that are named by their path: only inside of allowed folders, links included."""

import os
import stat
from pathlib import Path

from runtime.serve.config import ServerConfig
from runtime.serve.problems import Problem


def allowed_path(given: object, config: ServerConfig) -> Path:
    """The real path of a regular file inside of an allowed folder. Raises Problem.

    The answer for a path outside is the same whether it exists or not.
    """
    if not config.allow_folders:
        raise Problem("path_not_allowed", "this server takes no paths (--allow-folder); upload the file instead")
    if not isinstance(given, str) or not os.path.isabs(given) or "\0" in given:
        raise Problem("option_error", "path is not an absolute path")
    try:
        real = Path(given).resolve()  # follows every link
        inside = config.may_read(real)
    except (OSError, RuntimeError, ValueError):
        inside = False
    if not inside:
        raise Problem("path_not_allowed", f"{given[:200]!r} is not in a folder that this server may read")
    try:
        is_file = stat.S_ISREG(real.stat().st_mode)
    except OSError:
        is_file = False
    if not is_file:
        raise Problem("not_found", f"{given[:200]!r} is not a file that can be read")
    return real
