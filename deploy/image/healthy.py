"""The health check of the image: exit status 0 if the server answers. The image has no curl.

Only `/health` counts. A server that opens its bundle is not ready (`/ready`), but to restart it would not help.
"""

import sys
import urllib.request

ADDRESS = "http://127.0.0.1:8440/health"

try:
    urllib.request.urlopen(sys.argv[1] if len(sys.argv) > 1 else ADDRESS, timeout=5).close()
except OSError as error:  # also what is not 200
    sys.exit(f"the server does not answer: {error}")
