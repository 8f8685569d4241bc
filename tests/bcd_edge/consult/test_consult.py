"""Cases that go elsewhere and opinions that come back."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import stat
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from bcd_edge.cli import main
from bcd_edge.consult import links, opinion, package
from bcd_edge.errors import InputError, UsageError
from bcd_edge.readers import raster
from bcd_edge.results import audit, reviews, users
from bcd_edge.results.folder import Results
from bcd_edge.results.pseudonyms import naming

from .conftest import CAMERA, NAMES, PATIENT, box, built, jpeg, opinion_of

DAY_S = 86400.0


def data(opinion: dict[str, Any]) -> bytes:
    return json.dumps(opinion).encode()


def filed(folder: Results, content: bytes) -> opinion.Filed:
    return opinion.file(folder, opinion.check(folder.journal.connection, content), source="consult", who="root", address="local")


def pictures_of(page: str) -> list[bytes]:
    return [base64.b64decode(text) for text in re.findall(r'src="data:image/[a-z]+;base64,([^"]+)"', page)]


def test_a_page_holds_the_pixels_and_nothing_else_of_a_picture(folder: Results) -> None:
    page = built(folder).html
    first, overlay, second = pictures_of(page)
    for content, source in ((first, jpeg(0)), (second, jpeg(1))):
        assert (raster.decode(content) == raster.decode(source)).all()
    for content in (first, overlay, second):
        assert CAMERA.encode() not in content
        assert not Image.open(io.BytesIO(content)).getexif()
        assert set(Image.open(io.BytesIO(content)).info) == set()


def test_a_drawn_overlay_goes_along_without_its_legend(folder: Results) -> None:
    overlay = cv2.imdecode(np.frombuffer(pictures_of(built(folder).html)[1], np.uint8), cv2.IMREAD_COLOR)
    assert overlay.shape == (315, 480, 3)
    assert (overlay == 200).all()


def test_a_layer_is_preferred_to_a_drawn_overlay(folder: Results) -> None:
    (drawn,) = folder.root.rglob("*.overlay.png")
    cv2.imwrite(str(drawn).replace(".overlay.", ".layer."), np.full((92, 140, 4), 99, np.uint8))
    assert Image.open(io.BytesIO(pictures_of(built(folder).html)[1])).mode == "RGBA"


def test_nobodys_name_is_in_a_page_or_its_zip(folder: Results) -> None:
    made = built(folder)
    with zipfile.ZipFile(io.BytesIO(made.zip)) as archive:
        (entry,) = archive.infolist()
        assert re.fullmatch(r"case-[0-9a-f]{8}\.html", entry.filename)
        assert archive.read(entry).decode() == made.html
    for word in ("Jane", "Doe", "first.jpg", "alert", "onerror", str(folder.root), CAMERA):
        assert word not in made.html


def test_a_page_says_the_same_of_the_same_patient_and_asks_nobody(folder: Results) -> None:
    page = built(folder).html
    assert len(set(re.findall(r"Patient ([0-9a-f]{16})", page))) == 1
    assert not re.findall(r"""(?:src|href|action)=["']?(?!data:)[a-z/]""", page)
    assert "connect-src" not in page
    assert "connect-src 'self'" in built(folder, link=True).html


def test_markup_from_the_sender_is_text(folder: Results) -> None:
    db = folder.journal.connection
    page = package.build(db, folder.root, package.find(db, NAMES[0]), recipient="</script><script>alert(3)</script>").html
    assert "<script>alert" not in page
    assert page.count("</script>") == 2
    assert json.loads(box(page)["package"])["recipient"] == "</script><script>alert(3)</script>"


def test_a_case_is_a_patient_a_name_or_the_beginning_of_a_hash(folder: Results) -> None:
    db = folder.journal.connection
    both = package.find(db, PATIENT)
    assert len(both) == 2
    assert [package.find(db, name) for name in NAMES] == [[sha256] for sha256 in both]
    assert package.find(db, both[0][:6].upper()) == package.find(db, both[0][:16]) == [both[0]]
    display_name = naming(db, pseudonymise=True)
    assert (package.find(db, display_name(PATIENT)), package.find(db, display_name(NAMES[1]))) == (both, both[1:])
    for wrong in ("nobody", "", both[0][:5], "000000", "' OR 1=1 --", "ffffffg"):
        with pytest.raises(UsageError, match=r"There is no patient|No picture begins"):
            package.find(db, wrong)


def test_a_picture_that_was_moved_or_is_another_now_is_not_given_away(folder: Results, tmp_path: Path) -> None:
    (tmp_path / "inbox" / NAMES[0]).write_bytes(jpeg(7))
    with pytest.raises(InputError, match="was moved or deleted"):
        built(folder)


