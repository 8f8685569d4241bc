"""The page of a run: one file, nothing from elsewhere, nothing hidden."""

from __future__ import annotations

import base64
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from bcd_edge.decision import DecisionRule
from train.data.images import Images
from train.evaluation import metrics, report

RULE = DecisionRule(threshold=0.5, review_low=0.3, review_high=0.7, chosen="on validation patients")
HISTORY = [
    {"epoch": 1, "loss": 0.9, "auroc": 0.6, "auroc_breakhis": 0.6, "seconds": 1.0},
    {"epoch": 2, "loss": 0.5, "auroc": 0.7, "auroc_breakhis": 0.7, "seconds": 1.0, "accuracy": 0.7, "validation_loss": 0.6, "train_accuracy": 0.8},
]
PNG = b"\x89PNG"


class Page(HTMLParser):
    """Collects tags and the addresses they load from."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text = path.read_text(encoding="utf-8")
        self.tags: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.addresses: list[str | None] = []
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "img":
            self.images.append(dict(attrs))
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "poster")]


def pictures(groups: list[str], malignant: list[bool]) -> Images:
    count = len(groups)
    pixels = np.random.default_rng(0).integers(0, 256, (count, 40, 40, 3), np.uint8)
    names = np.array(groups)
    return Images(pixels, np.array(malignant), np.array(["breakhis"] * count), names, np.array(["breakhis/100X"] * count), names)


def result_of(test: Images, p: np.ndarray, **more: Any) -> dict[str, Any]:
    scores = {
        **metrics.score(test.malignant, p, test.groups, RULE.threshold),
        "review": 3,
        "malignant_called_benign": 1,
    }
    count = {"breakhis": {"patients": 4, "benign": 10, "malignant": 10}}
    return {
        "settings": {"data": ["breakhis=images.zip"], "init": "none", "seed": 7},
        "classes": ["benign", "malignant"],
        "split": {"fingerprint": "f00d", "parts": {"train": count, "validation": count, "test": count}},
        "versions": {"torch": "2.14.1"},
        "revision": "abc123",
        "epoch": 2,
        "temperature": 1.25,
        "decision": asdict(RULE),
        "test": {"breakhis": scores, "breakhis/100X": scores},
        "baseline": {"breakhis": {"auroc": {"value": 0.612, "low": 0.5, "high": 0.7}}},
    } | more


@pytest.fixture
def test_part() -> tuple[Images, np.ndarray]:
    """Eight patients; of each class eight images are wrong, the more so the later they come."""
    groups = [f"breakhis/{index // 4}" for index in range(32)]
    malignant = [index >= 16 for index in range(32)]
    right, wrong = np.linspace(0.05, 0.45, 8), np.linspace(0.55, 0.95, 8)
    return pictures(groups, malignant), np.concatenate([right, wrong, 1 - right, 1 - wrong])


def test_a_report_is_one_file_that_loads_nothing(test_part: tuple[Images, np.ndarray], tmp_path: Path) -> None:
    test, p = test_part
    report.write(tmp_path, result_of(test, p), HISTORY, test, p)
    page = Page(tmp_path / "report.html")
    assert page.images
    assert all(str(address).startswith("data:image/png;base64,") for address in page.addresses)
    assert all(image["alt"] for image in page.images)
    for image in page.images:
        assert base64.b64decode(str(image["src"]).partition(",")[2]).startswith(PNG)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert "url(" not in page.text
    assert "@import" not in page.text
    assert page.tags.count("table") == page.tags.count("caption")
    assert page.tags.count("h1") == 1
    for name in ("history.png", "breakhis_curves.png", "breakhis_confusion.png"):
        assert (tmp_path / name).read_bytes().startswith(PNG)
    assert not list(tmp_path.glob("*.part"))


def test_a_report_says_what_a_reviewer_asks(test_part: tuple[Images, np.ndarray], tmp_path: Path) -> None:
    test, p = test_part
    result = result_of(test, p)
    result["test"]["breakhis"] |= {
        "report": metrics.classification_report(test.malignant, p >= 0.5),
        "patient_level": metrics.score_patients(test.malignant, p, test.groups, 0.5),
    }
    report.write(tmp_path, result, HISTORY, test, p)
    text = (tmp_path / "report.html").read_text()
    for metric in (result["test"]["breakhis"]["metrics"]["mcc"], result["test"]["breakhis"]["patient_level"]["metrics"]["auroc"]):
        assert f"<td>{metric['value']:.3f} [{metric['low']:.3f}, {metric['high']:.3f}]</td>" in text
    for sentence in (
        "does not diagnose alone",
        "weighted avg",
        "by patient (mean p)",
        "breakhis/100X",
        "0.612 [0.500, 0.700]",
        "abc123",
        "f00d",
        "1.250",
    ):
        assert sentence in text
    assert "LEAKY" not in text


def test_a_patient_level_that_has_no_meaning_is_said(test_part: tuple[Images, np.ndarray], tmp_path: Path) -> None:
    test, p = test_part
    result = result_of(test, p)
    result["test"]["breakhis"]["patient_level"] = None
    report.write(tmp_path, result, HISTORY, test, p)
    assert "No scores by patient" in (tmp_path / "report.html").read_text()


def test_a_leaky_run_shouts(test_part: tuple[Images, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    test, p = test_part
    titles = []

    def save(figure: Any, path: Path) -> None:
        titles.append(" ".join([figure.get_suptitle(), *(axis.get_title() for axis in figure.axes)]))
        path.write_bytes(PNG)

    monkeypatch.setattr("train.evaluation.plots._save", save)
    report.write(tmp_path, result_of(test, p, leaky=True), HISTORY, test, p)
    text = (tmp_path / "report.html").read_text()
    assert "LEAKY: split by image; images of one patient are on both sides; these figures do not tell how it does on new patients" in text
    assert "<title>LEAKY" in text
    assert len(titles) == 3
    assert all("LEAKY" in title for title in titles)


def test_what_a_user_named_is_text_and_never_markup(tmp_path: Path) -> None:
    evil = '<script>alert("1")</script>'
    test = pictures([evil, evil, "b", "c"], [True, True, False, False])
    p = np.array([0.1, 0.2, 0.8, 0.9])
    result = result_of(test, p, revision=evil)
    result["settings"]["data"] = [evil]
    out = tmp_path / "<b>run"
    out.mkdir()
    report.write(out, result, HISTORY, test, p)
    page = Page(out / "report.html")
    assert not {"script", "b"} & set(page.tags)
    assert page.text.count("&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt;") >= 4


def test_too_few_patients_for_scores_is_said(test_part: tuple[Images, np.ndarray], tmp_path: Path) -> None:
    test, p = test_part
    only = test.malignant
    report.write(tmp_path, result_of(test, p) | {"test": {}, "baseline": {}}, HISTORY, test.select(only), p[only])
    text = (tmp_path / "report.html").read_text()
    assert "Too few test patients" in text
    assert "Worst errors: malignant called benign" in text
    assert not (tmp_path / "breakhis_curves.png").exists()


def test_the_worst_errors_come_first(test_part: tuple[Images, np.ndarray]) -> None:
    test, p = test_part
    errors = report.worst_errors(test, p, RULE)
    missed, alarms = errors["malignant called benign"], errors["benign called malignant"]
    assert [error["p"] for error in missed] == pytest.approx(sorted(p[test.malignant])[:6])
    assert [error["p"] for error in alarms] == pytest.approx(sorted(p[~test.malignant], reverse=True)[:6])
    assert [error["decision"] for error in missed] == ["benign"] * 5 + ["review"]
    assert missed[0]["patient"] == "breakhis/7"


def test_no_errors_are_no_thumbnails(test_part: tuple[Images, np.ndarray]) -> None:
    test, _ = test_part
    assert report.worst_errors(test, test.malignant.astype(float), RULE) == {"malignant called benign": [], "benign called malignant": []}


def test_a_thumbnail_is_the_picture_in_its_colours(test_part: tuple[Images, np.ndarray]) -> None:
    test, p = test_part
    test.pixels_nhwc_u8[:] = (200, 30, 90)
    picture = report.worst_errors(test, p, RULE)["malignant called benign"][0]["picture"]
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(picture.partition(",")[2]), np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == (96, 96, 3)
    assert (decoded[..., ::-1] == (200, 30, 90)).all()


@pytest.mark.parametrize(
    ("low", "value", "parts"),
    [
        (0.7, 0.9, []),
        (0.4, 0.9, ["better than guessing: the interval of the AUROC begins at 0.400"]),
        (0.7, 0.8, ["colour alone, whose AUROC on the same patients is 0.800"]),
        (0.5, 0.5, ["guessing", "colour alone"]),
    ],
)
def test_a_run_that_learned_nothing_says_so(low: float, value: float, parts: list[str]) -> None:
    colour = {"auroc": {"low": 0.7, "value": 0.8, "high": 0.9}}
    sentences = report.doubts({"metrics": {"auroc": {"low": low, "value": value, "high": 1.0}}}, colour)
    assert len(sentences) == len(parts)
    assert all(part in sentence for part, sentence in zip(parts, sentences, strict=True))


def test_nothing_is_doubted_where_nothing_was_scored() -> None:
    assert report.doubts(None, {"auroc": {"low": 0.7, "value": 0.8, "high": 0.9}}) == []
