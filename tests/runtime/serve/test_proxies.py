"""Behind a proxy: X-Forwarded-For counts only if the operator names the proxy, and only what that proxy wrote."""

from collections.abc import Callable
from ipaddress import ip_network

import pytest
from starlette.testclient import TestClient

from runtime.errors import OptionError
from runtime.serve.api.addresses import client_address
from runtime.serve.command import get_serve_parser
from runtime.serve.config import read_config
from tests.support.serving import BASE, Serving

PROXIES = tuple(map(ip_network, ("127.0.0.1/32", "10.1.0.0/16", "::1/128")))


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    [
        ("127.0.0.1", ["203.0.113.7"], "203.0.113.7"),
        ("203.0.113.9", ["203.0.113.7"], "203.0.113.9"),  # the client itself sent the header
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", ["6.6.6.6, 203.0.113.7"], "203.0.113.7"),  # the client lied, the proxy appended
        ("127.0.0.1", ["6.6.6.6", "203.0.113.7"], "203.0.113.7"),  # in two headers
        ("127.0.0.1", ["6.6.6.6, 203.0.113.7, 10.1.2.3"], "203.0.113.7"),  # through two proxies
        ("127.0.0.1", ["10.1.2.3"], "10.1.2.3"),  # a proxy asks for itself
        ("127.0.0.1", ["127.0.0.1, 10.1.2.3"], "127.0.0.1"),
        ("127.0.0.1", ["203.0.113.7, unknown"], "127.0.0.1"),  # what stands before nonsense counts for nothing
        ("127.0.0.1", ["203.0.113.7,"], "127.0.0.1"),
        ("127.0.0.1", ['"><script>'], "127.0.0.1"),
        ("127.0.0.1", ["203.0.113.7:4711"], "203.0.113.7"),
        ("::1", ["[2001:db8::5]:4711"], "2001:db8::5"),
        ("::ffff:127.0.0.1", ["2001:db8::5"], "2001:db8::5"),  # a socket for both kinds of addresses
        ("127.0.0.1", ["::ffff:203.0.113.7"], "203.0.113.7"),
        ("testclient", ["203.0.113.7"], "testclient"),
        ("", ["203.0.113.7"], ""),
    ],
)
def test_the_address_of_the_client(peer: str, forwarded: list[str], found: str) -> None:
    assert client_address(peer, forwarded, PROXIES) == found
    assert client_address(peer, forwarded, ()) in (peer, peer.removeprefix("::ffff:"))


@pytest.mark.parametrize(
    ("flags", "found"),
    [((), "127.0.0.1"), (("127.0.0.1",), "203.0.113.7"), (("10.1.0.0/16",), "127.0.0.1")],
    ids=["nobody is trusted", "the proxy is", "another one is"],
)
def test_the_audit_log(start: Callable[..., Serving], flags: tuple[str, ...], found: str) -> None:
    server = start(workers=0, trust_proxies=tuple(map(ip_network, flags)))
    proxy = TestClient(server.plain.app, BASE, client=("127.0.0.1", 50000))
    headers = {"X-Forwarded-For": "6.6.6.6, 203.0.113.7"}
    assert proxy.post("/v1/files?name=a.mp4", content=b"x", headers=server.headers | headers).status_code == 201
    proxy.post("/v1/files?name=a.mp4", content=b"x", headers=headers)  # without a token
    assert [(line["who"], line["address"]) for line in server.audit()[-2:]] == [("local", found), ("unknown", found)]


def test_flags() -> None:
    args = get_serve_parser().parse_args(["--trust-proxy", "127.0.0.1", "--trust-proxy", "fd00::/8"])
    assert read_config(args).trust_proxies == (ip_network("127.0.0.1/32"), ip_network("fd00::/8"))


@pytest.mark.parametrize("text", ["proxy.example", "10.1.2.3/8", "0.0.0.0/0", "::/0", "*", "", "10.1.2.3:80"])
def test_what_is_no_proxy_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match=r"--trust-proxy.*give the proxy's"):
        read_config(get_serve_parser().parse_args([f"--trust-proxy={text}"]))
