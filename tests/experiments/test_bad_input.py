"""A mistake of the user's costs one sentence and exit code 2, and leaves no trace on the disk."""

import pytest
from training_command import Killed, is_one_sentence, outcome_of, run_here, start_process

from metairn.experiments import sweep, training_run
from metairn.experiments.command_help import options
from metairn.experiments.settings import BadInput

FOUR = "training.minibatches=4"
META_IRN = "method=meta_irn"
UNROLLED = "method=meta_irn_unrolled"
WITH_POLICY = [UNROLLED, "method.meta_steps=0", "method.replay_iterations=1"]
TWO_LEARNERS = ["training.num_learners=2", "training.train_batch_env_steps=2000"]
GYMNASIUM = "environment=gymnasium"
SHORT = "training.budget_env_steps=1000"

# Overrides, and what the sentence has to name.
MISTAKES = {
    "length zero": (["environment.length=0"], ["environment.length=0", "at least 1"]),
    "length no number": (["environment.length=abc"], ["environment.length=abc", "whole number"]),
    "length missing": (["environment.length=???"], ["environment.length"]),
    "unknown interpolation": (["environment.length=${nowhere}"], ["nowhere"]),
    "unfinished list": (["environment.length=[1,"], ["[1,"]),
    "no value": (["environment.length"], ["environment.length"]),
    "misspelt environment key": (["environment.lenght=3"], ["environment.lenght", "length"]),
    "misspelt training key": (["training.epoch=3"], ["training.epoch", "epochs"]),
    "misspelt top key": (["sed=1"], ["sed", "seed", "output_root", "method"]),
    "unknown method": (["method=nope"], ["method=nope", *options("method")]),
    "unknown environment": (["environment=nope"], ["=nope", *options("environment")]),
    "unknown training": (["training=nope"], ["training=nope", *options("training")]),
    "added key": (["+environment.foo=1"], ["environment.foo", "length"]),
    "removed key": (["~training.epochs"], ["training", "epochs"]),
    "negative budget": (["training.budget_env_steps=-1"], ["budget_env_steps=-1", "at least"]),
    "less than a batch": (["training.budget_env_steps=999"], ["=999", "=1000"]),
    "one wide encoder": ([META_IRN, "method.encoder_width=1"], ["encoder_width=1", "even"]),
    "odd encoder": ([META_IRN, "method.encoder_width=3"], ["encoder_width=3", "even"]),
    "next of one batch": ([*WITH_POLICY, "method.outer_data=next", SHORT], ["=next", "two"]),
    "next before the policy": (
        [META_IRN, "method.outer_data=next"],
        ["method.meta_steps=100", "outer_data=next"],
    ),
    "meta steps of one episode": (
        [META_IRN, "environment.length=1000"],
        ["method.meta_steps=100", "gives 1", "needs 2"],
    ),
    "replay of two learners": (
        [META_IRN, *TWO_LEARNERS],
        ["method.replay_iterations=20", "training.num_learners=2"],
    ),
    "natural step of two learners": (
        [META_IRN, "method.replay_iterations=1", *TWO_LEARNERS],
        ["method.inner_update=natural", "training.num_learners=2"],
    ),
    "natural step with the policy": (
        [META_IRN, "method.meta_steps=0"],
        ["inner_update=natural", "meta_steps=0"],
    ),
    "single rewards judge an unrolled step": (
        [UNROLLED, "+method.judged_by=reward"],
        ["judged_by=reward", "inner_update=normalised"],
    ),
    "single rewards judge others": (
        ["method=meta_irn_linear", "method.judged_by=reward"],
        ["judged_by=reward", "head=redistribution"],
    ),
    "restart of an average": (
        [META_IRN, "+method.credit_average=0.5"],
        ["restart=True", "credit_average=0.5"],
    ),
    "no pretrained file": ([META_IRN, "method.pretrained=no.pt"], ["method.pretrained=no.pt"]),
    "lifetimes of nothing": (
        ["lifetimes=umbrella_chains", "lifetimes.iterations=0"],
        ["lifetimes.iterations=0", "at least 1"],
    ),
    "lifetimes of a wrong task": (
        ["lifetimes=umbrella_chains", "lifetimes.environment.length=[0]"],
        ["environment.length=0"],
    ),
    "lifetimes without a list": (
        ["lifetimes=umbrella_chains", "lifetimes.environment.length=3"],
        ["lifetimes.environment.length=3", "must be a list."],
    ),
    "lifetimes that differ in size": (
        ["lifetimes=umbrella_chains", "+lifetimes.environment.num_distractors=[0,1]"],
        ["lifetimes.environment", "same size"],
    ),
    "lifetimes too long for a batch": (
        ["lifetimes=umbrella_chains", "lifetimes.environment.length=[4,600]", FOUR],
        ["training.minibatches=4", "training.train_batch_env_steps=1000 gives 2 episodes"],
    ),
    "lifetimes with a schedule": (
        ["lifetimes=umbrella_chains", "training.entropy_coefficient=[[0,0.1],[1000,0]]"],
        ["training.entropy_coefficient=[[0", "not allowed with lifetimes"],
    ),
    "unknown lifetimes": (["lifetimes=long"], ["lifetimes=long", "umbrella_chains"]),
    "unknown outer data": (
        [META_IRN, "method.outer_data=banana"],
        ["method.outer_data=banana", "same, held_out, next"],
    ),
    "held out of one episode": (
        [*WITH_POLICY, "method.outer_data=held_out", "environment.length=1000"],
        ["method.outer_data=held_out", "minibatch"],
    ),
    "negative seed": (["seed=-1"], ["seed=-1", "from 0"]),
    "study in a folder": (["study=a/b"], ["study=a/b", "folder's name"]),
    "hidden study": (["study=.."], ["study=..", "folder's name"]),
    "force no truth": (["force=3"], ["force=3", "true or false"]),
    "unknown gymnasium id": ([GYMNASIUM, "environment.id=Nope-v0"], ["environment.id=Nope-v0"]),
    "no module": ([GYMNASIUM, "environment.id=nope:Nope-v0"], ["environment.id=nope:Nope-v0"]),
    "unknown argument": ([GYMNASIUM, "+environment.kwargs.foo=1"], ["CartPole-v1", "foo"]),
    "tuple observations": ([GYMNASIUM, "environment.id=Blackjack-v1"], ["Tuple", "vector"]),
    "no vector": ([GYMNASIUM, "environment.id=FrozenLake-v1"], ["Discrete", "vector"]),
    "no ground truth": (["method=oracle", GYMNASIUM], ["method=oracle", "environment=gymnasium"]),
    "unknown class": (["method._target_=nope.Nope"], ["method._target_=nope.Nope"]),
    "abstract class": (
        ["method._target_=metairn.credit_assignment.assigner.CreditAssigner"],
        ["CreditAssigner", "abstract"],
    ),
    # Rarer ones.
    "group null": (["environment=null"], ["environment=null", *options("environment")]),
    "group removed": (["~method"], ["method"]),
    "seed removed": (["~seed"], ["seed"]),
    "seed of more than 32 bits": (["seed=4294967296"], ["seed=4294967296"]),
    "partition by no key": (["environment.partition_by=[foo]"], ["partition_by"]),
    "partition by no list": (["environment.partition_by=5"], ["partition_by"]),
    "class no text": (["method._target_=5"], ["method._target_=5"]),
    "class a function": (["method._target_=os.path.join"], ["os.path.join"]),
    "class no method": (["method._target_=builtins.dict"], ["builtins.dict"]),
    "more minibatches than episodes": (["training.minibatches=50"], ["training.minibatches=50"]),
    "next of one episode": (
        [*WITH_POLICY, "method.outer_data=next", "environment.length=2000", SHORT[:-4] + "2000"],
        ["method.outer_data=next"],
    ),
    "endless coefficient": ([META_IRN, "method.intrinsic_coefficient=inf"], ["coefficient=inf"]),
    "coefficient no number": ([META_IRN, "method.intrinsic_coefficient=nan"], ["coefficient=nan"]),
    "GPUs no number": (["training.num_gpus_per_learner=nan"], ["num_gpus_per_learner=nan"]),
    "no hidden unit": (
        ["method=lirpg", "method.reward_hidden_sizes=[0]"],
        ["method.reward_hidden_sizes"],
    ),
    "fewer hidden units": (
        ["method=lirpg", "method.reward_hidden_sizes=[-1]"],
        ["method.reward_hidden_sizes"],
    ),
    "one method's key in a sweep": (
        ["-m", "method=ppo,meta_irn", "method.encoder_width=16"],
        ["method.encoder_width", "not a key"],
    ),
    "a key that the study's method has, and the default one lacks": (
        ["-m", "study=pretrain", "method.encoder_width=16"],
        ["method.encoder_width", "none with method=ppo"],
    ),
    "one job of a sweep": (
        ["-m", "environment.length=2,0,5", "seed=0,1"],
        ["environment.length=0"],
    ),
    "a sweep over what is in no folder's name": (
        ["-m", "training.epochs=1,2", "seed=0,1"],
        ["training.epochs", "study"],
    ),
    "no run at a time": (
        ["-m", "seed=0,1", "hydra.launcher.max_parallel_runs=0"],
        ["max_parallel_runs=0", "at least 1"],
    ),
    "half a run at a time": (
        ["-m", "seed=0,1", "hydra.launcher.max_parallel_runs=0.5"],
        ["max_parallel_runs=0.5", "whole number"],
    ),
    "added study": (["+study=umbrella_length"], ["+study=umbrella_length", "study="]),
    "study null": (["study=null"], ["study=null"]),
    "unknown launcher": (["hydra/launcher=nope"], ["hydra/launcher", "nope"]),
    "unknown hydra key": (["hydra.foo=1"], ["hydra.foo"]),
}


