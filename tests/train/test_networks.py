"""Weights from anywhere they can come from, and from nowhere else."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import click
import cv2
import pytest
import torch
from skimage.data import chelsea
from torchvision.models import densenet121, inception_v3, resnet50

from bcd_edge import plugins
from train import checkpoint, networks


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.nn.Module]:
    """A file as torchvision's: 1000 classes, made for normalised pixels."""
    torch.manual_seed(0)
    model = resnet50().eval()
    with torch.no_grad():
        for name, value in model.named_buffers():
            if name.endswith("running_mean"):
                value.normal_(0, 0.1)
    path = tmp_path_factory.mktemp("weights") / "resnet50.pth"
    torch.save(model.state_dict(), path)
    return path, model


def test_normalisation_is_folded_into_the_first_layer(imagenet: tuple[Path, torch.nn.Module]) -> None:
    path, model = imagenet
    ours = networks.build(str(path)).eval()
    pixels = torch.rand(1, 3, 64, 64)
    made = networks.get_architecture("resnet50")
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (made.mean, made.std))
    with torch.inference_mode():
        expected = model.bn1(model.conv1((pixels - mean) / std))
        computed = ours.bn1(ours.conv1(pixels))
    assert torch.allclose(computed[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2], atol=1e-4)
    assert ours.fc.out_features == 2
    assert torch.equal(ours.layer4[0].conv1.weight, model.layer4[0].conv1.weight)


def test_a_run_of_ours_is_taken_as_it_is(run: Path) -> None:
    stored = checkpoint.load(run / "best.pt")["model"]
    built = networks.build(str(run / "best.pt"), "tiny").state_dict()
    assert all(torch.equal(value, stored[name]) for name, value in built.items())


def test_a_download_that_fails_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError("Connection refused")

    monkeypatch.setattr("torch.hub.download_url_to_file", refused)
    monkeypatch.setenv("TORCH_HOME", "/tmp/no-such-cache-of-torch")
    with pytest.raises(click.ClickException, match="--init FILE"):
        networks.build("imagenet")


def test_files_that_are_no_weights(tmp_path: Path, imagenet: tuple[Path, torch.nn.Module]) -> None:
    with pytest.raises(click.ClickException, match="does not exist"):
        networks.build(str(tmp_path / "none.pt"))
    truncated = tmp_path / "cut.pt"
    truncated.write_bytes(imagenet[0].read_bytes()[:5000])
    with pytest.raises(click.ClickException, match="no usable checkpoint"):
        networks.build(str(truncated))
    for content in ({"x": torch.zeros(1)}, torch.zeros(3), {"conv1.weight": torch.zeros(64, 3, 7, 7), "bn1.running_mean": torch.zeros(64)}):
        torch.save(content, tmp_path / "other.pt")
        with pytest.raises(click.ClickException):
            networks.build(str(tmp_path / "other.pt"))


def test_code_in_a_checkpoint_does_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "ran",)  # type: ignore[return-value]

    torch.save({"model": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(click.ClickException, match="no usable checkpoint"):
        networks.build(str(tmp_path / "evil.pt"))
    assert not (tmp_path / "ran").exists()


WEIGHTS = Path(__file__).parents[3] / "shared" / "weights"


@pytest.mark.data
@pytest.mark.skipif(not WEIGHTS.exists(), reason="needs the initial weights beside the checkout, in ../shared/weights")
@pytest.mark.parametrize(
    ("name", "file", "size", "first", "norm"),
    [
        ("resnet50v2", "resnet50v2_gluon_to_stage3.safetensors", 224, [0.0161, 0.0314, 0.0180, 0.0235, 0.0082, 0.0133], 0.5852),
        ("inception_v3", "inception_v3_google2015_to_mixed7a.safetensors", 299, [0.0078, 0.0914, 0.0686, 0.5273], 10.1582),
    ],
)
def test_published_weights_give_the_features_that_they_give_elsewhere(name: str, file: str, size: int, first: list[float], norm: float) -> None:
    """The figures are those noted beside the files, from another implementation of each network."""
    model = networks.build(str(WEIGHTS / file), name).eval()
    pixels = torch.from_numpy(cv2.resize(chelsea(), (size, size), interpolation=cv2.INTER_AREA)).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        features = networks.features(model, name, pixels)[1][0]
    assert features[: len(first)].tolist() == pytest.approx(first, abs=6e-5)
    assert float(features.norm()) == pytest.approx(norm, abs=6e-5)


def test_weights_of_another_network_are_refused_for_resnet50v2(imagenet: tuple[Path, torch.nn.Module]) -> None:
    with pytest.raises(click.ClickException, match="not the layers of a resnet50v2"):
        networks.build(str(imagenet[0]), "resnet50v2")
    with pytest.raises(click.ClickException, match="torchvision has no weights of this network"):
        networks.build("imagenet", "resnet50v2")


@pytest.mark.parametrize("name", plugins.names("train.networks"))
def test_every_network_answers_and_every_parameter_has_a_stage(name: str) -> None:
    torch.manual_seed(0)
    made = networks.get_architecture(name)
    model = networks.build(name=name).eval()
    with torch.inference_mode():
        logits, features = networks.features(model, name, torch.rand(2, 3, made.smallest, made.smallest))
    assert logits.shape == (2, 2)
    head = model.get_submodule(made.head)
    assert features.shape == (2, head.in_features)
    with torch.inference_mode():
        assert torch.allclose(head(features), logits)
    stages = {made.stage(parameter) for parameter, _ in model.named_parameters()}
    assert stages == {index for index, prefixes in enumerate(made.stages) if prefixes}  # resnet50v2 ends before the last
    assert {parameter for parameter, _ in model.named_parameters() if made.stage(parameter) == 5} == {f"{made.head}.weight", f"{made.head}.bias"}


@pytest.mark.parametrize(("name", "make"), [("densenet121", densenet121), ("inception_v3", inception_v3)])
def test_torchvision_files_of_the_other_networks(name: str, make: Callable[..., torch.nn.Module], tmp_path: Path) -> None:
    """As published: 1000 classes, an auxiliary classifier in one, names of before PyTorch 0.4 in the other."""
    torch.manual_seed(0)
    state = make(**({"init_weights": False} if name == "inception_v3" else {})).state_dict()
    state = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key): value for key, value in state.items()}
    torch.save(state, tmp_path / "published.pth")
    built = networks.build(str(tmp_path / "published.pth"), name)
    last = "features.denseblock4.denselayer16.conv2.weight" if name == "densenet121" else "Mixed_7a.branch7x7x3_4.conv.weight"
    assert torch.equal(built.state_dict()[last], state[last.replace("conv2", "conv.2")])
    with pytest.raises(click.ClickException, match="not the layers of a resnet50"):
        networks.build(str(tmp_path / "published.pth"))


def test_a_checkpoint_of_another_network_is_refused(run: Path) -> None:
    with pytest.raises(click.ClickException, match="--network tiny"):
        networks.build(str(run / "best.pt"))


def test_weights_of_imagenet_are_told_from_our_own(run: Path, tmp_path: Path) -> None:
    torch.save(networks.build(name="tiny").state_dict(), tmp_path / "tiny.pth")
    given = ["imagenet", tmp_path / "tiny.pth", run / "best.pt", "none"]
    assert [networks.of_imagenet(str(weights)) for weights in given] == [True, True, False, False]
