"""The duties of a server on a desk: hosts, origins, tokens, cookies, headers, the audit log."""

import inspect
import os
import stat
from collections.abc import Callable

import pytest

from runtime.errors import MaskVATError, OptionError
from runtime.serve import tokens
from runtime.serve.api.security import check_host, check_origin
from runtime.serve.app import ROUTES
from runtime.serve.config import ServerConfig
from runtime.serve.problems import Problem
from tests.support.serving import BASE, Serving

Start = Callable[..., Serving]
ADDRESSES = [(method, path.format(file_id="f", job_id="j", name="n")) for method, path in ROUTES]
HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


# ---------------------------------------------------------------- the Host header: DNS rebinding
@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "", "[::1", "a b"]
)
def test_a_foreign_host_is_refused_at_every_address(idle: Serving, host: str) -> None:
    for method, path in ADDRESSES:
        answer = idle.call(method, path, headers={"Host": host, "Origin": f"http://{host}"})
        assert answer.status_code == 400 and answer.json()["code"] == "wrong_host", (method, path)


def test_hosts_that_are_ours() -> None:
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1:8440", "[::1]:8440", "[::1]"):
        assert check_host([host], HOSTS) == host
    for given in ([], ["localhost", "evil.example"], ["localhost", "localhost"], ["localhost/evil"], ["localhost:x@y"]):
        with pytest.raises(Problem):
            check_host(given, HOSTS)


# ---------------------------------------------------------------- the Origin header: other pages
ORIGINS = ["null", "http://evil.example", "http://127.0.0.1:9999", "http://localhost:8440", "file://", "http://[", ""]


@pytest.mark.parametrize("origin", ORIGINS)
def test_a_foreign_origin_is_refused_at_every_address(idle: Serving, origin: str) -> None:
    for method, path in ADDRESSES:
        answer = idle.call(method, path, headers={"Origin": origin})
        assert answer.status_code == 403 and answer.json()["code"] == "wrong_origin", (method, path)


def test_origins_that_are_ours() -> None:
    check_origin([], "127.0.0.1:8440")
    check_origin(["http://127.0.0.1:8440"], "127.0.0.1:8440")
    check_origin(["https://sounds.example"], "sounds.example")  # behind a proxy
    check_origin(["https://sounds.example"], "sounds.example:443")
    with pytest.raises(Problem):
        check_origin(["http://sounds.example"], "sounds.example:443")


def test_no_other_page_may_read_answers(idle: Serving) -> None:
    for method in ("OPTIONS", "GET"):
        answer = idle.call(method, "/v1/jobs", headers={"Origin": BASE, "Access-Control-Request-Method": "POST"})
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]


# ---------------------------------------------------------------- tokens
OPEN = {"/", "/health", "/ready", "/v1/health", "/openapi.json", "/v1/session", "/page/n", "/page/vendor/n"}


def test_every_address_needs_the_token_except_those_that_say_nothing(idle: Serving) -> None:
    for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": f"Basic {idle.token}"}):
        for method, path in ADDRESSES:
            answer = idle.plain.request(method, path, headers=headers)
            if path in OPEN - {"/v1/session"}:
                expected = 503 if path == "/ready" else 404 if path.startswith("/page/") else 200
                assert answer.status_code == expected, path
            elif path != "/v1/session":
                assert answer.status_code == 401 and answer.json()["code"] == "not_signed_in", (method, path)
                assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_token_in_the_address_counts_for_nothing_and_is_not_logged(idle: Serving) -> None:
    for name in ("token", "access_token", "api_key", "key"):
        assert idle.plain.get(f"/v1/jobs?{name}={idle.token}").status_code == 401
    answer = idle.get(f"/v1/jobs?api_key={idle.token}&limit=5")  # as Pallaidium does
    assert answer.status_code == 200
    assert idle.token not in (idle.services.config.state / "audit.jsonl").read_text()


def test_the_token_file_is_private(idle: Serving) -> None:
    path = idle.services.tokens.path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert len(idle.token) >= 43  # 256 random bits
    for name in ("audit.jsonl", "incoming", "files", "jobs"):
        assert not stat.S_IMODE((path.parent / name).stat().st_mode) & 0o077
    again = tokens.Tokens(path)
    assert again.first() == idle.token


