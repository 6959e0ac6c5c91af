"""`mux` and `check_container` under the name that host programs import; the code is in runtime.deliver."""

from runtime.deliver.mux import CONTAINERS, Container, Existing, check_container, mux

__all__ = ["CONTAINERS", "Container", "Existing", "check_container", "mux"]
