"""A whole update against the same one written plainly: torch's layers, distributions and Adam.

What makes the learner fast (one node per network, one vector per part, weighted sums over padded
episodes, credit computed once) must not change what it computes. The two agree to rounding, not
bit for bit: sums are taken in another order.
"""

import copy

import pytest
import torch
from small_runs import SmallRun, small_config
from torch import nn
from torch.distributions import Categorical, Independent, Normal

from metairn.credit_assignment.oracle import Oracle
from metairn.credit_assignment.ppo import PPO
from metairn.intrinsic_attention_ppo.connectors import to_episode_batch
from metairn.intrinsic_attention_ppo.random_streams import Stream, derive_seed
from metairn.objectives.advantages import identity

CASES = {
    "umbrella": {},
    "episodes of all lengths": {"env": "CartPole-v1"},
    "continuous actions": {"env": "Pendulum-v1", "steps": 600},
    "one minibatch": {"num_minibatches": 1},
    "no clipping": {"grad_clip": None},
    "long horizon": {"gamma": 0.97, "lambda_": 0.8},
}


def layers_of(network):
    *hidden, last = network.layers
    return nn.Sequential(*(part for layer in hidden for part in (layer, nn.Tanh())), last)


def advantages_of(rewards, values, terminated, gamma, lambda_):
    """Generalised advantage estimation of one episode, backwards in time."""
    result, following = torch.zeros_like(rewards), 0.0
    for t in reversed(range(len(rewards))):
        last = t == len(rewards) - 1
        next_value = 0.0 if last and terminated else values[t + 1]
        following = rewards[t] + gamma * next_value - values[t] + gamma * lambda_ * following
        result[t] = following
    return result


def distribution(actor, observations):
    outputs = layers_of(actor.network)(observations)
    if actor.log_std is None:
        return Categorical(logits=outputs)
    return Independent(Normal(outputs, actor.log_std.exp().expand_as(outputs)), 1)


def plain_update(networks, config, batch, optimizers, order, rewards, horizon):
    """PPO step by step on lists of episodes; changes `networks` and `optimizers`."""
    actor, critics = networks["actor"], networks["critics"]
    lengths = batch.lengths.tolist()
    episodes = []
    for b, length in enumerate(lengths):
        episode = {"obs": batch.observations[b, :length], "action": batch.actions[b, :length]}
        episode["logp"] = batch.behaviour_log_probs[b, :length]
        with torch.no_grad():
            for name, critic in critics.items():
                values = critic(batch.observations[b, : length + 1])
                of, (gamma, lambda_) = rewards[name][b, :length], horizon[name]
                gain = advantages_of(of, values, bool(batch.terminated[b]), gamma, lambda_)
                episode[name] = {"advantage": gain, "target": gain + values[:-1]}
        episodes.append(episode)
    for name, critic in critics.items():
        padded = torch.zeros_like(batch.rewards)
        for b, length in enumerate(lengths):
            padded[b, :length] = episodes[b][name]["target"]
        critic.update_scale(padded, batch.mask, identity)
    leading = "mixed_value" if "mixed_value" in critics else "extrinsic_value"
    for part in order:
        chosen = [episodes[i] for i in part.tolist()]
        obs, action, logp = (torch.cat([e[k] for e in chosen]) for k in ("obs", "action", "logp"))
        gain = torch.cat([e[leading]["advantage"] for e in chosen])
        gain = (gain - gain.mean()) / gain.std(correction=0)
        policy = distribution(actor, obs)
        ratio = (policy.log_prob(action) - logp).exp()
        clip = config.clip_param
        surrogate = torch.min(ratio * gain, ratio.clamp(1 - clip, 1 + clip) * gain)
        losses = {"actor": (-surrogate - config.entropy_coeff * policy.entropy()).mean()}
        for name, critic in critics.items():
            target = torch.cat([e[name]["target"] for e in chosen])
            errors = (
                layers_of(critic.network)(obs).squeeze(-1) - (target - critic.mean) / critic.std
            )
            losses[name] = 0.5 * errors.square().mean()
        for name, loss in losses.items():
            optimizers[name].zero_grad()
            loss.backward()
            if config.grad_clip:
                parameters = optimizers[name].param_groups[0]["params"]
                nn.utils.clip_grad_norm_(parameters, config.grad_clip)
            optimizers[name].step()


# The oracle knows the umbrella chain only.
PAIRS = [(PPO, case) for case in CASES] + [(Oracle, c) for c in CASES if "env" not in CASES[c]]


@pytest.mark.parametrize(("method", "case"), PAIRS)
def test_an_update_is_the_plain_one(method, case):
    options = {"credit_assigner": method, "num_minibatches": 3, "hidden_sizes": (16, 8)}
    run = SmallRun(small_config(**(options | CASES[case])))
    config, learned = run.config, run.networks
    critics = ["extrinsic_value"] + (["mixed_value"] if method is Oracle else [])
    copies = {
        "actor": copy.deepcopy(learned.actor),
        "critics": {name: copy.deepcopy(getattr(learned, name)) for name in critics},
    }
    rates = {"actor": config.lr} | dict.fromkeys(critics, config.critic_lr)
    optimizers = {
        name: torch.optim.Adam(
            (copies["actor"] if name == "actor" else copies["critics"][name]).parameters(), lr=rate
        )
        for name, rate in rates.items()
    }
    for iteration in range(2):
        episodes = run.sample()
        batch = to_episode_batch(episodes, run.learner._learner_connector.connectors[0].task)
        generator = torch.Generator().manual_seed(
            derive_seed(config.seed, Stream.MINIBATCHES, iteration)
        )
        count = batch.num_episodes
        whole = [torch.arange(count)] if config.num_minibatches == 1 else None
        order = [
            part
            for _ in range(config.num_epochs)
            for part in whole
            or torch.randperm(count, generator=generator).tensor_split(config.num_minibatches)
        ]
        rewards = {"extrinsic_value": batch.rewards}
        horizon = {"extrinsic_value": (config.gamma, config.lambda_)}
        if method is Oracle:
            caused = torch.einsum("btj,bj->bt", batch.ground_truth, batch.rewards)
            rewards["mixed_value"], horizon["mixed_value"] = caused, (0.0, config.lambda_)
        plain_update(copies, config, batch, optimizers, order, rewards, horizon)
        run.learn(episodes)
    for name, twin in {"actor": copies["actor"], **copies["critics"]}.items():
        for ours, theirs in zip(
            getattr(learned, name).parameters(), twin.parameters(), strict=True
        ):
            torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-3)
