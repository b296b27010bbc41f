"""One of two processes that train, stop, resume and compare; torchrun starts it.

torchrun --standalone --nproc_per_node 2 -m tests.averaging_in_two_processes MODE FOLDER, where
MODE is ddp, fsdp2, or sharded, which is fsdp2 with a file of weights for each process.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, Trainer, TrainerCallback

from hf_stabilizer import export_model, last_complete_checkpoint
from hf_stabilizer.averaging import AVERAGING_FILE, SWACallback
from hf_stabilizer.evaluation import EvaluationsPerEpochCallback
from tests.tiny import Rows, tiny_bert, training_arguments


class StopAt5(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop |= state.global_step == 5


def shard_on_cpus() -> None:
    """Lets accelerate take several CPU processes for FSDP, which it keeps to accelerators."""
    plain = AcceleratorState.__init__

    def sharded(self: AcceleratorState, *args: Any, **kwargs: Any) -> None:
        plain(self, *args, **kwargs)
        if self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.FSDP
        if kwargs.get("fsdp_plugin") is not None:
            self.fsdp_plugin = kwargs["fsdp_plugin"]

    AcceleratorState.__init__ = sharded


def train(folder: Path, *callbacks: TrainerCallback, resume: str | None = None, **options: Any):
    arguments = training_arguments(
        folder,
        per_device_train_batch_size=4,
        ddp_backend="gloo",
        eval_strategy="steps",
        eval_steps=3,
        **options,
    )
    trainer = Trainer(
        tiny_bert(),
        arguments,
        train_dataset=Rows(32),
        eval_dataset=Rows(16, seed=1),
        callbacks=[SWACallback(start=3), EvaluationsPerEpochCallback(2), *callbacks],
    )
    trainer.train(resume_from_checkpoint=resume)
    dist.barrier()
    return trainer


def whole(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {
        name: (p.full_tensor() if hasattr(p, "full_tensor") else p).detach().clone()
        for name, p in trainer.model.named_parameters()
    }


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def load_model(folder: Path) -> torch.nn.Module:
    return AutoModelForSequenceClassification.from_pretrained(folder)


def losses(trainer: Trainer) -> list[float]:
    return [line["eval_loss"] for line in trainer.state.log_history if "eval_loss" in line]


def main(mode: str, folder: Path) -> None:
    options: dict[str, Any] = {}
    if mode != "ddp":
        shard_on_cpus()
        kind = "SHARDED_STATE_DICT" if mode == "sharded" else "FULL_STATE_DICT"
        wrapped: dict[str, Any] = {"transformer_layer_cls_to_wrap": ["BertLayer"]}
        wrapped |= {"version": 2, "state_dict_type": kind}
        options = {"fsdp": "full_shard auto_wrap", "fsdp_config": wrapped}
    saves = {**options, "save_strategy": "steps", "save_steps": 5}
    # Without saves, for saving hides gathered weights that are stale after a swap.
    straight = train(folder / "straight", **options)
    assert straight.args.world_size == 2
    assert hasattr(next(straight.model.parameters()), "full_tensor") == (mode != "ddp")
    train(folder / "parts", StopAt5(), **saves)
    last = last_complete_checkpoint(folder / "parts")
    assert last == str(folder / "parts" / "checkpoint-5")
    resumed = train(folder / "parts", resume=last, **saves)
    assert same(whole(straight), whole(resumed))
    assert losses(straight) == losses(resumed)
    for weights in whole(straight).values():
        of_first = weights.clone()
        dist.broadcast(of_first, 0)
        assert torch.equal(of_first, weights)
    checkpoint = folder / "parts" / "checkpoint-8"
    # The grid has every step from 3 on, so the mean over it is the one that is left.
    means = load_file(checkpoint / AVERAGING_FILE)
    left = whole(resumed)
    assert same({name: means[f"mean.{name}"] for name in left}, left)
    if dist.get_rank() == 0:
        exported = export_model(checkpoint, folder / "mean")
        assert same(dict(load_model(exported).named_parameters()), left)
        raw = load_model(export_model(checkpoint, folder / "raw", weights="raw"))
        assert same(dict(raw.named_parameters()), {name: means[f"raw.{name}"] for name in left})
        print("losses", losses(straight), flush=True)
    dist.barrier()
    # Not by way of destructors: once in a dozen runs gloo's waits for ever, holding Python's lock,
    # for a thread of its own that wants this lock (torch 2.13).
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
