"""TLS with DCMTK on the other side, and credentials for Orthanc's STOW-RS."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from bcd_edge.dicom.peers import Peer
from bcd_edge.dicom.sender import Archive
from bcd_edge.dicom.tls import Tls
from bcd_edge.errors import UsageError

pytest.importorskip("pynetdicom")


@pytest.fixture
def identity(node: Any) -> tuple[Path, Path]:
    """A key and a certificate for localhost, which is its own authority."""
    key, certificate = node.folder / "key.pem", node.folder / "certificate.pem"
    subject = ("-x509", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-nodes", "-newkey", "rsa:2048")
    command = [node.program("openssl", "openssl"), "req", *subject, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return key, certificate


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # pynetdicom leaves the socket to the garbage collector
def test_images_come_and_reports_go_over_tls(node: Any, identity: tuple[Path, Path]) -> None:
    key, certificate = identity
    dcmtk = ("+tls", str(key), str(certificate), "+cf", str(certificate))
    archive, place = node.free_port(), node.folder / "archive"
    place.mkdir()
    (image,) = node.images(1)
    ours = ("--dicom-certificate", certificate, "--dicom-key", key, "--dicom-ca", certificate, "--dicom-return", f"PACS@127.0.0.1:{archive}")
    storing = [node.program("storescp", "dcmtk"), *dcmtk, "-od", str(place), "-aet", "PACS", str(archive)]
    with subprocess.Popen(storing) as process, ExitStack() as stack:
        stack.callback(process.kill)
        with node.watching(*map(str, ours)):
            assert "Received Store Response (Success)" not in node.store(image).stderr, "without TLS"
            assert "Received Store Response (Success)" not in node.store(image, options=("+tla",)).stderr, "without a certificate"
            assert "Received Store Response (Success)" in node.store(image, options=dcmtk).stderr
            node.until(lambda: node.returned() == 1, "the report")
    assert len(list(place.iterdir())) == 1
    refused = node.run("dicom", "send", node.results, "--to", f"PACS@127.0.0.1:{archive}", "--ca", certificate)
    assert (refused.exit_code, "could not be reached" in refused.stderr) == (5, True)


def test_a_file_that_is_no_certificate_is_named(node: Any, identity: tuple[Path, Path]) -> None:
    key, certificate = identity
    for files, words in (
        ((key, certificate), "key.pem"),
        ((certificate, node.folder / "none.pem"), "No such file"),
        ((certificate, node.folder), "cannot be used"),
    ):
        with pytest.raises(UsageError, match=words):
            Tls(*files).server()
    with pytest.raises(UsageError, match="needed"):
        Tls(authority=certificate).server()
    done = node.run("watch", node.inbox, "--out", node.results, "--dicom-port", node.port, "--dicom-certificate", key)
    assert (done.exit_code, "PEM files" in done.stderr) == (2, True)


def test_credentials(tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.write_text("user:pässword\n", encoding="utf-8")
    archive = Archive("https://pacs.example/dicom-web", credentials=file)
    archive.check()
    assert archive.authorization() == "Basic dXNlcjpww6Rzc3dvcmQ="
    file.write_text("abc.def\n", encoding="utf-8")
    assert archive.authorization() == "Bearer abc.def", "a token may be renewed"
    for text in ("", "a\nb", "a\r\nX: y"):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(UsageError, match="is not one line"):
            archive.check()
    for target in ("http://pacs.example/dicom-web", Peer("PACS", "127.0.0.1", 104)):
        with pytest.raises(UsageError, match="https"):
            Archive(target, credentials=file).check()
    with pytest.raises(UsageError, match="cannot be read"):
        Archive("https://pacs.example", credentials=tmp_path / "none").check()


def test_orthanc_takes_reports_with_credentials_alone(node: Any) -> None:
    (image,) = node.images(1)
    image.rename(node.inbox / image.name)
    node.answer()
    credentials = node.folder / "credentials"
    with node.orthanc(AuthenticationEnabled=True, RegisteredUsers={"bcd-edge": "secret"}) as (web, _):
        if not Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so").exists():
            pytest.skip("STOW-RS needs orthanc-dicomweb: apt-get install orthanc-dicomweb")
        credentials.write_text("bcd-edge:wrong", encoding="utf-8")
        refused = node.run("dicom", "send", node.results, "--to", f"{web}/dicom-web", "--credentials", credentials)
        assert (refused.exit_code, "HTTP 401); check the file of credentials" in refused.stderr) == (5, True)
        credentials.write_text("bcd-edge:secret", encoding="utf-8")
        done = node.run("dicom", "send", node.results, "--to", f"{web}/dicom-web", "--credentials", credentials)
        assert (done.exit_code, done.stdout) == (0, f"{web}/dicom-web: 1 object\n")
