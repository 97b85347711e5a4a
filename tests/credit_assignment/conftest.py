"""Every method there is, found by importing all modules of the room: no list to keep."""

import importlib
import inspect
import pkgutil

import pytest
import torch

import metairn.credit_assignment
from metairn.credit_assignment.assigner import CreditAssigner


def _subclasses(of):
    return {of}.union(*(_subclasses(child) for child in of.__subclasses__()))


def every_assigner():
    room = metairn.credit_assignment
    for module in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
        importlib.import_module(module.name)
    found = [c for c in _subclasses(CreditAssigner) if c.__module__.startswith(room.__name__)]
    return sorted((c for c in found if not inspect.isabstract(c)), key=lambda c: c.__name__)


def pytest_generate_tests(metafunc):
    if "assigner" in metafunc.fixturenames:
        cases = [(c, discrete) for c in every_assigner() for discrete in (True, False)]
        names = [f"{c.__name__}-{'discrete' if d else 'continuous'}" for c, d in cases]
        metafunc.parametrize("assigner", cases, ids=names, indirect=True)


@pytest.fixture
def assigner(request, make_spec):
    """One method in float64, its parameters moved away from their start."""
    kind, discrete = request.param
    torch.manual_seed(0)
    made = kind(make_spec(discrete)).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made
