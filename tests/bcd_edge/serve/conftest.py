"""A server on a folder of results, called without a network, and one as a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import pytest

pytest.importorskip("starlette", reason="bcd-edge[serve] is not installed")
pytest.importorskip("httpx", reason="needs an HTTP client")

from starlette.testclient import TestClient

from bcd_edge.classifier import Classifier
from bcd_edge.options import RunOptions
from bcd_edge.results import users
from bcd_edge.results.folder import Results
from bcd_edge.serve import app
from bcd_edge.serve.accounts import Accounts
from bcd_edge.serve.engine import Engine
from bcd_edge.serve.settings import Settings
from bcd_edge.serve.store import Store
from bcd_edge.synthetic import tissue

ROLES = ("submitter", "reviewer", "admin")
NULL = RunOptions(provider="null")


def png(seed: int, side: int = 96) -> bytes:
    return cv2.imencode(".png", tissue(seed, height=side, width=side, glands=1, scattered=20)[..., ::-1])[1].tobytes()


def tokens(root: Path) -> dict[str, str]:
    """An account and a token for each role, and a second reviewer."""
    with Results.open(root) as results:
        for name, role in [*((role, role) for role in ROLES), ("second", "reviewer")]:
            users.add(results, name, role, None, by="a test")
        return {name: users.add_token(results, name, by="a test") for name in (*ROLES, "second")}


@dataclass
class Server:
    """`client` has no credentials; `as_` gives the header of a role."""

    root: Path
    client: TestClient
    tokens: dict[str, str]
    engine: Engine

    def as_(self, role: str) -> dict[str, str]:
        return {"authorization": f"Bearer {self.tokens[role]}"}

    def get(self, path: str, role: str = "reviewer", **more: Any) -> Any:
        return self.client.get(path, headers=self.as_(role), **more)

    def post(self, path: str, role: str = "reviewer", **more: Any) -> Any:
        return self.client.post(path, headers=self.as_(role) | more.pop("headers", {}), **more)

    def upload(self, seed: int, **parameters: str) -> dict[str, Any]:
        answer = self.post("/api/v1/images", "submitter", params={"name": f"{seed}.png"} | parameters, content=png(seed))
        assert answer.status_code == 200, answer.text
        record: dict[str, Any] = answer.json()
        return record


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts a server with these settings."""
    ended: list[Callable[[], object]] = []

    def starting(root: Path = tmp_path / "results", options: RunOptions = NULL, **settings: Any) -> Server:
        secrets = tokens(root)
        wanted = Settings(root, {"options": options}, hosts=("testserver",), **settings)
        store = Store(root)
        accounts = Accounts(store, is_local=True, is_encrypted=False)
        engine = Engine(wanted, lambda: Classifier.load(**wanted.model, purpose="throughput"))
        client = TestClient(app.create(wanted, store, engine, accounts), raise_server_exceptions=True, follow_redirects=False)
        client.__enter__()
        ended.extend([store.close, accounts.close, lambda: client.__exit__(None, None, None)])
        return Server(root, client, secrets, engine)

    yield starting
    for end in reversed(ended):
        end()


@pytest.fixture
def server(start: Callable[..., Server]) -> Server:
    return start()


@dataclass
class Process:
    """A server that listens: `url`, and the one-time link."""

    root: Path
    url: str
    link: str
    tokens: dict[str, str]
    process: subprocess.Popen[str]


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    root = tmp_path_factory.mktemp("served") / "results"
    secrets = tokens(root)
    command = [sys.executable, "-m", "bcd_edge", "serve", str(root), "--port", "0", "--provider", "null", "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout
        link = re.search(r"http\S+", running.stdout.readline())
        assert link
        yield Process(root, link.group().partition("/login")[0], link.group(), secrets, running)
        running.terminate()
        assert running.wait(30) == 0
