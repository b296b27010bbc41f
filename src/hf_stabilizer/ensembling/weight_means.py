r"""What is the mean of several models' weights? One model, as large and as fast as each of them.

    theta = 1/k sum_m theta_m      floats; in float64, rounded once to the type of the first

Whole numbers and flags, such as position tables, are those of the first. Tensor by tensor, so that
memory holds two of them at a time, however many models there are.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from hf_stabilizer.errors import ConfigurationError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
# What else a model's folder holds may come along; what only a run needs may not.
_LEFT_BEHIND = shutil.ignore_patterns(
    *("*.safetensors", "*.index.json", "*.bin", "optimizer*", "scheduler*", "scaler*"),
    *("rng_state*", "trainer_state.json", "run.json", "predictions.npz", "configuration.yaml"),
    *("traceback.txt", "checkpoint-*", "model", ".*"),
)


class Weights:
    """The tensors in a model's folder, read one at a time."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._files = {name: folder / file for name, file in _places(folder).items()}

    @property
    def names(self) -> list[str]:
        """Names of the tensors, sorted."""
        return sorted(self._files)

    def shape(self, name: str) -> list[int]:
        """Returns the shape of a tensor, which is not read for it."""
        with safe_open(str(self._files[name]), framework="pt") as file:
            return list(file.get_slice(name).get_shape())

    def tensor(self, name: str) -> Tensor:
        """Reads a tensor."""
        with safe_open(str(self._files[name]), framework="pt") as file:
            found: Tensor = file.get_tensor(name)
        return found


def check_alike(models: Sequence[Path], names: Sequence[str]) -> None:
    """Checks that all models have tensors of the same names and shapes.

    Args:
        models: Folders of the models.
        names: What people call them.

    Raises:
        ConfigurationError: Two do not, or weights are not in safetensors.
    """
    every = [Weights(folder) for folder in models]
    first = every[0]
    shapes = {name: first.shape(name) for name in first.names}
    for weights, name in zip(every, names, strict=True):
        ours, theirs = set(shapes), set(weights.names)
        if differing := sorted(ours ^ theirs):
            raise ConfigurationError(
                f"{names[0]!r} and {name!r} are built differently: only one of them has "
                f"{differing[0]!r}; weights are averaged over one architecture"
            )
        for tensor, shape in shapes.items():
            if weights.shape(tensor) != shape:
                raise ConfigurationError(
                    f"{tensor!r} is of shape {shape} in {names[0]!r} and "
                    f"{weights.shape(tensor)} in {name!r}; weights are averaged over one "
                    "architecture with one head"
                )


def write_mean(models: Sequence[Path], folder: Path) -> None:
    """Writes the mean of several models as a model's folder; all but weights is the first one's.

    Of one model, or of equal ones, the tensors are bit-equal to its own.

    Args:
        models: Folders of models that `check_alike` has passed.
        folder: Where the mean goes; what it holds of another is written over.
    """
    every = [Weights(model) for model in models]
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(models[0], folder, ignore=_LEFT_BEHIND, dirs_exist_ok=True)
    tensors = {name: _mean([weights.tensor(name) for weights in every]) for name in every[0].names}
    temporary = folder / f".{SINGLE}.tmp"
    save_file(tensors, str(temporary), metadata={"format": "pt"})
    temporary.replace(folder / SINGLE)


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    first = tensors[0]
    if not first.is_floating_point():
        return first
    total = torch.zeros_like(first, dtype=torch.float64)
    for tensor in tensors:
        total += tensor
    return (total / len(tensors)).to(first.dtype)


def _places(folder: Path) -> dict[str, str]:
    index = folder / INDEX
    if index.is_file():
        places: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        return places
    path = folder / SINGLE
    if not path.is_file():
        raise ConfigurationError(
            f"{str(folder)!r} holds no {SINGLE}; weights are averaged from safetensors, as "
            "`save_pretrained` writes them"
        )
    with safe_open(str(path), framework="pt") as file:
        return dict.fromkeys(file.keys(), SINGLE)
