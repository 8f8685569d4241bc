"""Readers decide over HTTP while a watcher answers, and both are killed at random moments."""

from __future__ import annotations

import hashlib
import http.client
import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path

from bcd_edge.results import audit, reviews, users, worklist
from bcd_edge.results.folder import Results
from bcd_edge.results.journal import NAME, reading
from benchmarks import fault_injection
from benchmarks.tables import Row

READERS = 4
LIFE_S = (1.5, 5.0)


class _Clinic:
    """A watcher and a server on one folder, and readers who repeat a request until it is acknowledged."""

    def __init__(self, root: Path, port: int, wanted: int) -> None:
        self.root, self.port, self.wanted = root, port, wanted
        self.acknowledged: set[str] = set()
        self.repeated = 0
        with Results.open(root) as results:
            worklist.change_audit_share(results.journal, 1)  # there is enough to decide
            for number in range(READERS):
                users.add(results, f"reader {number}", "reviewer", None, by="a benchmark")
            self._tokens = [users.add_token(results, f"reader {number}", by="a benchmark") for number in range(READERS)]

    def server(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "bcd_edge", "serve", str(self.root), "--port", str(self.port), "--provider", "null", "--quiet"]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def read(self, number: int) -> None:
        """Decides whatever is open, also what another reader decides at the same time."""
        draw = random.Random(number)
        while len(self.acknowledged) < self.wanted:
            cases = self._ask(number, "GET", "/api/v1/queue?limit=20")["cases"]
            if not cases:
                time.sleep(0.1)
                continue
            body = {"sha256": draw.choice(cases)["sha256"], "decision": draw.choice(reviews.DECISIONS), "uid": uuid.uuid4().hex}
            self.acknowledged.add(self._ask(number, "POST", "/api/v1/reviews", json.dumps(body))["uid"])

    def _ask(self, number: int, method: str, path: str, body: str | None = None) -> dict[str, str]:
        while True:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
                connection.request(method, path, body, {"authorization": f"Bearer {self._tokens[number]}"})
                response = connection.getresponse()
                content = response.read()
            except (OSError, http.client.HTTPException):
                self.repeated += 1
                time.sleep(0.1)
                continue
            assert response.status in (200, 201), content
            answer: dict[str, str] = json.loads(content)
            return answer


def reviewers(pictures: int, wanted: int, kills: int, seed: int, port: int = 18765) -> Row:
    """Asserts that each acknowledged review and each answer is there once, and that the audit's chain is whole."""
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        inbox, root = Path(name, "inbox"), Path(name, "results")
        inbox.mkdir()
        contents = [fault_injection.picture(seed, index) for index in range(pictures)]
        clinic = _Clinic(root, port, wanted)
        threads = [threading.Thread(target=clinic.read, args=(number,)) for number in range(READERS)]
        for thread in threads:
            thread.start()
        for turn in range(kills):
            for index in range(turn * pictures // kills, (turn + 1) * pictures // kills):
                (inbox / f"{index:05}.png").write_bytes(contents[index])
            with fault_injection.watching(inbox, root) as watcher:
                server = clinic.server()
                time.sleep(draw.uniform(*LIFE_S))
                for process in draw.sample([watcher, server], 2):
                    process.send_signal(signal.SIGKILL)
                    process.wait()
        server = clinic.server()
        with fault_injection.watching(inbox, root):
            for thread in threads:
                thread.join()
            expected = {hashlib.sha256(content).hexdigest() for content in contents}
            fault_injection.until(lambda: fault_injection.answered(root) == len(expected), "the rest")
        server.terminate()
        server.wait()
        fault_injection.check_accounts(root, expected)
        filed = _check(root, clinic.acknowledged)
    return Row(
        f"{wanted:,} reviews by {READERS} clients while a watcher answers {pictures:,} pictures, both killed (-9) {kills} times",
        "every acknowledged review and answer there once, audit chain whole",
        f"{len(clinic.acknowledged):,} acknowledged; 0 lost, 0 doubled; {filed:,} entries in a whole chain",
        f"seed {seed}; {clinic.repeated:,} requests had to be repeated",
    )


def _check(root: Path, acknowledged: set[str]) -> int:
    with reading(root / NAME) as db:
        uids = [review.uid for review in reviews.listed(db)]
        chain = audit.verify(db)
        assert acknowledged <= set(uids), f"{len(acknowledged - set(uids))} reviews lost"
        assert len(uids) == len(set(uids)), "reviews doubled"
        assert chain.problems == (), chain.problems
        entries = [entry.uid for entry in audit.entries(db) if entry.action == "review"]
        assert sorted(filter(None, entries)) == sorted(uids), "reviews and audit differ"
    return chain.entries
