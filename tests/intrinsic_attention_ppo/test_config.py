"""The configuration: what would be ignored is refused, and what is set arrives."""

import pytest
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.connectors.connector_v2 import ConnectorV2
from small_runs import SmallRun, runner_of, small_config

from metairn.intrinsic_attention_ppo import IntrinsicAttentionPPO, IntrinsicAttentionPPOConfig
from metairn.intrinsic_attention_ppo.env_runner import EpisodeEnvRunner


class StepCallback(RLlibCallback):
    """Overrides a callback that the runner skips."""

    def on_episode_step(self, **kwargs):
        """Never called."""


class ResultCallback(RLlibCallback):
    """Overrides one that is not skipped."""

    def on_train_result(self, **kwargs):
        """Called by RLlib."""


def piece(*args, **kwargs):
    return ConnectorV2()


REFUSED = {
    "on_episode_end": lambda c: c.callbacks(on_episode_end=print),
    "on_episode_start": lambda c: c.callbacks(on_episode_start=[print]),
    "on_episode_created": lambda c: c.callbacks(on_episode_created=print),
    "on_episode_step": lambda c: c.callbacks(StepCallback),
    "on_episode_step callbacks": lambda c: c.callbacks([ResultCallback, StepCallback]),
    "connectors": lambda c: c.env_runners(env_to_module_connector=piece),
    "connectors=module_to_env": lambda c: c.env_runners(module_to_env_connector=piece),
    "connectors=learner": lambda c: c.learners(learner_connector=piece),
    "use_kl_loss": lambda c: c.training(use_kl_loss=True),
    "vf_clip_param": lambda c: c.training(vf_clip_param=10.0),
    "num_minibatches": lambda c: c.training(num_minibatches=0),
    "credit_assigner": lambda c: c.training(credit_assigner=dict),
    "credit_assigner=MetaIRN": lambda c: c.training(credit_assigner="MetaIRN"),
    "minibatch_size": lambda c: c.training(minibatch_size=64),
    "batch_mode": lambda c: c.env_runners(batch_mode="truncate_episodes"),
}


@pytest.mark.parametrize("setting", REFUSED)
def test_what_would_be_ignored_is_refused_in_one_sentence_that_names_it(setting):
    config = small_config()
    config.validate()
    REFUSED[setting](config)
    with pytest.raises(ValueError, match=setting.split("=")[0]) as error:
        config.validate()
    sentence, *rest = str(error.value).split("\n")
    assert sentence.endswith(".")
    # RLlib adds how to switch its checks off.
    assert all(line.startswith("To suppress all validation errors") for line in rest)


def test_callbacks_that_are_called_are_allowed():
    small_config().callbacks(ResultCallback).validate()


def test_defaults_are_valid_and_name_their_classes():
    config = IntrinsicAttentionPPO.get_default_config()
    assert isinstance(config, IntrinsicAttentionPPOConfig)
    config.environment("CartPole-v1").validate()
    assert config.algo_class is IntrinsicAttentionPPO
    assert config.env_runner_cls is EpisodeEnvRunner
    assert issubclass(config.get_default_learner_class(), PPOTorchLearner)


def test_training_sets_only_what_is_given():
    config = small_config().training(critic_lr=0.5)
    config.training(num_minibatches=2, clip_param=0.1)
    assert (config.critic_lr, config.num_minibatches, config.clip_param) == (0.5, 2, 0.1)
    assert config.hidden_sizes == (16,)


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
def test_only_our_environments_are_stepped_natively(env):
    foreign, ours = small_config(env), small_config()
    foreign.validate()
    ours.validate()
    assert foreign.gym_env_vectorize_mode == "sync"
    assert ours.gym_env_vectorize_mode == "vector_entry_point"


@pytest.mark.parametrize("length", [2, 7, 50])
def test_the_swept_length_reaches_the_environment(length):
    """Published defect: all runs of the length sweep had episodes of 20 steps."""
    episodes = runner_of(small_config(env_config={"length": length})).sample(num_episodes=3)
    assert [len(e) for e in episodes] == [length] * 3


def test_two_lengths_live_in_one_process():
    """Published defect: jobs shared one global environment key."""
    runs = {n: SmallRun(small_config(env_config={"length": n}, steps=60)) for n in (3, 12)}
    for _ in range(2):
        for length, run in runs.items():
            episodes = run.sample()
            assert {len(e) for e in episodes} == {length}
            run.learn(episodes)
            task = run.learner._learner_connector.connectors[0].task
            assert task.length == length


def test_unsupported_spaces_are_refused_by_name():
    with pytest.raises(ValueError, match="Observations of Discrete"):
        runner_of(small_config("FrozenLake-v1"))
