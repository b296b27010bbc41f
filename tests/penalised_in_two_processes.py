"""One of two processes that train with L1 and L2; torchrun starts it.

torchrun --standalone --nproc_per_node 2 -m tests.penalised_in_two_processes MODE FOLDER, where
MODE is ddp or fsdp2. The weights that are left are written to FOLDER/weights.safetensors.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch.distributed as dist
from safetensors.torch import save_file
from transformers import Trainer

from hf_stabilizer import L1Callback, L2Callback
from tests.averaging_in_two_processes import shard_on_cpus, whole
from tests.tiny import Rows, tiny_bert, training_arguments


def main(mode: str, folder: Path) -> None:
    options: dict[str, Any] = {}
    if mode != "ddp":
        shard_on_cpus()
        wrapped = {"transformer_layer_cls_to_wrap": ["BertLayer"], "version": 2}
        options = {"fsdp": "full_shard auto_wrap", "fsdp_config": wrapped}
    # One optimizer whose step is the same sharded or not; gradients are clipped by their norm,
    # which is summed in another order there.
    args = training_arguments(
        folder, per_device_train_batch_size=4, ddp_backend="gloo", optim="sgd", max_steps=4,
        learning_rate=0.1, max_grad_norm=0.0, average_tokens_across_devices=False, **options,
    )  # fmt: skip
    model = tiny_bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    penalties = [L1Callback(0.02), L2Callback(0.1)]
    trainer = Trainer(model, args, train_dataset=Rows(32), callbacks=penalties)
    trainer.train()
    assert args.world_size == 2
    assert hasattr(next(trainer.model.parameters()), "full_tensor") == (mode != "ddp")
    weights = {name: weight.contiguous() for name, weight in whole(trainer).items()}
    if dist.get_rank() == 0:
        save_file(weights, folder / "weights.safetensors")
    dist.barrier()
    # Not by way of destructors, see averaging_in_two_processes.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
