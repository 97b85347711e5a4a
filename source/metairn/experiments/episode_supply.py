"""Whether a batch has the episodes that a run wants of it, where that is known beforehand."""

from __future__ import annotations

from metairn.credit_assignment.meta_learned_reward import MetaLearning
from metairn.environments.task import BatchedTask
from metairn.experiments.settings import BadInput, TrainingSettings


def num_envs(training: TrainingSettings, task: BatchedTask | None) -> int:
    """No more environments than episodes fit in a batch, where that is known beforehand."""
    length = task.fixed_episode_length if task is not None else None
    if length is None:
        return training.num_envs
    runners = max(training.num_env_runners, 1)
    return max(1, min(training.num_envs, -(-training.train_batch_env_steps // (length * runners))))


def check_episodes(training: TrainingSettings, task: BatchedTask | None) -> None:
    """Refuses more minibatches than a batch has episodes, where that is known beforehand."""
    episodes = _episodes_of_a_learner(training, task)
    if episodes is not None and episodes < training.minibatches:
        raise BadInput(
            f"training.minibatches={training.minibatches} is not allowed: "
            f"training.train_batch_env_steps={training.train_batch_env_steps} gives {episodes} "
            "episodes."
        )


def check_outer_data(
    meta_learning: MetaLearning, training: TrainingSettings, task: BatchedTask | None
) -> None:
    """Refuses outer data that the run will never have.

    Args:
        meta_learning: of the method.
        training: the training group.
        task: what the environment knows of itself.
    """
    if meta_learning.outer_data == "next":
        _check_fresh_episodes(training, task)
    if meta_learning.replay_iterations > 1 and training.num_learners > 1:
        raise BadInput(
            f"method.replay_iterations={meta_learning.replay_iterations} is not allowed with "
            f"training.num_learners={training.num_learners}: a checkpoint holds the earlier "
            "episodes of one learner only."
        )
    if meta_learning.inner_update == "natural" and training.num_learners > 1:
        raise BadInput(
            f"method.inner_update=natural is not allowed with training.num_learners="
            f"{training.num_learners}: every episode is judged by all others, and learners see "
            "their own only."
        )
    episodes = _episodes_of_a_learner(training, task)
    if episodes is None:
        return
    given = f"training.train_batch_env_steps={training.train_batch_env_steps} gives {episodes}"
    if meta_learning.meta_steps:
        wanted = meta_learning.inner_steps + 1
        if episodes < wanted:
            raise BadInput(
                f"method.meta_steps={meta_learning.meta_steps} is not allowed here: {given} "
                f"episodes, and method.inner_steps={meta_learning.inner_steps} needs {wanted}."
            )
    elif meta_learning.outer_data == "held_out" and episodes < 2 * training.minibatches:
        raise BadInput(
            f"method.outer_data=held_out is not allowed here: {given} episodes for "
            f"training.minibatches={training.minibatches}, and each minibatch needs two."
        )


def _check_fresh_episodes(training: TrainingSettings, task: BatchedTask | None) -> None:
    length = (task.fixed_episode_length if task is not None else None) or 1
    iteration = -(-training.train_batch_env_steps // length) * length
    if training.budget_env_steps <= iteration:
        raise BadInput(
            "method.outer_data=next is not allowed without fresh episodes: "
            f"training.budget_env_steps={training.budget_env_steps} must be at least two "
            f"iterations of {iteration} env steps."
        )
    if training.num_learners > 1:
        raise BadInput(
            f"method.outer_data=next is not allowed with training.num_learners="
            f"{training.num_learners}: a checkpoint holds the waiting episodes of one learner only."
        )


def _episodes_of_a_learner(training: TrainingSettings, task: BatchedTask | None) -> int | None:
    """Episodes in each learner's share of a batch; None where episodes differ in length."""
    length = task.fixed_episode_length if task is not None else None
    if length is None:
        return None
    return -(-training.train_batch_env_steps // length) // max(training.num_learners, 1)
