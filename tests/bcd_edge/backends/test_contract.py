"""What every provider found here must do."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from bcd_edge import Classifier, backends, bundle, plugins, synthetic
from bcd_edge.backends import installed, nvidia
from bcd_edge.errors import BundleError, ProviderError, UsageError
from bcd_edge.options import RunOptions
from bcd_edge.selftest import TOLERANCES


def _if_it_runs(name: str) -> object:
    answer = plugins.load("bcd_edge.backends.providers", name).is_available()
    return pytest.param(name, marks=pytest.mark.skipif(not answer.available, reason=f"{name}: {answer.reason}; fix: {answer.fix}"))


PROVIDERS = [_if_it_runs(name) for name in backends.engines()]


def _skip_where_not_exact(name: str) -> None:
    """Skips where the provider runs, but would compute the embedded bundle wrongly."""
    variants = bundle.open().variants(name)
    if variants and not (answer := backends.computes(name, variants[0])).available:
        pytest.skip(f"{name}: {answer.reason}")


@pytest.mark.parametrize("name", plugins.names("bcd_edge.backends.providers"))
def test_it_says_whether_it_can_run(name: str) -> None:
    module = plugins.load("bcd_edge.backends.providers", name)
    answer = module.is_available()
    assert module.REQUIRES
    assert answer.available or (answer.reason and answer.fix)


@pytest.mark.parametrize("name", PROVIDERS)
def test_shape_type_repeatability_and_name(name: str) -> None:
    opened = bundle.open()
    backend = plugins.load("bcd_edge.backends.providers", name).open(opened.model()[1][0], RunOptions(threads=1))
    size = opened.input
    batch = np.random.default_rng(0).integers(0, 256, (3, size.height, size.width, 3), dtype=np.uint8)
    first = backend.infer(batch)
    assert first.shape == (3, 2 + opened.embedding_size)
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
        plugins.load("bcd_edge.backends.providers", name).open(model, RunOptions())


@pytest.mark.parametrize("name", PROVIDERS)
def test_it_answers_as_the_cpu_does(name: str, classifier: Classifier) -> None:
    if not bundle.open().variants(name):
        pytest.skip(f"the embedded bundle is not meant for {name}")
    _skip_where_not_exact(name)
    other = Classifier.load(options=RunOptions(provider=name, precision=classifier.execution.precision))
    for picture in synthetic.samples().values():
        expected = classifier.classify(picture).p_malignant
        assert other.classify(picture).p_malignant == pytest.approx(expected, abs=TOLERANCES[classifier.execution.precision])


@pytest.mark.parametrize("name", PROVIDERS)
def test_an_image_it_cannot_take_is_a_provider_error(name: str) -> None:
    backend = plugins.load("bcd_edge.backends.providers", name).open(bundle.open().model()[1][0], RunOptions(threads=1))
    size = bundle.open().input
    backend.infer(np.zeros((1, size.height, size.width, 3), np.uint8))
    for wrong in (np.zeros((1, 7, 7, 3), np.uint8), np.zeros((1, size.height, size.width, 3), np.float32)):
        with pytest.raises(ProviderError, match="failed"):
            backend.infer(wrong)


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_fixed_batch_and_inferences_at_once_answer_as_one_after_the_other(name: str) -> None:
    opened = bundle.open()
    if not opened.variants(name):
        pytest.skip(f"the embedded bundle is not meant for {name}")
    model, size = opened.model()[1][0], opened.input
    images = np.random.default_rng(1).integers(0, 256, (16, size.height, size.width, 3), dtype=np.uint8)
    alone = plugins.load("bcd_edge.backends.providers", name).open(model, RunOptions(threads=1))
    expected = alone.infer(images)
    tolerance = (
        1e-3 if plugins.load("bcd_edge.backends.providers", name).runs_on_cpu(None) else TOLERANCES["int8"]
    )  # a card's kernels depend on the batch
    many = plugins.load("bcd_edge.backends.providers", name).open(model, RunOptions(batch=4, streams=3))
    assert many.batch in (None, 4)
    batches = [images[start : start + 4] for start in range(0, 16, 4)] * 5
    with ThreadPoolExecutor(3) as pool:
        outputs = list(pool.map(many.infer, batches))
    assert np.allclose(np.concatenate(outputs[:4]), expected, atol=tolerance)
    assert all(np.array_equal(outputs[index], outputs[index % 4]) for index in range(20))
    if many.batch:
        with pytest.raises(ProviderError, match="failed"):
            many.infer(images[:3])
    many.close()


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_device_it_does_not_have_is_said(name: str) -> None:
    with pytest.raises(ProviderError, match=r"(?i)abacus"):
        plugins.load("bcd_edge.backends.providers", name).open(bundle.open().model()[1][0], RunOptions(device="abacus"))


@pytest.mark.parametrize("name", ["null", *PROVIDERS])
def test_a_closed_backend_says_so_at_once(name: str) -> None:
    backend = plugins.load("bcd_edge.backends.providers", name).open(bundle.open().model()[1][0], RunOptions(threads=1))
    size = bundle.open().input
    for _ in range(2):
        backend.close()
        with pytest.raises(ProviderError, match="closed"):
            backend.infer(np.zeros((1, size.height, size.width, 3), np.uint8))


@pytest.mark.parametrize("name", ["null", *PROVIDERS])
def test_a_closed_classifier_says_so_at_once(name: str, picture: np.ndarray) -> None:
    _skip_where_not_exact(name)
    with Classifier.load(options=RunOptions(provider=name)) as closing:
        closing.classify(picture)
    closing.close()
    for use in (
        lambda: closing.classify(picture),
        lambda: closing.classify_many([]),
        lambda: closing.probabilities(picture[np.newaxis]),
        closing.__enter__,
    ):
        with pytest.raises(UsageError, match="is closed"):
            use()


def test_an_option_that_a_provider_does_not_have_is_said() -> None:
    with pytest.raises(UsageError, match="has no option 'colour'; it has delay"):
        Classifier.load(options=RunOptions(provider="null", provider_options=(("colour", "red"),)))
    with Classifier.load(options=RunOptions(provider="null", provider_options=(("delay", "5ms"),))) as delayed:
        assert "5 ms per call" in delayed.execution.device


def test_null_answers_at_once_and_says_that_it_means_nothing(picture: np.ndarray) -> None:
    assert "null" not in backends.engines()
    with Classifier.load(options=RunOptions(provider="null")) as nothing:
        record = nothing.classify(picture)
        assert (record.p_malignant, record.decision) == (0.5, "review")
        assert "does not run the model" in nothing.warnings[0]


@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
def test_without_a_card_it_says_what_is_missing_and_never_runs_on_the_cpu(name: str) -> None:
    if backends.availability(name).available:
        pytest.skip(f"{name} runs here")
    answer = backends.availability(name)
    with pytest.raises(ProviderError, match=re.escape(answer.reason)):
        plugins.load("bcd_edge.backends.providers", name).open(bundle.open().model()[1][0], RunOptions())


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """An onnxruntime with CUDA, a card, and no CUDA libraries: the state of a fresh `pip install onnxruntime-gpu`."""
    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.setattr(nvidia, "cuda_devices", lambda: (1, ""))
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None, raising=False)
    monkeypatch.setattr(onnxruntime, "cuda_version", "13.0", raising=False)
    monkeypatch.setattr(nvidia.Path, "exists", lambda path: True)

    def missing(name: str, mode: int = 0) -> None:
        raise OSError("libcublasLt.so.13: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(nvidia.ctypes, "CDLL", missing)
    answer = nvidia.availability("CUDAExecutionProvider")
    assert not answer.available
    assert "needs CUDA 13, but libcublasLt.so.13 is missing" in answer.reason
    assert answer.fix.startswith("pip install")


@pytest.mark.parametrize("name", PROVIDERS)
def test_it_never_speaks_to_the_network(name: str) -> None:
    script = f"""
import os, sys
sys.addaudithook(lambda event, _: os._exit(9) if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto") else None)
from bcd_edge import bundle, plugins
from bcd_edge.options import RunOptions
plugins.load("bcd_edge.backends.providers", {name!r}).open(bundle.open().model()[1][0], RunOptions(threads=1)).close()
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_engine_that_is_too_old_or_missing_says_so() -> None:
    assert installed("numpy>=1.0", "").available
    assert "is older than 99.0" in installed("numpy>=99.0", "fix").reason
    assert "does not import" in installed("bcd_edge_nothing>=1.0", "fix").reason
