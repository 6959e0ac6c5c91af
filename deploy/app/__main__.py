"""`python -m deploy.app`: see `deploy.app.build`."""

import sys

from deploy.app.build import main

if __name__ == "__main__":
    sys.exit(main())