@pytest.fixture
def empty_folder(tmp_path, monkeypatch):
    """The current directory, in which a run would go to ./runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_costs_one_sentence_and_writes_nothing(mistake, empty_folder, monkeypatch):
    def start_ray(*arguments, **options):
        raise Killed("mistakes are to be found before Ray starts")

    monkeypatch.setattr(training_run, "start_ray", start_ray)
    monkeypatch.setattr(sweep, "start_ray", start_ray)
    overrides, named = MISTAKES[mistake]
    outcome = run_here(*overrides, "output_root=runs")
    assert outcome.code == 2, outcome.err
    assert is_one_sentence(outcome.err), outcome.err
    assert [word for word in named if word not in outcome.err] == []
    assert outcome.out == ""
    assert list(empty_folder.iterdir()) == []


def test_folder_that_cannot_be_written_is_named(empty_folder):
    file = empty_folder / "file"
    file.write_text("I was here first.")
    outcome = run_here(f"output_root={file}")
    assert (outcome.code, is_one_sentence(outcome.err)) == (2, True), outcome.err
    assert f"output_root={file}" in outcome.err
    assert file.read_text() == "I was here first."


@pytest.mark.parametrize("existed", [True, False])
def test_mistake_noticed_after_the_folder_was_made_removes_that_folder_only(
    existed, empty_folder, monkeypatch
):
    def start_ray(*arguments, **options):
        raise BadInput("Ray has no GPUs.")

    monkeypatch.setattr(training_run, "start_ray", start_ray)
    if existed:
        (empty_folder / "runs").mkdir()
    outcome = run_here(f"output_root={empty_folder / 'runs'}")
    assert (outcome.code, outcome.err) == (2, "Ray has no GPUs.\n")
    assert empty_folder.exists()
    assert [path.name for path in empty_folder.iterdir()] == ["runs"] * existed


def test_the_command_itself_ends_with_one_line_and_code_two(empty_folder):
    mistakes = ("length zero", "misspelt training key", "unknown method")
    processes = [start_process(empty_folder, *MISTAKES[m][0], "output_root=runs") for m in mistakes]
    for mistake, outcome in zip(mistakes, map(outcome_of, processes), strict=True):
        assert outcome.code == 2
        assert is_one_sentence(outcome.err), outcome.err
        assert all(word in outcome.err for word in MISTAKES[mistake][1])
        assert outcome.out == ""
    assert list(empty_folder.iterdir()) == []
