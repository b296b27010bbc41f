"""A training that can be told to die, by SIGKILL, in the middle of writing a checkpoint."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from transformers import Trainer, TrainerState

from hf_stabilizer import (
    EMACallback,
    EvaluationsPerEpochCallback,
    SWACallback,
    layered_optimizer,
    layerwise_decay,
)
from hf_stabilizer.averaging import checkpoints
from hf_stabilizer.checkpoints import last_complete_checkpoint
from tests.tiny import Rows, tiny_bert, training_arguments

AVERAGINGS = {
    "swa": lambda: SWACallback(start=5, every=2, learning_rate=5e-4, anneal_steps=3),
    "ema": lambda: EMACallback(decay=0.9),
}
BEGAN = "began"
STEPS = 16


def train(folder: Path, averaging: str = "swa", dies_at: tuple[int, str] | None = None) -> None:
    """Goes on from the last whole checkpoint, and leaves the final weights in `folder`.

    Args:
        folder: Where checkpoints go, one after every optimizer step, of which three are kept.
        averaging: A key of `AVERAGINGS`.
        dies_at: A step and a file; the process is killed when half of this file is written into
            the checkpoint of this step, or, for "rotation", when half of an old one is deleted.
    """
    torch.set_num_threads(1)
    if dies_at is not None:
        Deadly(f"checkpoint-{dies_at[0]}", dies_at[1]).arm()
    options: dict[str, Any] = {"save_strategy": "steps", "save_steps": 1, "save_total_limit": 3}
    arguments = training_arguments(folder, max_steps=STEPS, **options)
    trainer = Trainer(
        tiny_bert(),
        arguments,
        train_dataset=Rows(32),
        optimizer_cls_and_kwargs=layered_optimizer(arguments, layerwise_decay(0.9)),
        eval_dataset=Rows(8, seed=1),
        callbacks=[AVERAGINGS[averaging](), EvaluationsPerEpochCallback(2)],
    )
    Path(folder, BEGAN).touch()
    trainer.train(resume_from_checkpoint=last_complete_checkpoint(folder))
    trainer.save_model(str(folder))


class Deadly:
    """Puts half of what is written in the place of the whole, and kills the process."""

    def __init__(self, checkpoint: str, file: str):
        self.checkpoint = checkpoint
        self.file = file

    def arm(self) -> None:
        """Stands in for the functions that the Trainer and the averaging write with."""
        torch.save = self._instead_of(torch.save, _saved, place=1)
        halved = self._instead_of(safetensors.torch.save_file, _serialized, place=1)
        # The mean is written to a neighbour that is renamed when it is whole.
        checkpoints.save_file = halved
        import transformers.modeling_utils

        transformers.modeling_utils.safe_save_file = halved
        TrainerState.save_to_json = self._instead_of(TrainerState.save_to_json, _json, place=1)
        remove = shutil.rmtree

        def remove_half(path: Any, *args: Any, **kwargs: Any) -> None:
            if self.file == "rotation" and Path(path).with_name(self.checkpoint).exists():
                Path(path, "model.safetensors").unlink()
                die()
            remove(path, *args, **kwargs)

        shutil.rmtree = remove_half

    def _instead_of(
        self, write: Callable[..., Any], content: Callable[[Any], bytes], *, place: int
    ) -> Callable[..., Any]:
        def written(*args: Any, **kwargs: Any) -> Any:
            path = Path(args[place]) if isinstance(args[place], str | Path) else Path()
            if path.parent.name == self.checkpoint and self.file in path.name:
                whole = content(args[0])
                path.write_bytes(whole[: len(whole) // 2])
                die()
            return write(*args, **kwargs)

        return written


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _saved(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.serialization.save(content, buffer)
    return buffer.getvalue()


def _serialized(tensors: dict[str, torch.Tensor]) -> bytes:
    return safetensors.torch.save(tensors)


def _json(state: TrainerState) -> bytes:
    return json.dumps(vars(state), default=str).encode()
