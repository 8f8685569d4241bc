"""Real peers: DCMTK and Orthanc send, bcd-edge answers once and sends reports back; killed in between, too."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bcd_edge.dicom import peers, receiver, sender
from bcd_edge.dicom.sender import Archive
from bcd_edge.errors import OutputError, UsageError

CT = "1.2.840.10008.5.1.4.1.1.2"


def acknowledged(sent: str) -> int:
    """How many files DCMTK's storescu was told are stored."""
    return sent.count("Received Store Response (Success)")


def test_what_is_sent_is_answered_with_patient_and_study(node: Any) -> None:
    images = node.images(3, PatientID="P7", StudyInstanceUID="1.2.3")
    with node.watching():
        echo = [node.program("echoscu", "dcmtk"), "-aec", "BCD_EDGE", "127.0.0.1", str(node.port)]
        assert subprocess.run(echo, check=False).returncode == 0
        assert acknowledged(node.store(*images).stderr) == 3
        assert len(list(node.inbox.glob("*.dcm"))) == 3, "on the disk before the sender is told so"
        assert acknowledged(node.store(*images).stderr) == 3, "what was stored before is stored"
        node.until(lambda: node.done() == 3, "answers")
    assert {(record["intake"]["patient"], record["intake"]["study"]) for record in node.records()} == {("P7", "1.2.3")}
    assert len(node.query("SELECT 1 FROM names")) == 3


def test_who_may_send(node: Any) -> None:
    (image,) = node.images(1)
    with node.watching("--dicom-allow", "GOOD@127.0.0.1", "--dicom-allow", "FAR@10.9.9.0/24"):
        for calling, called in (("BAD", "BCD_EDGE"), ("FAR", "BCD_EDGE"), ("GOOD", "OTHER")):
            assert "Rejected" in node.store(image, calling=calling, called=called).stderr
        assert not list(node.inbox.glob("*.dcm"))
        assert acknowledged(node.store(image, calling="GOOD").stderr) == 1
    assert "BAD at 127.0.0.1 called BCD_EDGE and was rejected; to allow it: --dicom-allow BAD@127.0.0.1" in node.log()
    assert "this one is BCD_EDGE, see --dicom-title" in node.log()


@pytest.fixture
def slide_levels(tmp_path: Path) -> list[Path]:
    """The files of a DICOM slide, from full resolution down."""
    slide_files = pytest.importorskip("benchmarks.slide_files")
    pytest.importorskip("openslide")
    drawn = slide_files.Drawn(2048, 1024, ((0.0, 0.0, 0.5, 1.0),), downsamples=(1, 4))
    return sorted(slide_files.write_dicom(tmp_path / "levels", drawn, 1.0).parent.iterdir())


def test_a_slide_is_answered_once_when_nothing_of_it_arrives_any_more(node: Any, slide_levels: list[Path]) -> None:
    jpeg = ("--required", "--propose-jpeg8")
    with node.watching("--dicom-slide-after", "1s", "--after", "delete"):
        for level in reversed(slide_levels):  # an archive that routes by instance has an association for each
            assert acknowledged(node.store(level, options=jpeg).stderr) == 1
        node.until(lambda: node.done() == 1, "an answer")
        assert acknowledged(node.store(*slide_levels, options=jpeg).stderr) == 2, "what was stored before is stored"
    (folder,) = (path for path in node.inbox.iterdir() if not path.name.startswith("."))
    assert len(list(folder.iterdir())) == 2, "what would be left of a slide would be answered again"
    (record,) = node.records()
    assert (record["kind"], record["slide"]["width"]) == ("slide", 2048)
    assert not list((node.inbox / ".dicom").iterdir())
    node.answer()
    assert node.done() == 1


def test_a_slide_that_was_acknowledged_survives_an_end(node: Any, slide_levels: list[Path]) -> None:
    with node.watching("--dicom-slide-after", "1h") as process:
        assert acknowledged(node.store(*slide_levels, options=("--required", "--propose-jpeg8")).stderr) == 2
        process.kill()
    assert node.done() == 0
    with node.watching("--dicom-slide-after", "0s"):
        node.until(lambda: node.done() == 1, "an answer")
    assert [record["slide"]["width"] for record in node.records()] == [2048]


def test_only_images_of_visible_light_are_accepted_and_damaged_ones_get_a_sentence(node: Any) -> None:
    (damaged,) = node.images(1, Rows=25)
    (other,) = node.images(1, SOPClassUID=CT)
    with node.watching("--max-attempts", "1"):
        assert acknowledged(node.store(other).stderr) == 0
        damaged.write_bytes(node.make(_picture(), Rows=25))
        assert acknowledged(node.store(damaged).stderr) == 1
        node.until(lambda: node.query("SELECT 1 FROM files WHERE state = 'quarantined'"), "quarantine")
    assert node.query("SELECT reason FROM files")[0].startswith("The image is damaged (its pixels have 1,728 bytes instead of 1,800)")


