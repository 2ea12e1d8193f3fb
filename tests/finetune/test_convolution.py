import copy
import itertools

import pytest
import torch
from torch import nn

from ptmetrics.finetune.models import TrimmedConv2d, trim_convolutions

SIZES = list(itertools.product((1, 2, 3), (1, 2, 3)))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_trimmed_convolution_gives_the_results_and_gradients_of_a_plain_one(
    stride: int, bias: bool, size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(4, 5, 3, stride, 1, bias=bias)).double()
    trimmed = copy.deepcopy(plain)
    trim_convolutions(trimmed)
    assert type(trimmed[0]) is TrimmedConv2d
    inputs = [torch.randn(3, 4, *size, dtype=torch.float64).requires_grad_() for _ in range(2)]
    inputs[1].data.copy_(inputs[0].data)
    outputs = [model(x) for model, x in zip((plain, trimmed), inputs, strict=True)]
    torch.testing.assert_close(outputs[1], outputs[0])
    weights = torch.randn_like(outputs[0])
    for output in outputs:
        (output * weights).sum().backward()
    torch.testing.assert_close(inputs[1].grad, inputs[0].grad)
    for ours, theirs in zip(trimmed.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 4, 1),
        nn.Conv2d(4, 4, 3),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2),
        nn.Conv2d(4, 4, 3, padding=1, groups=2),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 4, (3, 1), padding=(1, 0)),
    ],
    ids=str,
)
def test_other_convolutions_are_left_alone(conv: nn.Conv2d) -> None:
    model = nn.Sequential(conv)
    trim_convolutions(model)
    assert model[0] is conv


def test_trimming_keeps_names_parameters_and_random_numbers() -> None:
    model = nn.Sequential(nn.Sequential(nn.Conv2d(2, 2, 3, padding=1)), nn.ReLU())
    before = dict(model.named_parameters())
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    trim_convolutions(model)
    assert torch.equal(torch.rand(1), expected)
    after = dict(model.named_parameters())
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)
