"""Signing in to the server, over HTTP."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="bcd-edge[serve] is not installed")
httpx = pytest.importorskip("httpx", reason="needs an HTTP client")

from click.testing import CliRunner, Result  # noqa: E402
from starlette.applications import Starlette  # noqa: E402
from starlette.exceptions import HTTPException  # noqa: E402
from starlette.middleware import Middleware  # noqa: E402
from starlette.requests import Request  # noqa: E402
from starlette.responses import PlainTextResponse, Response  # noqa: E402
from starlette.routing import Route  # noqa: E402

from bcd_edge.cli import main  # noqa: E402
from bcd_edge.results import audit, users  # noqa: E402
from bcd_edge.results.folder import Results  # noqa: E402
from bcd_edge.serve import accounts, security  # noqa: E402
from bcd_edge.serve.accounts import Accounts  # noqa: E402
from bcd_edge.serve.auth import requires  # noqa: E402
from bcd_edge.serve.settings import Settings  # noqa: E402
from bcd_edge.serve.store import Store  # noqa: E402

PASSWORD = "four random words"
BASE = "http://localhost"


@requires("reviewer")
async def decide(request: Request) -> Response:
    """What only a reviewer may do."""
    person = request.state.person
    return PlainTextResponse(f"{person.name} {person.csrf or ''}")


class Server:
    """The routes of `Accounts` and one that needs a role, called without a network."""

    def __init__(self, root: Path, *, is_local: bool = True, is_encrypted: bool = False, timeout_s: float = 60.0) -> None:
        self.store = Store(root)
        self.accounts = Accounts(self.store, is_local=is_local, is_encrypted=is_encrypted)
        self.app = Starlette(
            routes=[*self.accounts.routes(), Route("/decide", decide, methods=["GET", "POST"])],
            middleware=[Middleware(security.Guard, settings=Settings(root, hosts=("localhost",), timeout_s=timeout_s))],
            exception_handlers={HTTPException: security.http_error},
        )
        self.app.state.authenticator = self.accounts
        self.cookies = httpx.Cookies()

    def ask(self, method: str, path: str, *, address: str = "10.0.0.7", cookies: bool = True, **more: object) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, client=(address, 1))
            async with httpx.AsyncClient(transport=transport, base_url=BASE, cookies=self.cookies if cookies else None) as client:
                response = await client.request(method, path, **more)
                self.cookies.update(client.cookies)
                return response

        return asyncio.run(ask())

    def sign_in(self, name: str = "Dr Rao", password: str = PASSWORD, **more: object) -> httpx.Response:
        fields = {"name": name, "password": password, "next": more.pop("target", "/")}
        return self.ask("POST", "/login", data=fields, **more)

    def csrf(self) -> str:
        return self.ask("GET", "/decide").text.split()[-1]

    def close(self) -> None:
        self.accounts.close()
        self.store.close()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(users.SCRYPT, "n", 2**4)  # the cost has a test of its own
    with Results.open(tmp_path / "results") as results:
        users.add(results, "Dr Rao", "reviewer", PASSWORD, by="root")
        users.add(results, "Chief", "admin", PASSWORD, by="root")
        users.add(results, "scanner", "submitter", None, by="root")
    return tmp_path / "results"


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    server = Server(folder)
    yield server
    server.close()


def changed(folder: Path, act: Callable[[Results], object]) -> object:
    with Results.open(folder) as results:
        return act(results)


def test_a_reader_signs_in_decides_and_signs_out(server: Server) -> None:
    response = server.sign_in(target="/queue?state=open")
    assert (response.status_code, response.headers["location"]) == (303, "/queue?state=open")
    cookie = response.headers["set-cookie"].lower()
    assert all(word in cookie for word in ("httponly", "samesite=strict", "path=/"))
    assert server.ask("GET", "/decide").text.startswith("Dr Rao ")
    assert server.ask("POST", "/decide", headers={"X-CSRF-Token": server.csrf()}).status_code == 200
    assert server.ask("POST", "/decide", data={"csrf": server.csrf()}).status_code == 200
    assert server.ask("POST", "/logout", data={"csrf": server.csrf()}).status_code == 303
    assert server.ask("GET", "/decide").status_code == 401


def test_a_stolen_cookie_ends_with_the_session(server: Server) -> None:
    server.sign_in()
    stolen = dict(server.cookies)
    server.ask("POST", "/logout", data={"csrf": server.csrf()})
    server.cookies.update(stolen)
    assert server.ask("GET", "/decide").status_code == 401


@pytest.mark.parametrize("given", [{}, {"headers": {"X-CSRF-Token": "0" * 64}}, {"data": {"csrf": "0" * 64}}, {"json": {"csrf": "x"}}])
def test_a_change_without_the_sessions_token_is_refused(server: Server, given: dict[str, object]) -> None:
    server.sign_in()
    assert server.ask("POST", "/decide", **given).status_code == 403
    assert server.ask("POST", "/logout", **given).status_code == 403
    assert server.ask("GET", "/decide").status_code == 200


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}]
)
def test_another_site_cannot_sign_a_reader_in(server: Server, headers: dict[str, str]) -> None:
    assert server.sign_in(headers=headers).status_code == 403
    assert not server.cookies


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "evil.example:80", "127.0.0.2", ""])
def test_a_name_that_was_pointed_here_is_refused(server: Server, host: str) -> None:
    server.sign_in()
    assert server.ask("GET", "/decide", headers={"Host": host}).status_code == 421


def test_known_and_unknown_names_are_refused_alike(server: Server) -> None:
    refused = [server.sign_in(name, "wrong " * 3) for name in ("Dr Rao", "Dr No", "scanner")]
    assert [response.status_code for response in refused] == [401] * 3
    assert len({response.text for response in refused}) == 1


def test_guessing_is_slowed_down_and_says_for_how_long(server: Server) -> None:
    codes = [server.sign_in(password="wrong " * 3).status_code for _ in range(7)]
    assert codes == [401] * 5 + [429] * 2
    response = server.sign_in()
    assert response.status_code == 429
    assert int(response.headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "/\t/evil.example", "", "\\\\evil.example"]
)
def test_signing_in_leads_nowhere_else(server: Server, target: str) -> None:
    assert server.sign_in(target=target).headers["location"] == "/"


def test_markup_in_a_link_to_the_form_is_text_in_each_language(server: Server) -> None:
    for language, word in (("en", "Password"), ("fr", "Mot de passe")):
        page = server.ask("GET", "/login", params={"next": '/"><script>alert(1)</script>', "language": language})
        assert "<script" not in page.text
        assert word in page.text


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        (b"name=a&password=b", "application/json", 400),
        (b"name=" + b"a" * 70_000, "application/x-www-form-urlencoded", 413),
        (b"&".join(b"a=b" for _ in range(200)), "application/x-www-form-urlencoded", 400),
        (b"name=%ff%00&password=%ff", "application/x-www-form-urlencoded", 401),
        (b"", "application/x-www-form-urlencoded", 401),
    ],
)
def test_odd_forms_are_refused(server: Server, body: bytes, kind: str, code: int) -> None:
    assert server.ask("POST", "/login", content=body, headers={"Content-Type": kind}).status_code == code


def test_a_form_that_never_ends_is_given_up(folder: Path) -> None:
    async def dripping() -> object:
        yield b"name=a"
        await asyncio.sleep(30)

    server = Server(folder, timeout_s=0.05)
    response = server.ask("POST", "/login", content=dripping(), headers={"Content-Type": accounts.FORM})
    assert response.status_code == 408
    server.close()


def test_a_machine_needs_no_form_token_and_has_no_session(server: Server, folder: Path) -> None:
    changed(folder, lambda results: users.change(results, "scanner", by="root", role="reviewer"))
    token = changed(folder, lambda results: users.add_token(results, "scanner", by="root"))
    headers = {"Authorization": f"Bearer {token}"}
    assert server.ask("POST", "/decide", headers=headers).text == "scanner "
    assert server.ask("POST", "/logout", headers=headers).status_code == 400
    changed(folder, lambda results: users.revoke_token(results, 1, by="root"))
    refused = server.ask("POST", "/decide", headers=headers)
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize("header", ["Bearer", "Bearer ", "Bearer bcd_x", "Basic RHIgUmFvOng=", "bearer \xff", "x"])
def test_a_wrong_token_is_nobody_even_beside_a_session(server: Server, header: str) -> None:
    server.sign_in()
    assert server.ask("GET", "/decide", headers={"Authorization": header.encode("latin-1")}).status_code == 401


def test_roles_are_kept_apart_and_an_admin_may_do_everything(server: Server, folder: Path) -> None:
    token = changed(folder, lambda results: users.add_token(results, "scanner", by="root"))
    assert server.ask("GET", "/decide", headers={"Authorization": f"Bearer {token}"}).status_code == 403
    server.sign_in("chief")
    assert server.ask("GET", "/decide").text.startswith("Chief ")


def test_the_link_of_whoever_started_the_server_works_once(server: Server, folder: Path) -> None:
    link = server.accounts.link
    assert server.ask("GET", "/login?token=wrong").status_code == 401
    assert server.ask("GET", link).headers["location"] == "/"
    assert server.ask("GET", "/decide").status_code == 200
    assert server.ask("GET", link, cookies=False).status_code == 401
    assert server.accounts.link is None
    actions = changed(folder, lambda results: [entry.action for entry in audit.entries(results.journal.connection, after=3)])
    assert actions == ["user added", "sign in"]


def test_where_others_reach_the_server_there_is_no_link_and_cookies_are_for_https(folder: Path) -> None:
    server = Server(folder, is_local=False, is_encrypted=True)
    assert server.accounts.link is None
    cookie = server.sign_in().headers["set-cookie"]
    assert cookie.startswith("__Host-")
    assert "secure" in cookie.lower()
    server.close()


def test_a_browser_without_a_session_is_led_to_the_form_and_back(server: Server) -> None:
    response = server.ask("GET", "/decide", headers={"Accept": "text/html"})
    assert (response.status_code, response.headers["location"]) == (303, "/login?next=/decide")
    assert 'value="/decide"' in server.ask("GET", "/login?next=/decide").text


def run(*arguments: object, given: str = "") -> Result:
    """A command in this process, which is started once for all of them."""
    before = os.umask(0o022)
    try:
        return CliRunner().invoke(main, [*map(str, arguments)], input=given)
    finally:
        os.umask(before)


def test_users_tokens_and_audit_on_the_command_line(tmp_path: Path) -> None:
    root = tmp_path / "results"
    assert run("serve", "user", "add", "Dr Rao", root, "--role", "reviewer", given=f"{PASSWORD}\n").stdout == "Dr Rao may sign in as reviewer.\n"
    assert "There is a user Dr Rao already" in run("serve", "user", "add", "dr rao", root, "--role", "admin", given=f"{PASSWORD}\n").stderr
    assert "serve token add scanner" in run("serve", "user", "add", "scanner", root, "--role", "submitter", "--machine").stdout
    token = run("serve", "token", "add", "scanner", root, "--expires", "90d").stdout.strip()
    assert run("serve", "user", "list", root).stdout == "Dr Rao\treviewer\tpassword\nscanner\tsubmitter\t1 token\n"
    assert re.match(r"1\tscanner\tvalid until \d{4}-", run("serve", "token", "list", root).stdout)
    with Results.open(root) as results:
        assert users.matches(PASSWORD, users.password_of(results.journal.connection, "Dr Rao"))
        assert users.by_token(results.journal.connection, token, 0).name == "scanner"
    verified = run("serve", "audit", "verify", root)
    assert re.fullmatch(r"3 entries; head 3:[0-9a-f]{64}\n", verified.stdout)
    assert run("serve", "audit", "verify", root, "--head", verified.stdout.split()[-1]).exit_code == 0
    assert run("serve", "audit", "verify", root, "--head", f"4:{'0' * 64}").exit_code == 1
    assert "user added\tDr Rao\trole=reviewer" in run("serve", "audit", "list", root, "--about", "Dr Rao").stdout


def test_an_address_that_others_reach_needs_users_and_encryption(tmp_path: Path) -> None:
    root = tmp_path / "results"
    assert "no users are known" in run("serve", root, "--address", "0.0.0.0").stderr
    run("serve", "user", "add", "Chief", root, "--role", "admin", given=f"{PASSWORD}\n")
    assert "unencrypted" in run("serve", root, "--address", "0.0.0.0").stderr


@pytest.mark.skipif(
    os.name != "posix" or subprocess.run(["which", "openssl"], capture_output=True).returncode != 0, reason="makes a certificate by openssl"
)
def test_a_server_with_tls_lets_its_users_in(tmp_path: Path) -> None:
    root, certificate, key = tmp_path / "results", tmp_path / "cert.pem", tmp_path / "key.pem"
    options = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1", "-addext", "subjectAltName=DNS:localhost"]
    make = ["openssl", "req", "-x509", "-subj", "/CN=localhost", *options, "-out", str(certificate), "-keyout", str(key)]
    subprocess.run(make, check=True, capture_output=True)
    run("serve", "user", "add", "Chief", root, "--role", "admin", given=f"{PASSWORD}\n")
    other = tmp_path / "other.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ED25519", "-out", str(other)], check=True, capture_output=True)
    for wrong in (other, root / "journal.sqlite3"):
        refused = run("serve", root, "--address", "0.0.0.0", "--certificate", certificate, "--key", wrong)
        assert (refused.exit_code, "cannot be used with the key" in refused.stderr) == (2, True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    tls = ["--certificate", str(certificate), "--key", str(key), "--provider", "null"]
    command = [sys.executable, "-m", "bcd_edge", "serve", str(root), "--address", "0.0.0.0", "--port", str(port), *tls]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == f"Open https://0.0.0.0:{port}/\n"
            with httpx.Client(base_url=f"https://localhost:{port}", verify=ssl.create_default_context(cafile=certificate)) as client:
                assert client.post("/login", data={"name": "Chief", "password": "wrong " * 3}).status_code == 401
                assert client.post("/login", data={"name": "Chief", "password": PASSWORD}).status_code == 303
                assert client.get("/metrics").status_code == 200
        finally:
            process.terminate()
    assert process.returncode == 0