def test_token_files_that_are_refused(tmp_path) -> None:
    path = tmp_path / "tokens"
    tokens.Tokens(path)
    path.chmod(0o640)
    with pytest.raises(MaskVATError, match="chmod 600"):
        tokens.Tokens(path)
    path.chmod(0o600)
    for text in ("", "a short\n", f"a {'x' * 40}\na {'y' * 40}\n", "a\n", f"a b {'x' * 40}\n"):
        path.write_text(text)
        with pytest.raises(MaskVATError):
            tokens.Tokens(path)


def test_a_changed_token_file_counts_at_once(idle: Serving) -> None:
    path = idle.services.tokens.path
    path.write_text(f"new {'n' * 40}\n")
    assert idle.get("/v1/jobs").status_code == 401
    assert idle.plain.get("/v1/jobs", headers={"Authorization": f"Bearer {'n' * 40}"}).status_code == 200
    path.chmod(0o644)
    os.utime(path, (1, 1))
    assert idle.plain.get("/v1/jobs", headers={"Authorization": f"Bearer {'n' * 40}"}).status_code == 401


def test_tokens_are_compared_in_constant_time(idle: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(tokens.hmac, "compare_digest", lambda a, b: seen.append((a, b)) or a == b)
    path = idle.services.tokens.path
    path.write_text(f"{path.read_text()}b {'b' * 40}\nc {'c' * 40}\n")
    assert idle.get("/v1/jobs").status_code == 200
    assert len(seen) == 3  # all are compared, also after the right one
    assert "==" not in inspect.getsource(tokens.Tokens.name_of)


def test_without_tokens_only_this_machine(tmp_path, start: Start) -> None:
    for host in ("0.0.0.0", "192.168.1.5", "::", "sounds.example"):
        with pytest.raises(OptionError, match="--no-token"):
            ServerConfig(tmp_path, host=host, token=False, allow_hosts=("a",))
    with pytest.raises(OptionError, match="--allow-host"):
        ServerConfig(tmp_path, host="0.0.0.0")
    server = start(workers=0, token=False)
    assert server.plain.get("/v1/jobs").status_code == 200
    assert server.plain.get("/v1/jobs", headers={"Origin": "http://evil.example"}).status_code == 403


# ---------------------------------------------------------------- the page's session
def test_a_page_signs_in_with_a_code_once(idle: Serving) -> None:
    code = idle.services.sessions.new_code("local")
    answer = idle.plain.post("/v1/session", json={"code": code}, headers={"Origin": BASE})
    assert answer.status_code == 201 and answer.json()["client"] == "local"
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("maskvat_8440=") and "HttpOnly" in cookie and "SameSite=strict" in cookie
    assert idle.token not in cookie and code not in cookie
    assert idle.plain.get("/v1/jobs").status_code == 200  # the test client keeps cookies
    assert idle.plain.post("/v1/session", json={"code": code}, headers={"Cookie": ""}).status_code in (201, 401)
    assert idle.services.sessions.exchange(code) is None
    assert idle.plain.get("/v1/jobs", headers={"Origin": "http://evil.example"}).status_code == 403
    assert idle.plain.delete("/v1/session").status_code == 204
    idle.plain.cookies.clear()
    assert idle.plain.get("/v1/jobs").status_code == idle.plain.get("/v1/session").status_code == 401
    assert idle.plain.post("/v1/session", json={"code": "x"}).status_code == 401


def test_a_cookie_that_was_signed_out_is_worth_nothing(idle: Serving) -> None:
    answer = idle.post("/v1/session")
    value = answer.cookies["maskvat_8440"]
    idle.plain.cookies.clear()
    assert idle.plain.get("/v1/jobs", headers={"Cookie": f"maskvat_8440={value}"}).status_code == 200
    idle.plain.delete("/v1/session", headers={"Cookie": f"maskvat_8440={value}"})
    assert idle.plain.get("/v1/jobs", headers={"Cookie": f"maskvat_8440={value}"}).status_code == 401


def test_a_cookie_ends_with_its_token_and_does_not_renew_itself(idle: Serving) -> None:
    cookie = {"Cookie": f"maskvat_8440={idle.post('/v1/session').cookies['maskvat_8440']}"}
    idle.plain.cookies.clear()
    code = idle.services.sessions.new_code("local")
    assert idle.plain.get("/v1/jobs", headers=cookie).status_code == 200
    assert idle.plain.post("/v1/session", json={}, headers=cookie).status_code == 401
    for text in (f"local {'n' * 40}\n", f"other {'o' * 40}\n"):  # another token of the same name, then none
        idle.services.tokens.path.write_text(text)
        assert idle.plain.get("/v1/jobs", headers=cookie).status_code == 401
        assert idle.plain.post("/v1/session", json={"code": code}).status_code == 401


def test_a_program_gets_a_code_for_a_browser_and_a_page_gets_none(idle: Serving) -> None:
    code = idle.post("/v1/session/code").json()["code"]
    assert idle.plain.post("/v1/session", json={"code": code}).json()["client"] == "local"
    assert idle.plain.post("/v1/session/code").status_code == 401  # the cookie alone
    assert idle.plain.post("/v1/session", json={"code": code}, headers={"Cookie": ""}).status_code == 401


def test_codes_and_cookies_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = tokens.Sessions(lambda client: b"a hash")
    code, cookie = sessions.new_code("a"), sessions.new_cookie("a")
    now = tokens.time.monotonic()
    monkeypatch.setattr(tokens.time, "monotonic", lambda: now + tokens.SESSION + 1)
    assert sessions.exchange(code) is None and sessions.client_of(cookie) is None


# ---------------------------------------------------------------- answers and bodies
def test_headers_of_every_answer(idle: Serving) -> None:
    for method, path in [*ADDRESSES, ("GET", "/nothing"), ("PATCH", "/v1/jobs")]:
        answer = idle.call(method, path)
        assert answer.headers["x-content-type-options"] == "nosniff", path
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-frame-options"] == "DENY" and answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers


def test_a_form_of_another_page_cannot_ask_for_jobs(idle: Serving) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        for path in ("/v1/jobs", "/v1/videos"):
            answer = idle.post(path, content=b'{"file_id": "x"}', headers={"Content-Type": kind})
            assert answer.status_code == 415 and answer.json()["code"] == "wrong_content_type"


def test_bodies_that_are_too_long_or_no_json(idle: Serving) -> None:
    kind = {"Content-Type": "application/json"}
    assert idle.post("/v1/jobs", content=b"x" * 70000, headers=kind).status_code == 413
    told = idle.post("/v1/jobs", content=b"{}", headers=kind | {"Content-Length": "99999999999"})
    assert told.status_code == 413  # before a byte is read
    for body in (b"{", b"[]", b"\xff", b"[" * 60000, b"1"):
        answer = idle.post("/v1/jobs", content=body, headers=kind)
        assert answer.status_code == 400 and answer.json()["code"] == "bad_request", body[:10]


def test_unknown_addresses_and_methods(idle: Serving) -> None:
    assert idle.get("/v1/nothing").json()["code"] == "not_found"
    answer = idle.call("PATCH", "/v1/jobs")
    assert answer.status_code == 405 and answer.headers["allow"] == "GET, HEAD, POST"


def test_a_mistake_is_told_without_its_details(idle: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle.services.store, "files", lambda client: 1 / 0)
    answer = idle.get("/v1/files")
    assert answer.status_code == 500 and answer.json()["code"] == "internal_error" and "Zero" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


# ---------------------------------------------------------------- the audit log
def test_the_audit_log_has_who_and_what_but_no_contents(server: Serving) -> None:
    file_id = server.upload(b"secret bytes", "secret name.mp4")
    job = server.do(file_id=file_id, label="secret label")
    server.get(job["results"][0]["url"])
    server.delete(f"/v1/jobs/{job['id']}")
    server.plain.get("/v1/files")
    server.get("/health")
    lines = server.audit()
    seen = [(line["who"], line["action"].replace(job["id"], "ID"), line.get("status")) for line in lines]
    assert seen == [
        ("local", "POST /v1/files", 201),
        ("local", "POST /v1/jobs", 201),
        ("server", "job succeeded", None),
        ("local", "GET /v1/jobs/ID/results/sound.wav", 200),
        ("local", "DELETE /v1/jobs/ID", 204),
        ("unknown", "GET /v1/files", 401),
    ]
    assert lines[0]["target"] == file_id and lines[1]["target"] == lines[2]["target"] == job["id"]
    text = (server.services.config.state / "audit.jsonl").read_text()
    assert "secret" not in text and server.token not in text
