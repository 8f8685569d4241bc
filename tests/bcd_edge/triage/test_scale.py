"""A picture of another field of view than the training pictures' needs review, in the record of every way to give its scale."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from bcd_edge import bundle
from bcd_edge.classifier import Classifier
from bcd_edge.cli import main
from bcd_edge.options import RunOptions
from bcd_edge.pictures import DecodedImage
from bcd_edge.triage.scale import Scale

PIXELS = np.full((460, 700, 3), 200, np.uint8)


@given(st.integers(1, 5000), st.integers(1, 5000), st.floats(0.01, 50))
def test_exactly_the_fields_within_the_limits_pass(height: int, width: int, um_per_pixel: float) -> None:
    side = (height * width) ** 0.5 * um_per_pixel
    reasons = Scale(19, 350).reasons(height, width, um_per_pixel)
    assert bool(reasons) != (19 <= side <= 350)
    assert Scale(19, 350).reasons(width, height, um_per_pixel) == reasons


@pytest.mark.parametrize(("um_per_pixel", "passes"), [(0.49, True), (0.05, True), (4.0, False), (0.005, False)])
def test_the_embedded_bundle_knows_the_scales_of_its_collections(um_per_pixel: float, passes: bool) -> None:
    scale = bundle.open(None).scale
    assert scale is not None
    assert bool(scale.reasons(460, 700, um_per_pixel)) != passes


def test_the_scale_is_in_the_record_and_a_picture_tells_its_own_first() -> None:
    with Classifier.load(None, RunOptions(provider="null"), measures_quality=False, um_per_pixel=5.0) as classifier:
        record = classifier.classify(PIXELS)
        own = classifier.classify(DecodedImage(PIXELS, "ab" * 32, 0.0, um_per_pixel=0.49))
    assert (record.um_per_pixel, record.decision, own.um_per_pixel) == (5.0, "review", 0.49)
    assert record.reasons[0].startswith("scale: the field is 2837 µm wide and the model was trained on 19 to 348 µm")
    assert not [reason for reason in own.reasons if reason.startswith("scale")]
    with Classifier.load(None, RunOptions(provider="null"), measures_quality=False) as classifier:
        assert classifier.classify(PIXELS).um_per_pixel is None


def test_a_width_that_is_none_is_a_usage_error() -> None:
    done = CliRunner().invoke(main, ["predict", "--um-per-pixel", "0", "x.png"])
    assert done.exit_code == 2
    assert "--um-per-pixel" in done.output