def _picture() -> Any:
    from bcd_edge.synthetic import tissue

    return tissue(9, height=24, width=24, glands=0, scattered=2)


def test_where_there_is_no_room_the_sender_is_told_so(node: Any) -> None:
    with node.watching("--min-free", "1000TB"):
        assert "Refused: OutOfResources" in node.store(*node.images(1)).stderr
    assert not list(node.inbox.glob("*.dcm"))


def test_a_caller_whose_file_does_not_fit_is_cut_off(node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiver, "AWAITED_BYTES", 50_000)
    (image,) = node.images(1)
    (node.folder / "large.dcm").write_bytes(node.make(np.zeros((200, 200, 3), np.uint8)))
    with receiver.receiving(node.inbox, receiver.Settings(node.port, min_free=2**60)):
        assert "Peer aborted Association" in node.store(node.folder / "large.dcm").stderr
        assert node.store(*[image] * 30, options=("--no-halt",)).stderr.count("Refused: OutOfResources") == 30, "each begins anew, and is told"
        node.until(lambda: not list((node.inbox / ".dicom").iterdir()), "what was not finished to be removed")
    assert not list(node.inbox.glob("*.dcm"))


# Ends a watcher with SIGKILL when it has written so many images, before their sender is told so.
KILLED = """
import itertools, os, signal, sys
from bcd_edge.cli import main
from bcd_edge.dicom import incoming
write, calls = incoming.put, itertools.count(1)
def killed(*arguments):
    write(*arguments)
    if next(calls) == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
incoming.put = killed
main(sys.argv[2:])
"""


def test_killed_while_images_arrive(node: Any) -> None:
    pydicom = pytest.importorskip("pydicom")
    images = node.images(60)
    names = [f"{pydicom.dcmread(path).SOPInstanceUID}.dcm" for path in images]
    with node.watching(python=("-c", KILLED, "25")) as process:
        assert acknowledged(node.store(*images).stderr) == 24
        assert process.wait() == -9
    assert sorted(path.name for path in node.inbox.glob("*.dcm")) == sorted(names[:25]), "the last one is whole, and was not acknowledged"
    with node.watching():
        node.until(lambda: node.done() == 25, "answers to what was acknowledged")
        assert acknowledged(node.store(*images[24:]).stderr) == 36
        node.until(lambda: node.done() == 60, "all answers")
    assert Counter(node.query("SELECT CAST(path AS TEXT) FROM names")) == Counter(names)
    assert not list((node.inbox / ".dicom").iterdir())
    assert node.run("watch", "verify", node.results).stdout.startswith("ok: 60 images done")


def test_an_archive_that_is_away_gets_report_and_overlay_later(node: Any, is_valid: Callable[[Path], None]) -> None:
    archive, place = node.free_port(), node.folder / "archive"
    place.mkdir()
    with node.watching("--explain", "--dicom-return", f"PACS@127.0.0.1:{archive}"):
        node.store(*node.images(1))
        node.until(lambda: "could not be reached" in node.log(), "a warning")
        listing = node.run("dicom", "returns", node.results)
        assert (listing.exit_code, listing.stdout.split(",")[0]) == (1, "0 sent")
        assert "report of" in listing.stdout
        assert node.run("dicom", "returns", node.results, "--retry").exit_code == 0
        with subprocess.Popen([node.program("storescp", "dcmtk"), "-od", str(place), "-aet", "PACS", str(archive)]) as storing:
            try:
                node.until(lambda: node.returned() == 2, "report and overlay")
            finally:
                storing.kill()
    assert node.run("dicom", "returns", node.results).stdout == "2 sent, 0 waiting, 0 failed the last time\n"
    files = list(place.iterdir())
    assert sorted(file.name[:2] for file in files) == ["SC", "SR"]
    for file in files:
        is_valid(file)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # pynetdicom leaves the socket to the garbage collector
def test_an_archive_that_refuses_is_named(node: Any) -> None:
    with pytest.raises(OutputError, match=r"PACS at 127\.0\.0\.1:\d+ could not be reached"):
        sender.send(Archive(peers.Peer("PACS", "127.0.0.1", node.free_port())), [_report()])
    with pytest.raises(OutputError, match="could not be reached"):
        sender.send(Archive(f"http://127.0.0.1:{node.free_port()}/dicom-web"), [_report()])


def _report() -> Any:
    from pydicom.dataset import Dataset, FileMetaDataset

    report = Dataset()
    report.SOPClassUID, report.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.88.33", "1.2.3"
    report.file_meta = FileMetaDataset()
    report.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    return report


def fetched(url: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=60) as response:
        return json.loads(response.read())


