"""Two learners in two processes that share their gradients, without Ray."""

from pathlib import Path
from typing import Any

import torch
from ray import cloudpickle
from small_runs import SmallRun

from metairn.intrinsic_attention_ppo.rllib_workarounds import WholeEpisodes


def learn_one_share(rank: int, folder: str) -> None:
    """What process `rank` does: its share of every update of every job in the folder."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    jobs = cloudpickle.loads(Path(folder, "jobs").read_bytes())
    states = {}
    for name, (config, rounds) in jobs:
        torch.manual_seed(rank)  # What is drawn without a seed differs between the processes.
        states[name] = learned(SmallRun(config), rounds, rank)
    torch.save(states, Path(folder, f"states_{rank}"))
    torch.distributed.destroy_process_group()


def learned(run: SmallRun, rounds: list[Any], rank: int | None = None) -> dict[str, torch.Tensor]:
    """The state, and the last gradients, after learning from this rank's shares of the rounds."""
    for episodes in rounds:
        shares = [WholeEpisodes(episodes=episodes)]
        if rank is not None:
            shares = [share for share, _ in shares[0].shard(2)]
        measured = run.learn(shares[rank or 0].episodes)
    gradients = {f"gradient of {n}": p.grad for n, p in run.networks.named_parameters()}
    figures = {f"measured {k}": torch.tensor(v) for k, v in measured.items()}
    return run.state() | {n: g for n, g in gradients.items() if g is not None} | figures


def learn_in_two_processes(jobs: list[Any], folder: Path) -> list[dict[str, Any]]:
    """The states of both learners, per job.

    Args:
        jobs: pairs of a name and (configuration, episodes of each update).
        folder: an empty one.
    """
    (folder / "jobs").write_bytes(cloudpickle.dumps(jobs))
    torch.multiprocessing.spawn(learn_one_share, (str(folder),), nprocs=2)
    return [torch.load(folder / f"states_{rank}") for rank in (0, 1)]
