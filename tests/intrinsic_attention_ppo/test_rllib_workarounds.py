"""Each way in which RLlib is bent, with a test that fails once Ray no longer needs it.

Such a failure is good news: remove the workaround that the test's name and message tell of.
"""

import inspect

import gymnasium
import numpy as np
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
from small_runs import runner_of, small_config

from metairn.intrinsic_attention_ppo.rllib_workarounds import WholeEpisodes


def stock_runner(env="CartPole-v1", num_envs=4):
    config = PPOConfig().environment(env)
    config.env_runners(
        num_env_runners=0, num_envs_per_env_runner=num_envs, batch_mode="complete_episodes"
    )
    config.debugging(seed=0, log_level="ERROR")
    return SingleAgentEnvRunner(config=config, worker_index=0)


def test_whole_episodes_are_needed_while_rllib_s_shards_cut_episodes():
    episodes = runner_of(small_config("CartPole-v1")).sample(num_episodes=5)
    lengths = sorted(len(e) for e in episodes)

    def dealt(data):
        shards = [shard for shard, _ in data(episodes=list(episodes)).shard(2)]
        return sorted(len(e) for shard in shards for e in shard.episodes)

    assert dealt(WholeEpisodes) == lengths
    assert dealt(TrainingData) != lengths, "Remove WholeEpisodes: RLlib shards whole episodes."


def test_own_seeding_is_needed_while_rllib_replays_the_same_episodes_on_every_call():
    def beginnings(runner):
        calls = [runner.sample(num_episodes=4, random_actions=True) for _ in range(2)]
        return [{tuple(np.asarray(e.get_observations()[0])) for e in call} for call in calls]

    first, second = beginnings(runner_of(small_config("CartPole-v1", num_envs=4)))
    assert not first & second
    first, second = beginnings(stock_runner())
    assert first & second, "RLlib no longer re-seeds forced resets: reconsider EpisodeEnvRunner."


class ShortOrLong(gymnasium.Env):
    """Episodes of 2 or of 20 steps, with equal probability."""

    observation_space = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = int(self.np_random.choice([2, 20]))
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.left -= 1
        return np.zeros(1, np.float32), 0.0, self.left == 0, False, {}


def test_own_sampling_is_needed_while_rllib_discards_the_episodes_that_finish_last():
    """Half of the started episodes are long; RLlib keeps the first to finish: the short ones."""
    if "ShortOrLong-v0" not in gymnasium.registry:
        gymnasium.register("ShortOrLong-v0", entry_point=ShortOrLong)

    def share_of_long(runner):
        episodes = runner.sample(num_episodes=40, random_actions=True)
        return np.mean([len(e) == 20 for e in episodes])

    ours = runner_of(small_config("ShortOrLong-v0", num_envs=50))
    stock = stock_runner("ShortOrLong-v0", num_envs=50)
    assert abs(share_of_long(ours) - 0.5) < 0.2
    assert share_of_long(stock) < 0.2, "RLlib keeps all episodes: reconsider EpisodeEnvRunner."


def test_own_gradient_sums_are_needed_while_rllib_wraps_modules_for_several_learners():
    """DistributedDataParallel wants every parameter used, and only sees its own forward pass."""
    source = inspect.getsource(TorchLearner._make_modules_ddp_if_necessary)
    assert "TorchDDPRLModule(" in source, (
        "RLlib no longer wraps modules: remove IntrinsicAttentionLearner."
        "_make_modules_ddp_if_necessary."
    )
    assert "num_learners > 1" in source
    assert "_make_modules_ddp_if_necessary()" in inspect.getsource(TorchLearner.build)


def test_own_value_loss_is_needed_while_rllib_clips_squared_value_errors():
    """Beyond an error of sqrt(vf_clip_param) the value head gets no gradient."""
    space = gymnasium.spaces.Box(-1.0, 1.0, (3,), np.float32), gymnasium.spaces.Discrete(2)
    config = PPOConfig().training(use_kl_loss=False, vf_clip_param=10.0, entropy_coeff=0.0)
    config.environment(observation_space=space[0], action_space=space[1])
    learner = config.build_learner(spaces={DEFAULT_MODULE_ID: space})
    assert isinstance(learner, PPOTorchLearner)
    module = learner.module[DEFAULT_MODULE_ID]

    def gradient(target):
        batch = {
            Columns.OBS: torch.zeros(4, 3),
            Columns.ACTIONS: torch.zeros(4, dtype=torch.long),
            Columns.ACTION_LOGP: torch.zeros(4),
            Columns.ACTION_DIST_INPUTS: torch.zeros(4, 2),
            "advantages": torch.zeros(4),
            "value_targets": torch.full((4,), target),
        }
        out = module.forward_train(batch)
        loss = learner.compute_loss_for_module(
            module_id=DEFAULT_MODULE_ID, config=config, batch=batch, fwd_out=out
        )
        gradients = torch.autograd.grad(loss, list(module.parameters()), allow_unused=True)
        return sum(float(g.abs().sum()) for g in gradients if g is not None)

    assert gradient(3.0) > 0
    assert gradient(10.0) == 0.0, "RLlib's value errors are no longer cut: allow vf_clip_param."
