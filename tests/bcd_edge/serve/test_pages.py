"""The review pages as a browser gets them, without a browser."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import bcd_edge.consult
import bcd_edge.languages
import bcd_edge.serve
from bcd_edge.languages import plural
from bcd_edge.results import reviews
from bcd_edge.results.journal import NAME, connect, reading
from bcd_edge.serve import accounts, review

from .conftest import Server

HERE = Path(bcd_edge.serve.__file__).parent
CONSULT = Path(bcd_edge.consult.__file__).parent
# What the log-in page is handed by `accounts`.
SAID = {
    accounts.ENDED,
    "Logging in failed too often; try again in {n} s.",
    "Name or password is wrong.",
    "This link was used before, or is of an earlier start; start the server again for another.",
}


def texts() -> set[str]:
    """Everything in the templates and the page of consult that is to be translated, and what the programme names."""
    sources = [path.read_text() for path in (*(HERE / "templates").glob("*.html"), CONSULT / "page.js", CONSULT / "package.py")]
    translatable = {match[2] for source in sources for match in re.finditer(r"""\b_\((["'])(.*?)\1""", source)}
    translatable |= {text for source in sources for match in re.finditer(r'_n\("(.*?)", "(.*?)"', source) for text in match.groups()}
    translatable |= {text for path in CONSULT.glob("*.html") for text in re.findall(r"\[\[(.*?)\]\]", path.read_text())}
    verdicts = {"benign", "malignant", "review", *reviews.DECISIONS}
    names = {
        *(text for pair in reviews.CONTRADICTIONS.values() for text in pair),
        "focus",
        "exposure",
        "contrast",
        "tissue",
        "stain",
        "bundle",
        "precision",
        "provider",
        "device",
        "version",
        "consult",
        "link",
    }
    return translatable | verdicts | names


@pytest.mark.parametrize("catalogue", sorted(Path(bcd_edge.languages.__file__).parent.glob("*.json")), ids=lambda path: path.stem)
def test_a_catalogue_has_every_text_with_the_same_fields_and_no_other(catalogue: Path) -> None:
    translations = json.loads(catalogue.read_text(encoding="utf-8"))
    assert texts() - set(translations) == set()
    assert set(translations) - texts() == {"language", *SAID}
    fields = re.compile(r"\{\w*\}")
    assert [text for text, other in translations.items() if sorted(fields.findall(text)) != sorted(fields.findall(other))] == []


def test_the_browsers_language_is_used_and_another_can_be_chosen(server: Server) -> None:
    def title(**headers: str) -> str:
        page = server.client.get("/", headers=server.as_("reviewer") | headers).text
        return re.search(r"<h1>(.*?)</h1>", page)[1]  # type: ignore[index]

    assert title() == title(**{"accept-language": "de"}) == "To review"
    assert title(**{"accept-language": "de, fr-CH;q=0.9"}) == "À examiner"
    server.get("/?language=fr")
    assert title() == "À examiner"


def test_the_answer_of_a_blinded_case_is_shown_after_the_opinion(start: Callable[..., Server]) -> None:
    server = start(blinded=True)
    record = server.upload(1)
    sha256 = record["sha256"]
    secret = f"{record['p_malignant']:.3f}"

    def case(who: str = "reviewer") -> str:
        return str(server.get(f"/cases/{sha256}", who).text)

    assert secret not in case()
    assert f"{record['p_malignant']:.2f}</td>" not in server.get("/").text
    assert "overlay" not in case().split("<section", 2)[1]
    filed = server.post(f"/cases/{sha256}/review", data={"decision": "benign", "blinded": "yes", "comment": "mine alone"})
    assert filed.headers["location"].startswith(f"/cases/{sha256}?")
    assert secret in case()
    assert "mine alone" in case()
    assert secret not in case("second")
    assert "mine alone" not in case("second"), "a second reader does not see the first opinion either"
    with reading(server.root / NAME) as db:
        assert [review.blinded for review in reviews.listed(db)] == [True]


def test_a_decision_leads_on_to_the_next_case_and_the_last_one_to_the_list(server: Server) -> None:
    hashes = {server.upload(seed)["sha256"] for seed in range(3)}
    here = re.search(r'id="start" href="/cases/(\w+)', server.get("/").text)[1]  # type: ignore[index]
    seen = []
    for _ in range(3):
        seen.append(here)
        location = server.post(f"/cases/{here}/review", data={"decision": "unusable"}).headers["location"]
        page = server.get(location).text
        assert "unusable" in page
        here = location.partition("/cases/")[2].partition("?")[0]
    assert (set(seen), here) == (hashes, "")
    assert "Nothing here" in server.get("/").text


def test_hostile_names_and_comments_are_inert(server: Server) -> None:
    markup = "<img src=x onerror=alert(1)>\"'"
    sha256 = server.upload(1, name=f"{markup}.png", patient=markup, slide=markup)["sha256"]
    server.post(f"/cases/{sha256}/review", data={"decision": "benign", "comment": f"{markup}</q><script>"})
    for path in ("/?state=all", f"/?state=all&text={markup}", f"/cases/{sha256}", "/patients", f"/patients/{markup}", f"/patients/{markup}/sheet"):
        page = server.get(path)
        assert page.status_code == 200
        assert "<img src=x" not in page.text
        assert "<script>" not in page.text


def test_a_patient_is_signed_out_on_its_page(server: Server) -> None:
    record = server.upload(1, patient="P 1/a")
    assert "1 picture still needs review" in server.get("/patients/P%201%2Fa").text
    server.post(f"/cases/{record['sha256']}/review", data={"decision": "benign"})
    signed = server.post("/patients/P%201%2Fa/sign-out", data={"decision": "benign", "comment": "fibroadenoma", "uid": "12345678"})
    assert signed.status_code == 303
    for page in (signed.headers["location"], "/patients/P%201%2Fa/sheet"):
        assert "fibroadenoma" in server.get(page).text


PLACES = ("/?state=all", "/?state=reviewed", "/patients", "/patients/P7", "/patients/P7/sheet")


def test_other_readers_opinions_are_nowhere_until_one_has_an_own(server: Server) -> None:
    sha256 = server.upload(1, patient="P7")["sha256"]
    server.post(f"/cases/{sha256}/review", data={"decision": "unusable", "comment": "torn"})
    server.post("/patients/P7/sign-out", data={"decision": "unusable", "comment": "folded"})
    api = ("/api/v1/queue?state=all", "/api/v1/patients/P7", "/api/v1/reviews", "/api/v1/labels")

    def leaks(who: str) -> list[str]:
        pages = [path for path in PLACES if ">unusable<" in server.get(path, who).text.partition('class="sign-out"')[0]]
        return [*pages, *(path for path in api if "unusable" in server.get(path, who).text)]

    assert leaks("second") == []
    assert "shown when you have an opinion of each" in server.get("/patients/P7", "second").text
    assert leaks("admin") == ["/api/v1/reviews", "/api/v1/labels"], "an export"
    server.post(f"/cases/{sha256}/review", "second", data={"decision": "unusable"})
    assert set(leaks("second")) == {*PLACES, *api}
    for path in ("/patients/P7", "/patients/P7/sheet", "/patients"):
        assert "outdated: pictures or reviews have come since" in server.get(path, "second").text
        assert "outdated" in server.get(path).text


def test_a_blinded_reader_cannot_ask_for_an_answer(start: Callable[..., Server]) -> None:
    server = start(blinded=True)
    sha256 = server.upload(1, patient="P7")["sha256"]
    for decision in ("benign", "malignant", "review"):
        page = server.get(f"/?state=all&decision={decision}").text
        assert sha256 in page
        assert '<select name="decision">' not in page
        (case,) = server.get(f"/api/v1/queue?state=all&decision={decision}").json()["cases"]
        assert (case["decision"], case["p_malignant"]) == (None, None)
    assert server.get("/api/v1/patients").json()["patients"][0]["decision"] is None


def test_a_sign_out_that_contradicts_is_asked_for_again(server: Server) -> None:
    sha256 = server.upload(1, patient="P7")["sha256"]
    server.post(f"/cases/{sha256}/review", data={"decision": "malignant"})
    given = {"decision": "benign", "comment": "my reason", "uid": "12345678"}
    asked = server.post("/patients/P7/sign-out", data=given)
    assert asked.status_code == 409
    assert "1 picture has the answer or an opinion malignant." in asked.text
    assert "my reason" in asked.text
    assert server.get("/api/v1/patients/P7").json()["sign_outs"] == []
    assert server.post("/patients/P7/sign-out", data=given | {"confirmed": "yes"}).status_code == 303
    assert [entry["decision"] for entry in server.get("/api/v1/patients/P7").json()["sign_outs"]] == ["benign"]


def test_a_picture_of_two_patients_is_on_both_pages_with_a_warning(server: Server) -> None:
    for patient in ("P7", "P8"):
        server.upload(1, patient=patient, name=f"{patient}.png")
    for patient, other in (("P7", "P8"), ("P8", "P7")):
        page = server.get(f"/patients/{patient}").text
        assert f'also under <a href="/patients/{other}">{other}</a>' in page
        assert "1 picture is also under another patient" in page
        assert f"also under {other}" in server.get(f"/patients/{patient}/sheet").text


def test_an_error_is_a_page_for_a_browser_and_data_for_a_program(server: Server) -> None:
    page = server.client.get("/cases/0", headers=server.as_("reviewer") | {"accept": "text/html"})
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert server.get("/cases/0").headers["content-type"] == "application/problem+json"
    sent = server.client.get("/cases/0?state=all", headers={"accept": "text/html"})
    assert (sent.status_code, sent.headers["location"]) == (303, "/login?next=/cases/0%3Fstate%3Dall")


@pytest.mark.parametrize(
    ("referrer", "back"), [("http://testserver/cases/0?state=all", "/cases/0%3Fstate%3Dall"), ("http://elsewhere/cases/0", "/"), ("", "/")]
)
def test_a_decision_after_the_end_of_the_session_leads_to_the_login_and_back(server: Server, referrer: str, back: str) -> None:
    headers = {"accept": "text/html", "referer": referrer}
    sent = server.client.post("/cases/0/review", headers=headers, data={"decision": "benign"})
    assert (sent.status_code, sent.headers["location"]) == (303, f"/login?ended=yes&next={back}")
    assert "nothing was filed" in server.client.get(sent.headers["location"]).text
    assert server.client.post("/cases/0/review", data={"decision": "benign"}).status_code == 401


def test_patients_are_found_by_a_part_of_their_name_page_by_page(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(review, "PAGE", 2)
    for seed, patient in enumerate(("Rao 1", "Rao_2", "Roy", "rao 3")):
        server.upload(seed, patient=patient)

    def listed(query: str) -> list[str]:
        return re.findall(r'<a class="open"[^>]*>(.*?)</a>', server.get(f"/patients?{query}").text)

    assert listed("") == ["rao 3", "Roy"]
    assert listed("offset=2") == ["Rao_2", "Rao 1"]
    assert (listed("text=RAO"), listed("text=RAO&offset=2"), listed("text=_")) == (["rao 3", "Rao_2"], ["Rao 1"], ["Rao_2"])
    more = re.search(r'href="/patients\?([^"]*)" rel="next"', server.get("/patients?text=rao").text)[1]  # type: ignore[index]
    assert listed(html.unescape(more)) == ["Rao 1"]
    assert server.get("/api/v1/patients?limit=1&offset=2").json()["patients"][0]["name"] == "Rao_2"


def test_a_patient_whom_only_an_earlier_bundle_answered_stays_on_the_list(server: Server) -> None:
    server.upload(1, patient="P7")
    with closing(connect(server.root / NAME)) as db:
        db.execute("INSERT INTO bundles (sha256, name, threshold, used_at) VALUES ('later', 'later', 0.5, '9999')")
    assert ">P7</a>" in server.get("/patients").text
    (patient,) = server.get("/api/v1/patients").json()["patients"]
    assert (patient["name"], patient["images"], patient["decision"]) == ("P7", 1, None)


def test_a_record_without_keys_that_came_later_has_its_page(server: Server) -> None:
    sha256 = server.upload(1)["sha256"]
    with closing(connect(server.root / NAME)) as db:
        db.execute("UPDATE images SET record = json_remove(record, '$.um_per_pixel', '$.kind', '$.slide')")
    assert server.get(f"/cases/{sha256}").status_code == 200


def test_the_end_of_a_list_leads_to_the_sign_out(server: Server) -> None:
    sha256 = server.upload(1, patient="P 7")["sha256"]
    queries, given = ("state=open&patient=P+7", ""), {"decision": "benign"}
    ends = [server.post(f"/cases/{sha256}/review?{query}", data=given).headers["location"] for query in queries]
    assert 'href="/patients/P%207"' in server.get(ends[0]).text.partition("Nothing here")[2]
    assert 'href="/patients"' in server.get(ends[1]).text.partition("Nothing here")[2]


def test_a_number_has_its_plural(server: Server) -> None:
    server.upload(1)
    assert "1 case." in server.get("/").text
    server.upload(2)
    assert "2 cases." in server.get("/").text
    assert "0 avis" in plural("fr")("{n} avis", "{n} xxx", 0)
    assert "left on this list" not in server.get(f"/cases/{server.upload(3)['sha256']}?state=all").text


def test_next_is_a_case_without_an_own_opinion(server: Server) -> None:
    hashes = [server.upload(seed)["sha256"] for seed in range(3)]
    for who, sha256 in [("reviewer", hashes[0]), ("second", hashes[1])]:
        server.post(f"/cases/{sha256}/review", who, data={"decision": "benign"})
    following = {sha256: re.search(r'id="next" href="/cases/(\w+)', server.get(f"/cases/{sha256}?state=all").text)[1] for sha256 in hashes}  # type: ignore[index]
    assert following[hashes[1]] == hashes[2]
    assert following[hashes[2]] == hashes[1]


def test_what_is_undone_is_named(server: Server) -> None:
    sha256 = server.upload(1)["sha256"]
    filed = server.post(f"/cases/{sha256}/review", data={"decision": "malignant"}).headers["location"]
    assert "1.png" in server.get(filed).text
    review = re.search(r'action="(/reviews/\d+/undo)', server.get(filed).text)[1]  # type: ignore[index]
    page = server.get(server.post(review).headers["location"]).text
    assert re.search(r"Undone:\s*<span[^>]*>malignant</span>\s*upload/1.png", page)
    assert 'id="undo"' not in page


def test_a_sheet_has_every_picture_its_readers_their_comments_and_what_ran(server: Server) -> None:
    records = [server.upload(seed, patient="P") for seed in range(8)]
    for who in ("reviewer", "second"):
        server.post(f"/cases/{records[0]['sha256']}/review", who, data={"decision": "benign", "comment": f"seen by {who} <3"})
    page = server.get("/patients/P/sheet").text
    assert [f"{seed}.png" in page for seed in range(8)] == [True] * 8
    assert "<strong>benign</strong> second: <q>seen by second &lt;3</q>" in page
    ran = records[0]["execution"]
    assert f"{ran['bundle']} ({ran['bundle_sha256'][:12]}" in page
    assert f"bcd-edge {ran['version']}" in page


@pytest.mark.parametrize("query", ["offset=x", "offset=-1", "state=x", "decision=x", "filed=x", "filed=99999999", "text=%00", "patient=%F0%9F"])
def test_whatever_is_in_the_query_is_no_error(server: Server, query: str) -> None:
    sha256 = server.upload(1)["sha256"]
    for path in ("/", f"/cases/{sha256}"):
        assert server.get(f"{path}?{query}").status_code == 200


def test_pages_ask_no_other_host(server: Server) -> None:
    """What a browser would load is on this server; that it is, is seen in one too."""
    files = [*(HERE / "templates").glob("*.html"), *(HERE / "static").iterdir()]
    assert [path.name for path in files for host in re.findall(r"(?:src|href|url\()=?[\"'(]?(https?:)?//", path.read_text()) if host] == []
