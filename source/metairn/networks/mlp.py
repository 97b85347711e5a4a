"""Feed-forward networks with orthogonal initialisation."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn


def linear(inputs: int, outputs: int, gain: float, bias: bool = True) -> nn.Linear:
    """A linear layer whose weight is orthogonal times `gain` and whose bias is zero.

    Source: Saxe et al. 2014; the gains used here follow Andrychowicz et al. 2021, which found a
    small last policy layer to matter.
    """
    layer = nn.Linear(inputs, outputs, bias=bias)
    nn.init.orthogonal_(layer.weight, gain)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def mlp(inputs: int, hidden_sizes: Sequence[int], outputs: int, last_gain: float) -> nn.Sequential:
    """Tanh network: inputs -> hidden_sizes -> outputs, the last layer linear.

    Args:
        inputs: numbers in.
        hidden_sizes: width of each hidden layer.
        outputs: numbers out.
        last_gain: size of the last layer's initial weights.
    """
    layers: list[nn.Module] = []
    for size in hidden_sizes:
        layers += [linear(inputs, size, math.sqrt(2)), nn.Tanh()]
        inputs = size
    return nn.Sequential(*layers, linear(inputs, outputs, last_gain))
