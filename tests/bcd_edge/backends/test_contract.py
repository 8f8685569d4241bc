"""What every provider found here must do."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from bcd_edge import Classifier, bundle, plugins, synthetic
from bcd_edge.backends import Options, installed
from bcd_edge.errors import BundleError, ProviderError
from bcd_edge.selftest import TOLERANCES


def _if_it_runs(name: str) -> object:
    answer = plugins.load("bcd_edge.backends", name).is_available()
    return pytest.param(name, marks=pytest.mark.skipif(not answer.available, reason=f"{name}: {answer.reason}; type: {answer.cure}"))


PROVIDERS = [_if_it_runs(name) for name in plugins.names("bcd_edge.backends")]


@pytest.mark.parametrize("name", plugins.names("bcd_edge.backends"))
def test_it_says_whether_it_can_run(name: str) -> None:
    module = plugins.load("bcd_edge.backends", name)
    answer = module.is_available()
    assert module.REQUIRES
    assert answer.available or (answer.reason and answer.cure)


@pytest.mark.parametrize("name", PROVIDERS)
def test_shape_type_repeatability_and_name(name: str) -> None:
    opened = bundle.open()
    backend = plugins.load("bcd_edge.backends", name).open(opened.model()[1][0], Options(threads=1))
    size = opened.input
    batch = np.random.default_rng(0).integers(0, 256, (3, size.height, size.width, 3), dtype=np.uint8)
    first = backend.infer(batch)
    assert first.shape == (3, 2)
    assert first.dtype == np.float32
    kept = first.copy()
    assert not np.array_equal(first, backend.infer(255 - batch))
    assert np.array_equal(first, kept)
    assert np.array_equal(first, backend.infer(batch))
    assert np.allclose(first[1:2], backend.infer(batch[1:2]), atol=1e-3)
    assert backend.provider == name
    assert backend.device
    backend.close()


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize("model", [b"", b"nothing like a model", b"\x08\x0a"])
def test_what_is_no_model_is_a_bundle_error(name: str, model: bytes) -> None:
    with pytest.raises(BundleError):
        plugins.load("bcd_edge.backends", name).open(model, Options())


@pytest.mark.parametrize("name", PROVIDERS)
def test_it_answers_as_the_cpu_does(name: str, classifier: Classifier) -> None:
    if not bundle.open().variants(name):
        pytest.skip(f"the embedded bundle is not meant for {name}")
    other = Classifier.load(provider=name, precision=classifier.execution.precision)
    for picture in synthetic.samples().values():
        expected = classifier.classify(picture).p_malignant
        assert other.classify(picture).p_malignant == pytest.approx(expected, abs=TOLERANCES[classifier.execution.precision])


@pytest.mark.parametrize("name", PROVIDERS)
def test_an_image_it_cannot_take_is_a_provider_error(name: str) -> None:
    backend = plugins.load("bcd_edge.backends", name).open(bundle.open().model()[1][0], Options(threads=1))
    size = bundle.open().input
    backend.infer(np.zeros((1, size.height, size.width, 3), np.uint8))
    for wrong in (np.zeros((1, 7, 7, 3), np.uint8), np.zeros((1, size.height, size.width, 3), np.float32)):
        with pytest.raises(ProviderError, match="failed"):
            backend.infer(wrong)


@pytest.mark.parametrize("name", PROVIDERS)
def test_it_never_speaks_to_the_network(name: str) -> None:
    script = f"""
import os, sys
sys.addaudithook(lambda event, _: os._exit(9) if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto") else None)
from bcd_edge import bundle, plugins
from bcd_edge.backends import Options
plugins.load("bcd_edge.backends", {name!r}).open(bundle.open().model()[1][0], Options(threads=1)).close()
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_engine_that_is_too_old_or_missing_says_so() -> None:
    assert installed("numpy>=1.0", "").available
    assert "is older than 99.0" in installed("numpy>=99.0", "cure").reason
    assert "does not import" in installed("bcd_edge_nothing>=1.0", "cure").reason
