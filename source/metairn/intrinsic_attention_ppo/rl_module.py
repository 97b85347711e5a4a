"""The one RLModule: a feed-forward actor, two value heads and the credit assigner."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import gymnasium
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import TorchCategorical, TorchDiagGaussian
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, ValueFunctionAPI
from ray.rllib.core.rl_module.torch import TorchRLModule

from metairn.credit_assignment.assigner import CreditAssigner
from metairn.episodes import EpisodeSpec
from metairn.intrinsic_attention_ppo.random_streams import Stream, derive_seed
from metairn.networks.policy import Policy
from metairn.networks.value import ValueHead


def episode_spec(observation_space: Any, action_space: Any) -> EpisodeSpec:
    """Sizes of an environment's observations and actions.

    Raises:
        ValueError: for anything but vector observations and Discrete or vector Box actions.
    """
    if not isinstance(observation_space, gymnasium.spaces.Box) or len(observation_space.shape) != 1:
        raise ValueError(
            f"Observations of {observation_space} are not supported: they must be a vector (Box)."
        )
    size = int(observation_space.shape[0])
    if isinstance(action_space, gymnasium.spaces.Discrete) and action_space.start == 0:
        return EpisodeSpec(size, int(action_space.n), discrete=True)
    if isinstance(action_space, gymnasium.spaces.Box) and len(action_space.shape) == 1:
        return EpisodeSpec(size, int(action_space.shape[0]), discrete=False)
    raise ValueError(
        f"Actions of {action_space} are not supported: they must be Discrete (from 0) or a vector "
        "(Box)."
    )


@contextlib.contextmanager
def _torch_seed(seed: int | None, *counters: int) -> Iterator[None]:
    """Borrows torch's generator: everything else stays as random as it was."""
    with torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.manual_seed(derive_seed(seed, Stream.NETWORKS, *counters))
        yield


class IntrinsicAttentionModule(TorchRLModule, InferenceOnlyAPI, ValueFunctionAPI):
    """Actor, extrinsic value head, mixed value head (if needed) and credit assigner.

    The actor and the heads share nothing and remember nothing: memory must not leak into the
    measurement, and value gradients must not move the policy that a meta-gradient looks through.
    Env runners get the actor alone.
    """

    actor: Policy
    extrinsic_value: ValueHead
    mixed_value: ValueHead
    credit_assigner: CreditAssigner

    def setup(self) -> None:
        """Builds the networks from model_config, with random numbers of their own."""
        settings = self.model_config
        self.spec = episode_spec(self.observation_space, self.action_space)
        with _torch_seed(settings["seed"]):
            self.actor = self._new_actor()
            if self.inference_only:
                return
            self.extrinsic_value = self._new_value_head()
            assigner = settings["credit_assigner"]
            self.credit_assigner = assigner(self.spec, **settings["credit_assigner_settings"])
            if self.credit_assigner.needs_mixed_critic:
                self.mixed_value = self._new_value_head()

    def _new_actor(self) -> Policy:
        spec, hidden = self.spec, self.model_config["hidden_sizes"]
        return Policy(spec.observation_size, spec.action_size, spec.discrete, hidden)

    def _new_value_head(self) -> ValueHead:
        return ValueHead(self.spec.observation_size, self.model_config["hidden_sizes"])

    def begin_lifetime(self, index: int) -> None:
        """Draws actor and value heads anew, in place; the credit assigner stays what it is.

        Args:
            index: of the lifetime; with the module's seed it determines the networks.
        """
        with _torch_seed(self.model_config["seed"], index):
            self.actor.load_state_dict(self._new_actor().state_dict())
            for head in (self.extrinsic_value, getattr(self, "mixed_value", None)):
                if head is not None:
                    head.load_state_dict(self._new_value_head().state_dict())
        self.credit_assigner.begin_lifetime()

    def get_non_inference_attributes(self) -> list[str]:
        """What env runners do not need."""
        names = ["extrinsic_value", "mixed_value", "credit_assigner"]
        return [name for name in names if hasattr(self, name)]

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {Columns.ACTION_DIST_INPUTS: self.actor(batch[Columns.OBS])}

    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> torch.Tensor:
        """V_ex(o), in units of reward."""
        return self.extrinsic_value(batch[Columns.OBS])

    def get_inference_action_dist_cls(self) -> type:
        """RLlib's class for the actor's outputs, for whoever uses RLlib's own env runner."""
        discrete = isinstance(self.action_space, gymnasium.spaces.Discrete)
        return TorchCategorical if discrete else TorchDiagGaussian

    get_exploration_action_dist_cls = get_inference_action_dist_cls
    get_train_action_dist_cls = get_inference_action_dist_cls