def test_orthanc_routes_a_study_and_shows_the_reports(node: Any) -> None:
    images = node.images(2, PatientID="P7", StudyInstanceUID="1.2.3")
    with node.orthanc() as (web, port):
        reports = {"Level": "Instance", "Query": {"Modality": "SR"}, "Expand": True}
        with node.watching("--dicom-return", f"ORTHANC@127.0.0.1:{port}"):
            command = [node.program("storescu", "dcmtk"), "-aec", "ORTHANC", "127.0.0.1", str(port), *map(str, images)]
            assert subprocess.run(command, check=False).returncode == 0
            node.until(lambda: len(fetched(f"{web}/tools/find", reports)) == 2, "reports")
            (study,) = fetched(f"{web}/tools/find", {"Level": "Study", "Query": {"PatientID": "P7"}, "Expand": True})
            assert study["MainDicomTags"]["StudyInstanceUID"] == "1.2.3"
            kinds = [fetched(f"{web}/series/{series}")["MainDicomTags"]["Modality"] for series in study["Series"]]
            assert "SR" in kinds
        for answer in fetched(f"{web}/tools/find", reports):
            tags = fetched(f"{web}/instances/{answer['ID']}/simplified-tags")
            assert (tags["PatientID"], tags["ContentQualification"]) == ("P7", "RESEARCH")
        assert node.done() == 2, "reports are not sent in a circle"
        if "dicom-web" not in fetched(f"{web}/plugins"):
            pytest.skip("STOW-RS needs orthanc-dicomweb: apt-get install orthanc-dicomweb")
        done = node.run("dicom", "send", node.results, "--to", f"{web}/dicom-web")
        assert (done.exit_code, done.stdout) == (0, f"{web}/dicom-web: 2 objects\n")
        assert len(fetched(f"{web}/tools/find", reports)) == 2, "sent twice and stored once"


def test_orthanc_routes_a_slide_and_gets_one_report_and_the_tiles(node: Any, slide_levels: list[Path]) -> None:
    with node.orthanc() as (web, port), node.watching("--dicom-slide-after", "2s", "--dicom-return", f"ORTHANC@127.0.0.1:{port}"):
        command = [node.program("storescu", "dcmtk"), "--required", "--propose-jpeg8", "-aec", "ORTHANC", "127.0.0.1", str(port)]
        assert subprocess.run([*command, *map(str, slide_levels)], check=False).returncode == 0
        node.until(lambda: node.returned() == 1, "the return of report and tiles")
        found = fetched(f"{web}/tools/find", {"Level": "Series", "Query": {}, "Expand": True})
    assert sorted((series["MainDicomTags"]["Modality"], len(series["Instances"])) for series in found) == [("ANN", 1), ("SM", 2), ("SR", 1)]
    assert len({series["ParentStudy"] for series in found}) == 1
    assert node.done() == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--dicom-return", "PACS"), "'PACS' is not AE@HOST:PORT"),
        (("--dicom-return", "PACS@127.0.0.1:104", "--after", "delete"), "give --after move or keep"),
        (("--dicom-port", "11112", "--dicom-title", "A TITLE THAT IS TOO LONG"), "is not an AE title"),
        (("--dicom-port", "11112", "--dicom-allow", "PACS"), "'PACS' is not AE@ADDRESS"),
    ],
)
def test_options_that_are_wrong(node: Any, options: tuple[str, ...], words: str) -> None:
    done = node.run("watch", node.inbox, "--out", node.results, *options)
    assert done.exit_code == 2
    assert words in done.stderr


@pytest.mark.parametrize(
    ("text", "title", "address", "is_allowed"),
    [
        ("SCANNER@10.1.2.3", "SCANNER", "10.1.2.3", True),
        ("SCANNER@10.1.2.3", "OTHER", "10.1.2.3", False),
        ("SCANNER@10.1.2.3", "SCANNER", "10.1.2.4", False),
        ("*@10.1.2.0/24", "OTHER", "10.1.2.200", True),
        ("A@B@::1", "A@B", "::1", True),
    ],
)
def test_callers(text: str, title: str, address: str, is_allowed: bool) -> None:
    assert peers.caller(text).matches(title, address) is is_allowed


@pytest.mark.parametrize("text", ["10.1.2.3", "@10.1.2.3", "A@somewhere", "A@10.1.2.3/8", "ABCDEFGHIJKLMNOPQ@10.1.2.3", "A\\B@10.1.2.3"])
def test_what_is_no_caller(text: str) -> None:
    with pytest.raises(UsageError):
        peers.caller(text)


def test_targets() -> None:
    assert peers.target("PACS@10.1.2.3:104") == peers.Peer("PACS", "10.1.2.3", 104)
    assert peers.target("PACS@[::1]:104") == peers.Peer("PACS", "::1", 104)
    assert peers.target("https://pacs.example/dicom-web") == "https://pacs.example/dicom-web"
    for text in ("PACS", "PACS@host", "@host:104", "PACS@host:0", "PACS@host:x", "PACS@:104"):
        with pytest.raises(UsageError):
            peers.target(text)
