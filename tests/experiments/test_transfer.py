"""The network that comes with the package, deployed where it was not trained, and its controls."""

import json

import pytest
from training_command import run_here

from metairn.credit_assignment.pretrained import file_of_seed, fingerprint

TASK = [
    *("method=meta_irn_transferred", "environment=umbrella_chain_bsuite"),
    *("environment.num_distractors=0", "environment.length=30"),
    *("training.budget_env_steps=32000", "training.train_batch_env_steps=4000"),
    *("training.epochs=4", "training.minibatches=4", "training.evaluation_interval_env_steps=4000"),
]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("payment", "is_solved"), [("decision", True), ("inverted", True), ("chance", False)]
)
def test_what_was_learned_is_credit_and_not_the_answer(tmp_path, payment, is_solved, seed):
    outcome = run_here(
        *TASK, f"environment.payment={payment}", f"seed={seed}", f"output_root={tmp_path}"
    )
    assert outcome.code == 0, outcome.err
    (summary,) = tmp_path.rglob("summary.json")
    figures = json.loads(summary.read_text())
    assert (figures["env_steps_to_90pct"] is not None) == is_solved
    (provenance,) = tmp_path.rglob("provenance.json")
    network = file_of_seed("umbrella_chains", seed)
    assert json.loads(provenance.read_text())["pretrained_sha256"] == fingerprint(network)
    if is_solved:
        assert figures["credit_on_cause"] >= 0.9


def test_a_random_network_does_not_find_the_cause(tmp_path):
    random = [*TASK, "method=meta_irn_random", "training.budget_env_steps=4000"]
    random.append(f"output_root={tmp_path}")
    assert run_here(*random).code == 0
    (summary,) = tmp_path.rglob("summary.json")
    assert json.loads(summary.read_text())["credit_on_cause"] < 0.5
