"""One of two processes that free layers in stages, stop, resume and compare; torchrun starts it.

torchrun --standalone --nproc_per_node 2 -m tests.freezing_in_two_processes ddp|fsdp2 FOLDER
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from transformers import Trainer, TrainerCallback, TrainingArguments

from hf_stabilizer import ConfigurationError, GradualUnfreezingCallback, LayerMap
from tests.averaging_in_two_processes import StopAt5, same, shard_on_cpus, whole
from tests.tiny import Rows, tiny_bert, training_arguments

FIRST_STEPS = {4: 1, 3: 2, 2: 4, 1: 5, 0: 7}  # S = 4, D = 6
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


class Moves(TrainerCallback):
    """Checks that each step moves the depths that are free in it, and no other."""

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self.layer_map = LayerMap.from_model(model)
        self.weights = gathered(model)

    def on_step_end(self, args, state, control, model=None, **kwargs):
        before, self.weights = self.weights, gathered(model)
        moved = {n for n, p in self.weights.items() if not torch.equal(p, before[n])}
        free = {depth for depth, first in FIRST_STEPS.items() if state.global_step >= first}
        assert {self.layer_map.depth_of(name) for name in moved} == free, state.global_step


def gathered(model: Any) -> dict[str, torch.Tensor]:
    return {
        name: (p.full_tensor() if hasattr(p, "full_tensor") else p).detach().clone()
        for name, p in model.named_parameters()
    }


def train(folder: Path, *callbacks: TrainerCallback, resume: str | None = None, **options: Any):
    # Without the average over devices the loss is that of one process with twice the batch.
    arguments = training_arguments(
        folder,
        per_device_train_batch_size=4,
        ddp_backend="gloo",
        weight_decay=0.1,
        average_tokens_across_devices=False,
        **options,
    )
    trainer = Trainer(
        tiny_bert(**NO_DROPOUT),
        arguments,
        train_dataset=Rows(32),
        callbacks=[GradualUnfreezingCallback(6), Moves(), *callbacks],
    )
    trainer.train(resume_from_checkpoint=resume)
    dist.barrier()
    return trainer


def main(mode: str, folder: Path) -> None:
    options: dict[str, Any] = {}
    if mode == "fsdp2":
        shard_on_cpus()
        wrapped: dict[str, Any] = {"transformer_layer_cls_to_wrap": ["BertLayer"]}
        wrapped |= {"version": 2, "state_dict_type": "FULL_STATE_DICT"}
        options = {"fsdp": "full_shard auto_wrap", "fsdp_config": wrapped}
    straight = train(folder / "straight", **options)
    assert straight.args.world_size == 2
    assert hasattr(next(straight.model.parameters()), "full_tensor") == (mode == "fsdp2")
    assert all(p.requires_grad for p in straight.model.parameters())
    saves = {**options, "save_strategy": "steps", "save_steps": 5}
    train(folder / "parts", StopAt5(), **saves)
    resumed = train(folder / "parts", resume=str(folder / "parts" / "checkpoint-5"), **saves)
    assert same(whole(straight), whole(resumed))
    for weights in whole(straight).values():
        of_first = weights.clone()
        dist.broadcast(of_first, 0)
        assert torch.equal(of_first, weights)
    if mode == "ddp":
        checkpointed = train(folder / "c", **{CHECKPOINTING: True}, ddp_find_unused_parameters=True)
        for name, weights in whole(checkpointed).items():
            torch.testing.assert_close(weights, whole(straight)[name])
        with pytest.raises(ConfigurationError, match="needs ddp_find_unused_parameters=True"):
            train(folder / "d", **{CHECKPOINTING: True})
    weights = whole(straight)  # all processes must ask for it
    if dist.get_rank() == 0:
        torch.save(weights, folder / "weights.pt")
    dist.barrier()
    # Not by way of destructors, which wait for ever once in a dozen runs of gloo (torch 2.13).
    os._exit(0)


# Its name from transformers 5.23 on, and the one before.
CHECKPOINTING = next(
    name
    for name in ("activation_checkpointing", "gradient_checkpointing")
    if name in TrainingArguments.__dataclass_fields__
)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