def test_an_opinion_becomes_reviews_of_its_author_once(folder: Results) -> None:
    content = data(opinion_of(built(folder).html))
    first, again = filed(folder, content), filed(folder, content)
    assert (first.new, again.new) == (2, 0)
    assert first.reviews == again.reviews
    review = first.reviews[0]
    assert (review.reader, review.decision, review.comment, review.source, review.blinded) == ("Dr Far", "malignant", "large nuclei", "consult", True)
    assert review.decided_at == "2026-03-01T08:00:00.000+00:00"
    actions = [entry.action for entry in audit.entries(folder.journal.connection)]
    assert actions == ["review", "review", "consult imported"]
    assert audit.verify(folder.journal.connection).problems == ()


def test_an_opinion_is_not_taken_for_that_of_an_account(folder: Results) -> None:
    users.add(folder, "Dr Rao", "reviewer", "four random words", by="root")
    assert filed(folder, data(opinion_of(built(folder).html, reader="dr rao"))).reviews[0].reader == "dr rao (consult)"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 5000), letter=st.integers(32, 126))
def test_an_opinion_with_any_changed_character_is_refused_or_says_the_same(folder: Results, position: int, letter: int) -> None:
    db = folder.journal.connection
    known = db.execute("SELECT value FROM meta WHERE name = 'test'").fetchone()
    if known is None:  # the same page for every example
        known = [data(opinion_of(built(folder).html))]
        db.execute("INSERT INTO meta VALUES ('test', ?)", (known[0],))
    content = bytearray(known[0])
    content[position % len(content)] = letter
    try:
        changed = opinion.check(db, bytes(content))
    except InputError:
        return
    assert changed == opinion.check(db, known[0])


@pytest.mark.parametrize("part", ["package", "seal", "opinion", "signature"])
def test_parts_of_another_page_or_folder_are_refused(folder: Results, part: str) -> None:
    db = folder.journal.connection
    mine = opinion_of(built(folder).html)
    other_id = opinion_of(package.build(db, folder.root, package.find(db, NAMES[0])).html)
    with pytest.raises(InputError, match=r"was changed|not on a case of this folder"):
        opinion.check(db, data(mine | {part: other_id[part]}))
    db.execute("UPDATE meta SET value = randomblob(32) WHERE name = 'consult_key'")  # as in another folder
    with pytest.raises(InputError, match="not on a case of this folder"):
        opinion.check(db, data(mine))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"decisions": [{"sha256": "0" * 64, "decision": "benign", "comment": "", "blinded": True}]}, "not on its page"),
        ({"decisions": []}, "not an opinion"),
        ({"reader": " "}, "not shown"),
        ({"reader": "a\u202eb"}, "not shown"),
        ({"reader": "a\ud800"}, "not JSON"),
        ({"decided_at": "yesterday"}, "time"),
        ({"decided_at": "2026-03-01T08:00:00"}, "time"),
        ({"uid": "../../x"}, "not an opinion"),
        ({"role": "admin"}, "not an opinion"),
    ],
)
def test_an_opinion_that_no_page_saves_is_refused(folder: Results, changes: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        opinion.check(folder.journal.connection, data(opinion_of(built(folder).html, **changes)))


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"null", b"\xff", b"[" * 100_000, b'{"package": NaN}', b" " * 1_000_001, b"PK\x03\x04"])
def test_other_files_are_refused(folder: Results, content: bytes) -> None:
    with pytest.raises(InputError):
        opinion.check(folder.journal.connection, content)


def zipped(*entries: tuple[str, bytes, int]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content, mode in entries:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def test_a_zip_with_the_opinion_alone_is_read(folder: Results) -> None:
    content = data(opinion_of(built(folder).html))
    for mode in (0, stat.S_IFREG | 0o644):
        assert opinion.check(folder.journal.connection, zipped(("case/opinion.json", content, mode))).reader == "Dr Far"


@pytest.mark.parametrize(
    "entries",
    [
        [("opinion.json", b"/etc/passwd", stat.S_IFLNK | 0o777)],
        [("../opinion.json", b"{}", 0)],
        [("/etc/opinion.json", b"{}", 0)],
        [("C:opinion.json", b"{}", 0)],
        [("opinion.json", b"{}", 0), ("other.json", b"{}", 0)],
        [("opinion.exe", b"{}", 0)],
        [("opinion.json", b" " * 50_000_000, 0)],
        [],
    ],
)
def test_other_zips_are_refused_and_write_nothing(folder: Results, tmp_path: Path, entries: list[tuple[str, bytes, int]]) -> None:
    before = sorted(tmp_path.parent.rglob("*"))
    with pytest.raises(InputError):
        opinion.check(folder.journal.connection, zipped(*entries))
    assert sorted(tmp_path.parent.rglob("*")) == before


def test_nothing_of_an_opinion_is_filed_if_a_part_cannot_be(folder: Results) -> None:
    content = data(opinion_of(built(folder).html))
    db = folder.journal.connection
    second = package.find(db, PATIENT)[1]
    given = opinion.check(db, content)
    db.execute("DELETE FROM images WHERE sha256 = ?", (second,))
    with pytest.raises(UsageError):
        opinion.file(folder, given, source="consult", who="root", address="local")
    assert list(reviews.listed(db)) == list(audit.entries(db)) == []


def made_link(folder: Results, lifetime_s: float = 7 * DAY_S) -> str:
    pictures = package.find(folder.journal.connection, PATIENT)
    return links.make(folder, pictures, lifetime_s=lifetime_s, recipient="Dr Far", who="root", address="local")


def test_a_link_is_accepted_until_it_expires_or_is_revoked(folder: Results) -> None:
    db, now, token = folder.journal.connection, folder.clock.wall().timestamp(), made_link(folder)
    link = links.verify(db, token, now)
    assert (link.recipient, len(link.pictures), links.token(db, link.id, link.expires)) == ("Dr Far", 2, token)
    with pytest.raises(links.LinkError, match="has expired"):
        links.verify(db, token, now + 7 * DAY_S + 1)
    links.revoke(folder, link.id[:8], who="root", address="local")
    with pytest.raises(links.LinkError, match="was revoked"):
        links.verify(db, token, now)
    with pytest.raises(UsageError, match="0 valid links"):
        links.revoke(folder, link.id[:8], who="root", address="local")
    assert [entry.action for entry in audit.entries(db)] == ["link made", "link made", "link revoked"]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 107), letter=st.characters(min_codepoint=32, max_codepoint=0x2FF))
