"""Who sent a request, if a proxy passed it on."""

import ipaddress
from collections.abc import Iterable, Sequence

from runtime.serve.config import Network

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def client_address(peer: str, forwarded: Iterable[str], trusted: Sequence[Network]) -> str:
    """The address of the client. `peer`: who connected; `forwarded`: the headers X-Forwarded-For, in their order.

    Each proxy appends whom it was asked by, so the last entry is of the proxy that connected. Entries are followed
    from there, as long as the one who wrote them is a proxy in `trusted`: what stands before, anybody may have written.
    """
    found = _address(peer)
    if found is None:
        return peer  # a test's client, or a socket without an address
    entries = [entry for header in forwarded for entry in header.split(",")]
    while entries and any(found in network for network in trusted):
        entry = _address(entries.pop())
        if entry is None:  # the proxy does not know, or wrote something else
            break
        found = entry
    return str(found)


def _address(text: str) -> Address | None:
    """An address, also as "10.0.0.1:80" or "[::1]:80". An IPv4 address written as IPv6 is the IPv4 one."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found
