"""What the app runs: `maskvat`, as the console script does."""

import os
import sys

# The app's libraries are for itself: a browser that it starts needs the system's. Its own workers find them anew.
if "LD_LIBRARY_PATH_ORIG" in os.environ:
    os.environ["LD_LIBRARY_PATH"] = os.environ.pop("LD_LIBRARY_PATH_ORIG")
else:
    os.environ.pop("LD_LIBRARY_PATH", None)
os.environ["PYINSTALLER_RESET_ENVIRONMENT"] = "1"

from runtime.commands.subcommands import process

sys.exit(process())
