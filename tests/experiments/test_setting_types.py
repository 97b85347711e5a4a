"""What type a setting has to be: the constructor's annotation decides, and nothing is lost."""

import pytest
from training_command import build

from metairn.experiments.settings import BadInput
from metairn.results.run_record import config_hash

WHOLE_NUMBERS = (
    "environment.length",
    "environment.num_distractors",
    "training.budget_env_steps",
    "training.train_batch_env_steps",
    "training.epochs",
    "training.minibatches",
    "training.num_envs",
    "training.num_env_runners",
    "training.num_learners",
    "training.num_threads",
    "training.evaluation_interval_env_steps",
    "training.evaluation_episodes",
    "training.checkpoint_interval_env_steps",
)
NUMBERS = (
    "environment.final_reward",
    "training.discount",
    "training.gae_lambda",
    "training.clip",
    "training.max_gradient_norm",
    "training.actor_learning_rate",
    "training.critic_learning_rate",
    "training.entropy_coefficient",
)
SCHEDULES = (
    "training.actor_learning_rate",
    "training.critic_learning_rate",
    "training.entropy_coefficient",
)


@pytest.mark.parametrize("key", WHOLE_NUMBERS)
@pytest.mark.parametrize("value", ["5000.0", "5000.5", "1e5", "true", "abc", "null", "[5000]"])
def test_whole_number_is_nothing_else(key, value):
    with pytest.raises(BadInput, match=rf"^{key}=.* is not allowed: it must be a whole number\.$"):
        build(f"{key}={value}")


@pytest.mark.parametrize("key", NUMBERS)
@pytest.mark.parametrize("value", ["true", "abc", "{a: 1}"])
def test_number_is_nothing_else(key, value):
    with pytest.raises(BadInput, match=rf"^{key}=.* is not allowed: it must be .*number"):
        build(f"{key}={value}")


@pytest.mark.parametrize("key", NUMBERS)
def test_whole_number_is_accepted_for_a_number(key):
    experiment = build(f"{key}=1")
    group, name = key.split(".")
    if group == "training":
        value = getattr(experiment.training, name)
        assert (value, type(value)) == (1.0, float)


@pytest.mark.parametrize("key", [key for key in NUMBERS if "max_gradient_norm" not in key])
def test_null_is_refused_where_a_number_is_needed(key):
    with pytest.raises(BadInput, match=f"^{key}=None is not allowed"):
        build(f"{key}=null")


def test_null_is_accepted_where_a_setting_is_optional():
    assert build("training.max_gradient_norm=null").training.max_gradient_norm is None
    build("method=meta_irn_unrolled", "method.inner_learning_rate=null")
    build("method=meta_irn_unrolled", "method.inner_learning_rate=0.01")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.discount=1.01", "between 0 and 1"),
        ("training.discount=nan", "between 0 and 1"),
        ("training.gae_lambda=-0.1", "between 0 and 1"),
        ("training.clip=0", "above 0"),
        ("training.clip=nan", "above 0"),
        ("training.max_gradient_norm=0", "above 0"),
        ("training.num_gpus_per_learner=-1", "at least 0"),
        ("training.num_env_runners=-1", "at least 0"),
        ("training.num_learners=-1", "at least 0"),
        ("training.epochs=0", "at least 1"),
        ("training.evaluation_episodes=0", "at least 1"),
        ("training.hidden_sizes=[]", "at least 1"),
        ("training.hidden_sizes=[64,0]", "at least 1"),
        ("training.hidden_sizes=64", "a list, each item a whole number"),
        ("environment.distractor_reward=nan", "finite"),
        ("environment.final_reward=0", "greater than 0"),
        ("environment.num_distractors=-1", "at least 0"),
    ],
)
def test_number_out_of_its_range_is_refused(override, words):
    with pytest.raises(BadInput, match=words) as refusal:
        build(override)
    assert str(refusal.value).startswith(override.split("=")[0] + "=")


@pytest.mark.parametrize("key", SCHEDULES)
@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("[[0,0.003],[1000,0.0]]", [[0.0, 0.003], [1000.0, 0.0]]),
        ("[[0,1],[10,0.5],[20,0]]", [[0.0, 1.0], [10.0, 0.5], [20.0, 0.0]]),
        ("0", 0.0),
    ],
)
def test_schedule_is_accepted(key, written, value):
    assert getattr(build(f"{key}={written}").training, key.split(".")[1]) == value


@pytest.mark.parametrize("key", SCHEDULES)
@pytest.mark.parametrize(
    "written",
    [
        "[]",
        "[[]]",
        "[[0]]",
        "[0.1,0.2]",
        "[[0,a]]",
        "[[0,0.1,0.2],[1,0.1,0.2]]",
        "[[0,0.1],[1000,-0.1]]",
        "[[0,0.1],[1000,nan]]",
        "[[5,0.1],[10,0.1]]",
        "[[0,0.1],[1000,0.2],[500,0.3]]",
        "-0.1",
        "nan",
    ],
)
def test_malformed_schedule_is_refused(key, written):
    with pytest.raises(BadInput, match=f"^{key}="):
        build(f"{key}={written}")


@pytest.mark.parametrize("key", SCHEDULES)
def test_schedule_of_one_point_is_refused_or_works_in_rllib(key):
    try:
        experiment = build(f"{key}=[[0,0.003]]")
    except BadInput:
        return
    experiment.algorithm.validate()


def test_accepted_schedule_works_in_rllib():
    build(*(f"{key}=[[0,0.003],[1000,0.0]]" for key in SCHEDULES)).algorithm.validate()


@pytest.mark.parametrize(
    ("key", "one", "other"),
    [("environment.final_reward", "10", "10.0"), ("training.discount", "1", "1.0")],
)
def test_number_written_in_two_ways_is_one_configuration(key, one, other):
    hashes = {config_hash(build(f"{key}={value}").config) for value in (one, other)}
    assert len(hashes) == 1


def test_settings_that_cannot_change_a_result_are_not_part_of_the_configuration():
    config = build().config
    assert config_hash(config) == config_hash(build("output_root=elsewhere", "force=true").config)
    assert config_hash(config) != config_hash(build("seed=1").config)
    assert config_hash(config) != config_hash(build("training.epochs=11").config)
