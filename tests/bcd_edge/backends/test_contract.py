"""What every provider found here must do."""

from __future__ import annotations

import numpy as np
import pytest

from bcd_edge import bundle, plugins
from bcd_edge.backends import Options
from bcd_edge.errors import BundleError

PROVIDERS = [name for name in plugins.names("bcd_edge.backends") if plugins.load("bcd_edge.backends", name).is_available().available]


@pytest.mark.parametrize("name", plugins.names("bcd_edge.backends"))
def test_it_says_whether_it_can_run(name: str) -> None:
    module = plugins.load("bcd_edge.backends", name)
    answer = module.is_available()
    assert module.REQUIRES
    assert answer.available or (answer.reason and answer.cure)


@pytest.mark.parametrize("name", PROVIDERS)
def test_shape_type_repeatability_and_name(name: str) -> None:
    opened = bundle.open()
    backend = plugins.load("bcd_edge.backends", name).open(opened.model()[1], Options(threads=1))
    size = opened.input
    batch = np.random.default_rng(0).integers(0, 256, (3, size.height, size.width, 3), dtype=np.uint8)
    first = backend.infer(batch)
    assert first.shape == (3, 2)
    assert first.dtype == np.float32
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
