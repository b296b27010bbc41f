"""What does a task plug into the Trainer? Its class, collator, loss, and what metrics are given."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from hf_stabilizer.scores import token_losses
from hf_stabilizer.tasks.entropy import with_token_entropy
from hf_stabilizer.tasks.losses import soft_cross_entropy
from hf_stabilizer.tasks.masks import MaskingCollator

if TYPE_CHECKING:
    from transformers import PreTrainedModel, Trainer, TrainingArguments

    from hf_stabilizer.tasks.prepared import PreparedTask

# Any in this module: keyword arguments of the Trainer.


def make_trainer(prepared: PreparedTask, model: PreTrainedModel, **options: Any) -> Trainer:
    """Returns transformers' own Trainer for a task, with what the task plugs into it.

    Args:
        prepared: The task with its rows.
        model: The model that will be trained.
        **options: More keyword arguments of the Trainer; `args` and `compute_metrics` among them.
    """
    import transformers

    if prepared.task != "seq2seq":
        trainer = transformers.Trainer(model=model, **options, **_sockets(prepared))
        if isinstance(trainer.data_collator, MaskingCollator):
            trainer.data_collator.follow(trainer)
        return trainer
    # The Seq2SeqTrainer (to transformers 5.23) takes all of the Trainer's arguments but this one,
    # which is read when the optimizer is made.
    optimizer = options.pop("optimizer_cls_and_kwargs", None)
    args = options["args"]
    options["compute_metrics"] = with_token_entropy(
        options["compute_metrics"],
        model,
        prepared.tokenizer,
        batch_size=args.per_device_eval_batch_size,
        max_length=args.generation_max_length,
    )
    writer = transformers.Seq2SeqTrainer(model=model, **options, **_sockets(prepared))
    writer.optimizer_cls_and_kwargs = optimizer
    return writer


def _sockets(prepared: PreparedTask) -> dict[str, Any]:
    if prepared.soft_labels:
        return {"compute_loss_func": soft_cross_entropy}
    if prepared.task in ("causal-lm", "masked-lm"):
        shift = prepared.task == "causal-lm"
        return {"preprocess_logits_for_metrics": functools.partial(token_losses, shift=shift)}
    return {}


def complete_arguments(
    args: TrainingArguments, prepared: PreparedTask, model: PreTrainedModel
) -> None:
    """Fills in what depends on rows and model: how long generated texts may get.

    Unless said, that is what the checkpoint says, else the longest target of the training rows;
    transformers would cut every text at 20 tokens.
    """
    if prepared.task != "seq2seq":
        return
    args.include_for_metrics = sorted({*args.include_for_metrics, "inputs"})
    said: Any = model.generation_config
    if getattr(args, "generation_max_length", None) or getattr(args, "generation_config", None):
        return
    if said is None or not (said.max_length or said.max_new_tokens):
        longest = max(len(ids) for ids in prepared.train["labels"])
        # One more for the token that starts a text.
        args.generation_max_length = longest + 1  # type: ignore[attr-defined]  # of its subclass
