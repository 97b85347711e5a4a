"""The networks' own kernels against torch's layers, at every order of differentiation."""

import pytest
import torch
from torch import nn
from torch.func import functional_call

from metairn.networks.mlp import MLP
from metairn.networks.tanh import tanh


def torch_twin(network):
    """The same network of torch's own layers, sharing the parameters."""
    *hidden, last = network.layers
    return nn.Sequential(*(part for layer in hidden for part in (layer, nn.Tanh())), last)


@pytest.fixture(params=[(), (4,), (5, 4), (4, 3, 6)], ids=str)
def network(request):
    torch.manual_seed(0)
    network = MLP(3, request.param, 2, last_gain=0.5).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return network


@pytest.fixture
def inputs():
    return torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_outputs_and_gradients_are_those_of_torch_s_layers(network, inputs):
    inputs.requires_grad_()
    wanted = [inputs, *network.parameters()]
    outputs = [one(inputs) for one in (network, torch_twin(network))]
    torch.testing.assert_close(*outputs)
    for one, other in zip(
        *(torch.autograd.grad(y.sin().sum(), wanted) for y in outputs), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_second_derivatives_are_right(network, inputs):
    names = [name for name, _ in network.named_parameters()]

    def forward(inputs, *values):
        return functional_call(network, dict(zip(names, values, strict=True)), (inputs,))

    arguments = (
        inputs.requires_grad_(),
        *(p.detach().requires_grad_() for p in network.parameters()),
    )
    assert torch.autograd.gradcheck(forward, arguments)
    assert torch.autograd.gradgradcheck(forward, arguments)


def test_single_precision_differs_by_rounding_only(network, inputs):
    network, inputs = network.float(), inputs.float()
    outputs = [one(inputs) for one in (network, torch_twin(network))]
    torch.testing.assert_close(*outputs, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("contiguous", [True, False])
def test_tanh_is_tanh_and_leaves_its_input_alone(dtype, contiguous):
    values = torch.linspace(-20, 20, 2000, dtype=dtype).view(40, 50)
    values = values if contiguous else values.t()
    before = values.clone()
    tolerance = {torch.float32: 2e-7, torch.float64: 1e-15}[dtype]
    torch.testing.assert_close(
        tanh(values), values.double().tanh().to(dtype), atol=tolerance, rtol=0
    )
    assert torch.equal(values, before)


def test_tanh_can_be_differentiated_twice():
    values = torch.randn(7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(tanh, (values,))
    assert torch.autograd.gradgradcheck(tanh, (values,))