def test_a_forged_link_is_refused(folder: Results, position: int, letter: str) -> None:
    db = folder.journal.connection
    token = made_link(folder)
    changed = token[:position] + letter + token[position + 1 :]
    if changed != token:
        with pytest.raises(links.LinkError) as raised:
            links.verify(db, changed, 0)
        assert not raised.value.is_known


@pytest.mark.parametrize("token", ["", ".", "..", "a.b.c", "0" * 64, "\ud800"])
def test_what_is_no_link_is_refused(folder: Results, token: str) -> None:
    with pytest.raises(links.LinkError):
        links.verify(folder.journal.connection, token.encode(errors="replace").decode(), 0)


def test_a_link_takes_one_opinion_and_the_same_one_again(folder: Results) -> None:
    db = folder.journal.connection
    link = links.verify(db, made_link(folder), 0)
    page = built(folder, package_id=link.id, link=True).html
    first = opinion.check(db, data(opinion_of(page)))
    assert links.answer(folder, link, first, address="10.0.0.7").new == 2
    assert links.answer(folder, link, first, address="10.0.0.7").new == 0
    with pytest.raises(links.LinkError, match="given by this link before"):
        links.answer(folder, link, opinion.check(db, data(opinion_of(page, uid="cd" * 16))), address="10.0.0.7")
    with pytest.raises(links.LinkError, match="another case"):
        links.answer(folder, link, opinion.check(db, data(opinion_of(built(folder).html))), address="10.0.0.7")
    assert {review.source for review in reviews.listed(db)} == {"link"}


@pytest.mark.parametrize("lifetime_s", [0, -1, 59, 91 * DAY_S])
def test_a_link_lasts_neither_for_ever_nor_no_time(folder: Results, lifetime_s: float) -> None:
    with pytest.raises(UsageError, match="from one minute to 90 days"):
        made_link(folder, lifetime_s)


def run(*arguments: object) -> Result:
    """A command in this process, which is started once for all of them."""
    before = os.umask(0o022)
    try:
        return CliRunner().invoke(main, ["consult", *map(str, arguments)])
    finally:
        os.umask(before)


def test_there_and_back_on_the_command_line(folder: Results, tmp_path: Path) -> None:
    root = folder.root
    written = run("export", PATIENT, root, "--out", tmp_path / "case.zip", "--to", "Dr Far", "--explain", "--language", "fr")
    assert "with 2 pictures" in written.stdout
    with zipfile.ZipFile(tmp_path / "case.zip") as archive:
        page = archive.read(archive.namelist()[0]).decode()
    assert page.count('class="overlay"') == 2
    assert '<html lang="fr">' in page
    (tmp_path / "opinion.json").write_bytes(data(opinion_of(page)))
    (tmp_path / "forged.json").write_bytes(data(opinion_of(page) | {"seal": "0" * 64}))
    imported = run("import", tmp_path / "opinion.json", tmp_path / "forged.json", root)
    assert imported.exit_code == 1
    assert "2 reviews by Dr Far" in imported.stdout
    assert "not on a case of this folder" in imported.stderr
    assert "2 of them filed before" in run("import", tmp_path / "opinion.json", root).stdout
    url = run("link", PATIENT, root, "--url", "https://edge.clinic.example/", "--expires", "2d").stdout.strip()
    link = links.verify(folder.journal.connection, url.rpartition("/")[2], folder.clock.wall().timestamp())
    assert url.startswith("https://edge.clinic.example/consult/")
    assert f"{link.id[:8]}\t" in run("links", root).stdout
    assert run("revoke", link.id[:8], root).stdout == "Revoked.\n"
    assert "revoked" in run("links", root).stdout
    actions = [entry.action for entry in audit.entries(folder.journal.connection)]
    assert actions == ["consult exported"] * 2 + ["review"] * 2 + ["consult imported"] + ["link made"] * 2 + ["link revoked"]
