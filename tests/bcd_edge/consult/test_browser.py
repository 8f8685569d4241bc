"""The page in a browser, opened from a file, as on a computer without bcd-edge; and by a link to a running server."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bcd_edge.consult import opinion, package
from bcd_edge.results import audit, reviews
from bcd_edge.results.folder import Results

from .conftest import PATIENT, built, opinion_of

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A tab; everything it asks for and complains about is in `page.asked` and `page.complaints`."""
    context = browser.new_context(viewport={"width": 1366, "height": 768}, accept_downloads=True)
    page = context.new_page()
    page.asked, page.complaints = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("dialog", lambda dialog: (page.complaints.append(dialog.message), dialog.accept()))
    yield page
    context.close()


def test_an_opinion_from_a_usb_stick_comes_home(page: Any, folder: Results, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    made = built(folder)
    (tmp_path / "case.zip").write_bytes(made.zip)
    with zipfile.ZipFile(tmp_path / "case.zip") as archive:
        archive.extractall(stick)
    (path,) = stick.iterdir()
    page.goto(path.as_uri())
    widths = []
    for _ in range(3):
        widths.append(page.locator(".picture").first.evaluate("image => image.width / image.naturalWidth"))
        page.locator(".view").first.click()
    assert widths == [1, 3, 1]
    page.locator(".view").first.click()
    page.get_by_role("button", name="Save opinion.json").click()
    assert page.get_by_role("status").inner_text() == ""  # the browser says itself that the name is missing
    page.get_by_label("Name", exact=True).fill("Dr Größe 🔬")
    page.get_by_role("button", name="Save opinion.json").click()
    assert page.get_by_role("status").inner_text() == "Decide on at least one picture first."
    first, second = page.get_by_role("article").all()
    first.get_by_label("malignant", exact=True).check()
    first.get_by_label("Comment").fill("große Kerne\n</script>\u2028 “quoted”")
    second.get_by_text("The model's answer").click()
    second.get_by_label("cannot tell").check()
    first.get_by_text("The model's answer").click()
    first.get_by_role("slider").fill("40")
    assert first.locator(".overlay").evaluate("image => [image.style.opacity, image.naturalWidth > 0]") == ["0.4", True]
    with page.expect_download() as download:
        page.get_by_role("button", name="Save opinion.json").click()
    assert download.value.suggested_filename == "opinion.json"
    assert "Saved as opinion.json" in page.get_by_role("status").inner_text()
    download.value.save_as(tmp_path / "opinion.json")
    assert [url for url in page.asked if not url.startswith(("data:", "blob:"))] == [path.as_uri()]
    assert page.complaints == []

    given = opinion.check(folder.journal.connection, (tmp_path / "opinion.json").read_bytes())
    filed = opinion.file(folder, given, source="consult", who="root", address="local")
    assert [(review.reader, review.decision, review.comment, review.blinded) for review in filed.reviews] == [
        ("Dr Größe 🔬", "malignant", "große Kerne\n</script>\u2028 “quoted”", True),
        ("Dr Größe 🔬", "cannot tell", "", False),
    ]


def violations(page: Any) -> list[str]:
    """Of the rules of axe-core."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    return [violation["id"] for violation in axe.Axe().run(page).response["violations"]]


@pytest.mark.parametrize("size", [(1366, 768), (390, 844)], ids=["clinic PC", "phone"])
def test_a_screen_reader_can_use_the_page(page: Any, folder: Results, tmp_path: Path, size: tuple[int, int]) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    (tmp_path / "case.html").write_text(built(folder).html, encoding="utf-8")
    page.goto((tmp_path / "case.html").as_uri())
    for details in page.get_by_text("The model's answer").all():
        details.click()
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_page_in_french_without_answers_saves_the_same_decisions(page: Any, folder: Results, tmp_path: Path) -> None:
    (tmp_path / "case.html").write_text(built(folder, language="fr", has_answers=False).html, encoding="utf-8")
    page.goto((tmp_path / "case.html").as_uri())
    assert page.locator("details, .overlay").count() == 0
    page.get_by_label("Nom", exact=True).fill("Dr Far")
    page.get_by_role("button", name="Enregistrer opinion.json").click()
    assert page.get_by_role("status").inner_text() == "Décidez d'abord pour au moins une image."
    page.get_by_label("indéterminé").first.check()
    with page.expect_download() as download:
        page.get_by_role("button", name="Enregistrer opinion.json").click()
    assert page.get_by_role("status").inner_text().endswith("1 image n'a pas de décision.")
    assert violations(page) == []
    given = opinion.check(folder.journal.connection, Path(download.value.path()).read_bytes())
    assert [(decision["decision"], decision["blinded"]) for decision in given.decisions] == [("cannot tell", True)]


def test_a_keyboard_is_enough(page: Any, folder: Results, tmp_path: Path) -> None:
    db = folder.journal.connection
    (tmp_path / "case.html").write_text(package.build(db, folder.root, package.find(db, PATIENT)[:1]).html, encoding="utf-8")
    page.goto((tmp_path / "case.html").as_uri())
    for key in ("Tab", "Enter", "Enter", "Tab", "Space", "ArrowRight", "Tab", "x", "Tab", "Tab"):
        page.keyboard.press(key)
    page.keyboard.type("Dr Far")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    download.value.save_as(tmp_path / "opinion.json")
    given = opinion.check(db, (tmp_path / "opinion.json").read_bytes())
    assert [(decision["decision"], decision["comment"]) for decision in given.decisions] == [("malignant", "x")]


def test_the_pages_own_hash_is_sha_256(page: Any, folder: Results, tmp_path: Path) -> None:
    (tmp_path / "case.html").write_text(built(folder).html, encoding="utf-8")
    page.goto((tmp_path / "case.html").as_uri())
    key = "0f" * 32
    texts = ["", "abc", *("ä" * length for length in (27, 28, 31, 32, 500))]  # about the ends of its blocks
    assert page.evaluate("texts => texts.map(text => hmac('0f'.repeat(32), text))", texts) == [package.signature(key, text) for text in texts]


@pytest.fixture
def served(folder: Results) -> Iterator[re.Match[str]]:
    """A running server: its address, and the link that signs in once."""
    pytest.importorskip("uvicorn", reason="bcd-edge[serve] is not installed")
    command = [sys.executable, "-m", "bcd_edge", "serve", str(folder.root), "--port", "0", "--provider", "null"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield re.match(r"Open ((http://127\.0\.0\.1:\d+)/.*)", server.stdout.readline())
        finally:
            server.terminate()


def consult(*arguments: str) -> str:
    return subprocess.run([sys.executable, "-m", "bcd_edge", "consult", *arguments], capture_output=True, text=True, check=True).stdout.strip()


def test_an_opinion_by_a_link_is_filed_once(page: Any, folder: Results, served: re.Match[str]) -> None:
    base = served[2]
    link = consult("link", PATIENT, str(folder.root), "--url", base, "--to", "Dr Far")
    page.goto(link)
    page.get_by_role("article").first.get_by_label("benign").check()
    page.get_by_label("Name", exact=True).fill("Dr Far")
    page.get_by_role("button", name="Send the opinion").click()
    page.get_by_text("Sent. Thank you. 1 picture has no decision.").wait_for()
    page.get_by_role("article").last.get_by_label("benign").check()
    page.get_by_role("button", name="Send the opinion").click()
    page.get_by_text("given by this link before").wait_for()
    assert page.goto(link).status == 200
    assert page.goto(link[:-1] + ("0" if link[-1] != "0" else "1")).status == 404
    consult("revoke", link.rpartition("/")[2][:8], str(folder.root))
    assert page.goto(link).status == 410
    assert all(url.startswith((base, "data:")) for url in page.asked)
    assert [(review.reader, review.decision, review.source) for review in reviews.listed(folder.journal.connection)] == [("Dr Far", "benign", "link")]


def test_a_reader_saves_a_case_for_another_one(page: Any, folder: Results, served: re.Match[str], tmp_path: Path) -> None:
    page.goto(f"{served[2]}/login?language=fr")
    assert violations(page) == []
    page.goto(served[1])
    page.goto(f"{served[2]}/cases/{package.find(folder.journal.connection, PATIENT)[0]}")
    page.get_by_text("Demander un avis ailleurs").click()
    page.get_by_label("Pour qui").fill("Dr Far")
    with page.expect_download() as download:
        page.get_by_role("button", name="Enregistrer en ZIP").click()
    download.value.save_as(tmp_path / "case.zip")
    with zipfile.ZipFile(tmp_path / "case.zip") as archive:
        text = archive.read(archive.namelist()[0]).decode()
    assert "Pour Dr Far." in text
    assert text.count("<article") == text.count('class="overlay"') == 2
    exported = [entry.details["recipient"] for entry in audit.entries(folder.journal.connection) if entry.action == "consult exported"]
    assert exported == ["Dr Far"] * 2


def test_what_came_back_is_filed_on_a_page_and_links_are_revoked_there(page: Any, folder: Results, served: re.Match[str], tmp_path: Path) -> None:
    consult("link", PATIENT, str(folder.root), "--url", served[2], "--to", "Dr Far")
    markup = "<img src=//evil.example/x onerror=alert(4)>"
    (tmp_path / "opinion.json").write_text(json.dumps(opinion_of(built(folder).html, reader=markup, place=markup)), encoding="utf-8")
    (tmp_path / "forged.json").write_text(json.dumps(opinion_of(built(folder).html) | {"seal": "0" * 64}), encoding="utf-8")
    page.goto(served[1])
    page.get_by_role("link", name="Opinions from afar").click()
    for new in (2, 0):
        page.get_by_label("opinion.json").set_input_files(tmp_path / "opinion.json")
        page.get_by_role("button", name="File it").click()
        page.get_by_text(f"Filed: {new} new reviews." if new else "This opinion was filed before").wait_for()
    assert violations(page) == []
    link = page.get_by_role("textbox", name="Link").input_value()
    page.get_by_role("button", name="Revoke").click()
    page.get_by_text("revoked").wait_for()
    assert page.goto(link).status == 410
    page.goto(f"{served[2]}/consult")
    page.get_by_label("opinion.json").set_input_files(tmp_path / "forged.json")
    page.get_by_role("button", name="File it").click()
    page.get_by_text("not on a case of this folder").wait_for()
    assert {(review.source, review.reader) for review in reviews.listed(folder.journal.connection)} == {("consult", markup)}
    for path in ("", "?state=reviewed", f"cases/{package.find(folder.journal.connection, PATIENT)[0]}", "patients"):
        page.goto(f"{served[2]}/{path}")
    assert not {"1", "2", "4"} & set(page.complaints)  # what alerts of names, patients and readers would say
    assert all(url.startswith((served[2], "data:")) for url in page.asked)
    assert audit.verify(folder.journal.connection).problems == ()
