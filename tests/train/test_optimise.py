"""Which weights learn, at what rate, and what is averaged."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from train import networks, optimise

RESNET = networks.get_architecture("resnet50")


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return networks.build()


def test_rates_fall_towards_the_input_and_norms_do_not_decay(model: torch.nn.Module) -> None:
    groups = optimise.parameter_groups(model, RESNET, 1e-3, 0.5, 0.05)
    rates = {parameter: group["lr"] for group in groups for parameter in group["params"]}
    decays = {parameter: group["weight_decay"] for group in groups for parameter in group["params"]}
    assert len(rates) == len(list(model.parameters()))
    assert rates[model.fc.weight] == 1e-3
    assert rates[model.layer4[0].conv1.weight] == 5e-4
    assert rates[model.layer3[0].conv1.weight] == 2.5e-4
    assert rates[model.conv1.weight] == 1e-3 / 32
    for name, parameter in model.named_parameters():
        assert decays[parameter] == (0.05 if name.endswith("weight") and parameter.ndim > 1 else 0), name


def test_only_the_stages_from_the_first_on_learn(model: torch.nn.Module) -> None:
    optimise.unfreeze(model, RESNET, "layer3", "layer3")
    learning = {name.partition(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learning == {"layer3", "layer4", "fc"}
    assert not model.bn1.training
    assert not model.layer2[0].bn1.training
    assert model.layer3[0].bn1.training
    before = model.bn1.running_mean.clone(), model.layer4[0].bn1.running_mean.clone()
    model(torch.rand(2, 3, 32, 32))
    assert torch.equal(model.bn1.running_mean, before[0])
    assert not torch.equal(model.layer4[0].bn1.running_mean, before[1])
    optimise.unfreeze(model, RESNET, "head", "layer4")
    assert {name.partition(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad} == {"fc"}
    assert not model.layer3[0].bn1.training
    assert model.layer4[0].bn1.training
    optimise.unfreeze(model, RESNET, "stem", "stem")
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert model.bn1.training


@given(st.integers(1, 50), st.integers(2, 200), st.floats(0, 0.9))
def test_each_phase_rises_to_the_peak_and_falls_towards_zero(first: int, second: int, warm_up: float) -> None:
    rates = [optimise.rate(step, (first, second), warm_up) for step in range(first + second)]
    for phase in (rates[:first], rates[first:]):
        assert max(phase) == pytest.approx(1)
        assert all(0 < rate <= 1 for rate in phase)
        peak = phase.index(max(phase))
        assert phase[: peak + 1] == sorted(phase[: peak + 1])
        assert phase[peak:] == sorted(phase[peak:], reverse=True)
    assert optimise.rate(first + second, (first, second), warm_up) == 0


def test_the_moving_average_by_hand() -> None:
    update = optimise.moving_average(0.5)
    averaged = [torch.tensor([0.0]), torch.tensor(3)]
    for count in range(3):  # decays 1/10, 2/11, 3/12
        update(averaged, [torch.tensor([1.0]), torch.tensor(7)], count)
    assert float(averaged[0]) == pytest.approx(1 - 1 / 10 * 2 / 11 * 3 / 12)
    assert int(averaged[1]) == 7
    update(averaged, [torch.tensor([2.0]), torch.tensor(7)], 1000)
    assert float(averaged[0]) == pytest.approx((1 - 1 / 10 * 2 / 11 * 3 / 12 + 2) / 2)
