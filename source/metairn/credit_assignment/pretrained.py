"""Files of credit assigners: what meta-training leaves behind, and what deploys it elsewhere."""

from __future__ import annotations

import hashlib
import pickle
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from metairn.credit_assignment.assigner import CreditAssigner
    from metairn.credit_assignment.meta_learned_reward import MetaLearnedReward

FORMAT = 1
# Networks that come with the package, a folder for each name with one file per seed that they were
# trained with; `metairn-train -m study=pretrain` makes such files.
SHIPPED = Path(__file__).parent / "trained"


def shipped_networks() -> list[str]:
    """Names of the networks that come with the package."""
    return sorted(path.name for path in SHIPPED.iterdir())


def save_assigner(path: Path, assigner: CreditAssigner, settings: dict[str, Any]) -> None:
    """Writes a few KB: class, sizes, settings and weights, but not what belongs to one task.

    Args:
        path: of the file.
        assigner: to save.
        settings: its constructor's keyword arguments, for whoever looks into the file.
    """
    weights = {name: p.detach().cpu().clone() for name, p in assigner.named_parameters()}
    content = {
        "format": FORMAT,
        "class": type(assigner).__name__,
        "observation_size": assigner.spec.observation_size,
        "action_size": assigner.spec.action_size,
        "discrete": assigner.spec.discrete,
        "settings": settings,
        "weights": weights,
    }
    temporary = path.with_name(path.name + ".tmp")
    torch.save(content, temporary)
    temporary.replace(path)


def file_of_seed(pretrained: str, seed: int) -> str:
    """The file that a run takes: where there are several, runs take turns by their seeds.

    Args:
        pretrained: path of a file, a pattern of several (folder/**/*.pt) or a shipped name.
        seed: of the run.
    """
    if pretrained in shipped_networks():
        pretrained = str(SHIPPED / pretrained / "*.pt")
    files = sorted(glob(pretrained, recursive=True)) if "*" in pretrained else []
    return files[seed % len(files)] if files else pretrained


def fingerprint(path: str) -> str:
    """SHA-256 of a file of weights: which of several a run has taken.

    Args:
        path: of the file.
    """
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def load_weights(path: str, assigner: MetaLearnedReward) -> None:
    """Gives the assigner a file's weights.

    Args:
        path: of the file; of several, see `file_of_seed`, the first.
        assigner: built with the settings that it is to have.

    Raises:
        ValueError: one sentence, if the file cannot be read or is of another network.
    """
    try:
        content = torch.load(file_of_seed(path, 0), map_location="cpu", weights_only=True)
        version, name = content["format"], content["class"]
        weights, settings = content["weights"], dict(content["settings"])
    except FileNotFoundError:
        raise ValueError(
            f"pretrained={path} is not allowed: there is no such file, and the networks that come "
            f"with the package are {', '.join(shipped_networks())}."
        ) from None
    except (
        OSError,
        RuntimeError,
        LookupError,
        TypeError,
        ValueError,
        EOFError,
        pickle.UnpicklingError,
    ) as error:
        raise ValueError(
            f"pretrained={path} is not allowed: it is no file of a credit assigner."
        ) from error
    if version != FORMAT:
        raise ValueError(
            f"pretrained={path} is not allowed: it has format {version}, this version reads "
            f"{FORMAT}."
        )
    if name != type(assigner).__name__:
        raise ValueError(
            f"pretrained={path} is not allowed: it holds a {name}, not a {type(assigner).__name__}."
        )
    own = {key: tuple(p.shape) for key, p in assigner.named_parameters()}
    given = {key: tuple(p.shape) for key, p in weights.items()}
    if own != given:
        sizes = {k: content.get(k) for k in ("observation_size", "action_size", "discrete")}
        raise ValueError(
            f"pretrained={path} is not allowed: it was trained with {settings} for "
            f"{sizes}, and its weights {given} do not fit {own}."
        )
    for key, value in assigner.weights_mean.items():
        if settings.get(key, value) != value:
            raise ValueError(
                f"pretrained={path} is not allowed: it was trained with {key}={settings[key]}, not "
                f"{value}."
            )
    with torch.no_grad():
        for key, parameter in assigner.named_parameters():
            parameter.copy_(weights[key])
