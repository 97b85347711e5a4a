"""Feed-forward networks with orthogonal initialisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from metairn.networks.tanh import tanh_, tanh_backward


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


class _TanhNetwork(torch.autograd.Function):
    """All layers as one node: autograd's book-keeping took a third of a small network's time.

    h_0 = x, h_i = tanh(h_{i-1} W_i^T + b_i) and, without the tanh, the output. The hidden h_i are
    outputs as well, so that the backward pass can be differentiated in turn.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, *params: Tensor) -> tuple[Tensor, ...]:
        layers = list(zip(params[::2], params[1::2], strict=True))
        states = [inputs]
        for weight, bias in layers[:-1]:
            states.append(tanh_(torch.addmm(bias, states[-1], weight.t())))
        weight, bias = layers[-1]
        output = torch.addmm(bias, states[-1], weight.t())
        ctx.save_for_backward(*states, *params[::2])
        ctx.set_materialize_grads(False)
        return (output, *states[1:])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, *of_hidden: Tensor | None) -> Any:
        count = len(ctx.saved_tensors) // 2
        states, weights = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
        of_params: list[Tensor | None] = [None] * (2 * count)
        for i in reversed(range(count)):
            if gradient is not None:
                state = states[i]
                # A tall matrix times a narrow one takes five times as long as the other way round.
                narrow = state.shape[1] < gradient.shape[1]
                of_weight = (state.t() @ gradient).t() if narrow else gradient.t() @ state
                of_params[2 * i : 2 * i + 2] = [of_weight, gradient.sum(dim=0)]
                wanted = i > 0 or ctx.needs_input_grad[0]
                gradient = gradient @ weights[i] if wanted else None
            if i > 0:
                direct = of_hidden[i - 1]
                if direct is not None:
                    gradient = direct if gradient is None else gradient + direct
                if gradient is not None:
                    gradient = tanh_backward(gradient, states[i])
        return (gradient, *of_params)


class MLP(nn.Module):
    """Tanh network: inputs -> hidden_sizes -> outputs, the last layer linear.

    Args:
        inputs: numbers in.
        hidden_sizes: width of each hidden layer.
        outputs: numbers out.
        last_gain: size of the last layer's initial weights.
    """

    def __init__(
        self, inputs: int, hidden_sizes: Sequence[int], outputs: int, last_gain: float
    ) -> None:
        super().__init__()
        sizes = [inputs, *hidden_sizes]
        hidden = [linear(one, other, math.sqrt(2)) for one, other in pairwise(sizes)]
        self.layers = nn.ModuleList([*hidden, linear(sizes[-1], outputs, last_gain)])

    def forward(self, inputs: Float[Tensor, "*batch i"]) -> Float[Tensor, "*batch o"]:
        return self._states(inputs)[0].view(*inputs.shape[:-1], -1)

    def features(self, inputs: Float[Tensor, "*batch i"]) -> Float[Tensor, "*batch h"]:
        """What the last layer sees of the inputs."""
        if len(self.layers) == 1:
            return inputs
        return self._states(inputs)[-1].view(*inputs.shape[:-1], -1)

    def _states(self, inputs: Tensor) -> tuple[Tensor, ...]:
        rows = inputs.reshape(-1, inputs.shape[-1])
        params = [p for layer in self.layers for p in (layer.weight, layer.bias)]
        return _TanhNetwork.apply(rows, *params)
