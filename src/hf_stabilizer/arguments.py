"""Which remedies does this run use? All of them as fields of one `TrainingArguments`.

    args = StabilizerArguments("out", layer_lr="llrd", reinit_layers=2, averaging="swa")
    Trainer(model=prepare_model(model, args), args=args, **stabilize(args), ...)

`prepare_model` does what happens before training, `stabilize` hands the Trainer what happens
while it makes its optimizer and while it trains. The Trainer stays the stock one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import torch
from transformers import TrainerCallback, TrainingArguments, default_data_collator

from hf_stabilizer.argument_callbacks import callbacks_of
from hf_stabilizer.argument_checks import check_arguments
from hf_stabilizer.argument_depths import fresh_blocks, frozen_depths, keeps_lowest, pooler_choice
from hf_stabilizer.dropout import set_dropout
from hf_stabilizer.errors import ConfigurationError, check_whole
from hf_stabilizer.freezing import freeze_layers
from hf_stabilizer.head import fit_head
from hf_stabilizer.layers import LayerMap
from hf_stabilizer.optimizers import layered_optimizer
from hf_stabilizer.reinitialization import (
    has_identity_pooler,
    has_new_parameters,
    redraw_head,
    reinitialize_layers,
)
from hf_stabilizer.schedules import complete_schedule
from hf_stabilizer.transfer import transfer_layers

logger = logging.getLogger(__name__)

Model = TypeVar("Model", bound=torch.nn.Module)

_DECIDED = "_decided"  # where the arguments keep what `stabilize` found in them
_PREPARED = "_prepared"  # where they keep that `prepare_model` was done with them
_OFFERED = "_offered"  # where they keep that their `head_seed` need not find a head to draw
_REHEARSED = "_rehearsed"  # where they keep that nothing is to be trained, so no head fitted


def _option(default: Any, text: str) -> Any:  # Any: as dataclasses.field itself is typed
    return field(default=default, metadata={"help": text})


@dataclass
class StabilizerArguments(TrainingArguments):
    """`TrainingArguments` with one field for each option of each remedy.

    With only default values, `Trainer(model=prepare_model(model, args), args=args,
    **stabilize(args))` equals `Trainer(model=model, args=args)` bit for bit. A field that is None
    means the technique's own default; a field whose owner is off is an error, because it would do
    nothing without a word. Works with `HfArgumentParser`.

    Three seeds are kept apart: `head_seed` draws the parameters that the checkpoint did not bring,
    `data_seed` the order of the data, `seed` dropout (all that is left).

    Raises:
        ConfigurationError: A value is out of its range or choices, or has no owner.

    Example:
        >>> args = StabilizerArguments("out", layer_lr="llrd", layer_lr_decay=0.9)
        >>> sorted(stabilize(args))
        ['callbacks', 'optimizer_cls_and_kwargs']
        >>> StabilizerArguments("out", layer_lr_decay=0.9)
        Traceback (most recent call last):
            ...
        hf_stabilizer.errors.ConfigurationError: layer_lr_decay=0.9 has no effect with \
layer_lr='uniform'; set layer_lr to 'llrd', or leave layer_lr_decay out
    """

    # The parent turns JSON texts from the command line into mappings for the fields named here.
    _VALID_DICT_FIELDS = [*TrainingArguments._VALID_DICT_FIELDS, "layer_overrides"]  # noqa: RUF012

    layer_lr: str = _option(
        "uniform", "Rates over depth: uniform (the Trainer's own), llrd, grouped or cosine."
    )
    layer_lr_decay: float | None = _option(
        None, "llrd: multiplier per block downwards, in (0, 1]; 0.9 if not given."
    )
    layer_lr_multipliers: list[float] | None = _option(
        None, "grouped: one multiplier per set of blocks, from the input upwards."
    )
    layer_lr_lowest: float | None = _option(
        None, "cosine: multiplier of the embeddings, in [0, 1]; 0.1 if not given."
    )
    layer_overrides: dict | str | None = _option(  # type: ignore[type-arg]  # HfArgumentParser
        None, "Glob on parameter names -> depth, 'embeddings' or 'head', where the map needs help."
    )
    head_learning_rate: float | None = _option(
        None, "Rate of the head (pooler and classifier); that of the top block if not given."
    )
    base_batch_size: int | None = _option(
        None, "Batch size that the rates were tuned for; they are scaled linearly to the real one."
    )
    layer_weight_decay_multipliers: list[float] | None = _option(
        None,
        "Factors on weight_decay, from 0 up: one per even set of blocks, from the input upwards; "
        "the embeddings share the first.",
    )
    head_weight_decay: float | None = _option(
        None, "Weight decay of the head (pooler and classifier); weight_decay if not given."
    )
    l2: float = _option(
        0, "L2 regularisation: l2 times the weight is added to its gradient; 0 is off."
    )
    l1: float = _option(
        0, "L1 regularisation: after each step weights go to 0 by rate times l1; 0 is off."
    )
    dropout: float | None = _option(
        None,
        "One rate for every dropout of the model, in [0, 1); as the checkpoint says if not given.",
    )
    transfer_from: str | None = _option(
        None, "Model whose embeddings and lowest blocks are brought in: a path, Hub id or pkg://."
    )
    transfer_layers: int | None = _option(
        None,
        "Number of lowest blocks that are brought in from transfer_from (its whole body if not "
        "given); without transfer_from those that keep what the model's own checkpoint brought, "
        "all above drawn anew; 0 means the embeddings alone.",
    )
    reinit_layers: int = _option(0, "Number of top blocks to initialise anew.")
    reinit_pooler: str | None = _option(
        None,
        "The pooler anew: true, false, identity (a square tanh pooler starts as the identity) or "
        "auto (identity where the pooler can be that, untouched elsewhere); with reinit_layers "
        "if not given.",
    )
    head_seed: int | None = _option(
        None, "Seed of the parameters that the checkpoint did not bring; as built if not given."
    )
    freeze_embeddings: bool = _option(False, "Freeze all of depth 0 for the whole run.")
    freeze_layers: int = _option(0, "Number of lowest blocks to freeze for the whole run.")
    freeze_body: bool = _option(
        False, "Freeze embeddings and all blocks for the whole run: the head alone learns."
    )
    fit_head: bool = _option(
        False, "Start the last linear layer from a regularised regression (LP-FT)."
    )
    fit_head_scale: float | None = _option(
        None, "Factor on the fitted head, above 0; 0.3 if not given."
    )
    head_first: float = _option(
        0, "Train the head alone first: a fraction of the run below 1, optimizer steps from 1 up."
    )
    gradual_unfreezing: float = _option(
        0, "Free the layers from the top downwards over so much of the run, as for head_first."
    )
    blocks_per_stage: int | None = _option(
        None, "gradual_unfreezing: blocks that are freed together; 1 if not given."
    )
    stage_warmup_steps: int | None = _option(
        None, "gradual_unfreezing: steps in which a freed stage's rate rises; 0 if not given."
    )
    averaging: str = _option("none", "Mean of the weights: none, swa or ema.")
    averaging_start: float | None = _option(
        None, "First averaged step: a fraction of the run below 1, a whole step from 1 up."
    )
    averaging_every: int | None = _option(None, "Optimizer steps between averaged weights.")
    ema_decay: float | None = _option(None, "ema: decay of the moving mean, in [0, 1).")
    ema_warmup: bool | None = _option(None, "ema: start with smaller decays.")
    swa_learning_rate: float | None = _option(
        None, "swa: rate of the top block in the averaging phase; the schedule's if not given."
    )
    swa_anneal_steps: int | None = _option(
        None, "swa: optimizer steps from the schedule's rate to swa_learning_rate."
    )
    swa_anneal: str | None = _option(None, "swa: shape of that way, linear or cosine.")
    swa_keep_ratios: bool | None = _option(
        None, "swa: keep the ratios between layers; false: one rate for all."
    )
    evaluations_per_epoch: int = _option(0, "Evaluations per epoch, evenly spread; 0 is off.")
    isolate_evaluations: bool = _option(
        False, "Restore the random state after every evaluation, so that looking changes nothing."
    )
    divergence_guard: str = _option(
        "off",
        "What a non-finite loss or gradient, or a collapse, leads to: off, warn, stop, raise.",
    )
    log_layer_statistics: bool = _option(
        False, "Log rate, gradient norm and update ratio of every layer."
    )

    def __post_init__(self) -> None:
        """Checks every field of ours at the door, after the parent's own checks."""
        super().__post_init__()  # type: ignore[no-untyped-call]
        if self.reinit_pooler is not None:  # True and False as Python people write it
            self.reinit_pooler = str(self.reinit_pooler).lower()
        check_arguments(self)

    def get_warmup_steps(self, num_training_steps: int) -> int:
        """Completes the schedule, too, and refuses an option that no callback was made for.

        `Trainer.create_scheduler` asks this just before it reads `lr_scheduler_kwargs`, and nothing
        else tells the length of the run (transformers 5.4 to 5.23).

        Raises:
            ConfigurationError: An option that `stabilize` had to know was changed since, as by a
                hyperparameter search.
        """
        _refuse_late_options(self)
        self.lr_scheduler_kwargs = complete_schedule(self, num_training_steps)
        return int(super().get_warmup_steps(num_training_steps))


def prepare_model(
    model: Model,
    args: StabilizerArguments,
    *,
    train_dataset: Any = None,  # Any: whatever the Trainer takes as a dataset
    data_collator: Any = None,  # Any: whatever the Trainer takes as a collator
) -> Model:
    """Does what is done before training, in place, in this order, and returns the model.

    Every dropout gets one rate (`dropout`), layers of another model are brought in
    (`transfer_from`, `transfer_layers`), blocks and pooler are initialised anew (`reinit_layers`,
    `reinit_pooler`, or `transfer_layers` alone: all above the lowest so many), the parameters that
    no checkpoint brought are drawn again from `head_seed`, layers are frozen (`freeze_embeddings`,
    `freeze_layers`, `freeze_body`), the head is fitted (`fit_head`). With default values the model
    is returned untouched.

    Args:
        model: A model from `from_pretrained` or built from a configuration.
        args: The options.
        train_dataset: Tokenised rows with labels; needed by `fit_head` alone.
        data_collator: What makes a batch of them, as handed to the Trainer.

    Raises:
        ConfigurationError: `fit_head` without rows, an option that does not fit this model, or
            arguments of another kind.
        ReinitializationError: Weights that should have changed did not.
    """
    _check_kind(args)
    if args.fit_head and train_dataset is None:
        raise ConfigurationError(
            "fit_head=True needs the training rows, got train_dataset=None; call "
            "prepare_model(model, args, train_dataset=rows, data_collator=collator)"
        )
    vars(args)[_PREPARED] = True
    if args.dropout is not None:
        logger.info("%s", set_dropout(model, args.dropout))
    if not _acts_before_training(args):
        return model
    layers = find_layers(model, args)
    check_blocks(args, layers.num_layers)
    _replace_layers(model, args, layers)
    if vars(args).get(_OFFERED):
        drop_needless_head_seed(model, args, layers)
    if args.head_seed is not None:
        redraw_head(model, seed=args.head_seed, layer_map=layers)
    if frozen := frozen_depths(args, layers.num_layers):
        lowest = frozen.stop - 1
        freeze_layers(model, embeddings=0 in frozen, num_layers=lowest, layer_map=layers)
    if args.fit_head and not vars(args).get(_REHEARSED):
        options = {} if args.fit_head_scale is None else {"scale": args.fit_head_scale}
        collator = data_collator or default_data_collator
        fit_head(model, train_dataset, data_collator=collator, layer_map=layers, **options)
    return model


def _replace_layers(model: torch.nn.Module, args: StabilizerArguments, layers: LayerMap) -> None:
    """Brings in the layers of another model, and then draws layers anew."""
    if args.transfer_from is not None:
        chosen = args.transfer_layers
        transfer_layers(args.transfer_from, model, num_layers=chosen, layer_map=layers)
    pooler, seed = _pooler(args, model, layers), args.head_seed
    if (blocks := fresh_blocks(args, layers.num_layers)) or pooler is not False:
        reinitialize_layers(model, blocks, pooler=pooler, seed=seed, layer_map=layers)


def was_prepared(args: TrainingArguments) -> bool:
    """Whether `prepare_model` was called with these arguments."""
    return bool(vars(args).get(_PREPARED))


def offer_head_seed(args: StabilizerArguments) -> None:
    """Has `prepare_model` leave a trained head as it is, where `head_seed` was not people's own."""
    vars(args)[_OFFERED] = True


def skip_fitting(args: StabilizerArguments) -> None:
    """Has `prepare_model` leave out what takes a pass over the rows, where all is only tried."""
    vars(args)[_REHEARSED] = True


def drop_needless_head_seed(
    model: torch.nn.Module, args: StabilizerArguments, layers: LayerMap
) -> None:
    """Takes `head_seed` back where the checkpoint brought its head: there is nothing to draw."""
    if args.head_seed is not None and not has_new_parameters(model, layer_map=layers):
        logger.info("the checkpoint brings a trained head, which is kept: head_seed draws nothing")
        args.head_seed = None


def find_layers(model: torch.nn.Module, args: StabilizerArguments) -> LayerMap:
    """Returns the layer map of the model as `layer_overrides` have it."""
    return LayerMap.from_model(model, overrides=args.layer_overrides)  # type: ignore[arg-type]


def _acts_before_training(args: StabilizerArguments) -> bool:
    """Whether `prepare_model` has anything to do, if only to check the overrides."""
    return bool(
        args.transfer_from is not None
        or args.transfer_layers is not None
        or args.reinit_layers
        or args.reinit_pooler not in (None, "false")
        or args.head_seed is not None
        or args.freeze_embeddings
        or args.freeze_layers
        or args.freeze_body
        or args.fit_head
        or args.layer_overrides
    )


def check_blocks(args: StabilizerArguments, blocks: int) -> None:
    """Raises ConfigurationError if a model of so many blocks cannot be treated as the options say.

    A block that is initialised anew and then frozen would hand on noise.
    """
    for name in ("transfer_layers", "reinit_layers", "freeze_layers"):
        allowed = f"in [0, {blocks}], the blocks of this model"
        if getattr(args, name) is not None:
            check_whole(getattr(args, name), allowed, name=name, most=blocks)
    fresh, frozen = fresh_blocks(args, blocks), frozen_depths(args, blocks)
    if fresh and len(frozen) and frozen.stop - 1 + fresh > blocks:
        first = f"freeze_layers={args.freeze_layers}" if args.freeze_layers else "freeze_body=True"
        way, second = (
            ("raise", "transfer_layers") if keeps_lowest(args) else ("lower", "reinit_layers")
        )
        raise ConfigurationError(
            f"{first} and {second}={getattr(args, second)} meet in a model of {blocks} blocks: a "
            f"block would start anew and would never learn; {way} {second}, or freeze less"
        )
    if args.transfer_from and (args.transfer_layers or 0) + args.reinit_layers > blocks:
        raise ConfigurationError(
            f"transfer_layers={args.transfer_layers} and reinit_layers={args.reinit_layers} meet "
            f"in a model of {blocks} blocks: a block would be brought in from "
            f"{args.transfer_from!r} and drawn anew; lower one"
        )


def stabilize(
    args: StabilizerArguments, callbacks: Iterable[TrainerCallback] = ()
) -> dict[str, Any]:
    """Returns the keyword arguments that plug the remedies into a plain Trainer.

    Args:
        args: The options.
        callbacks: Your own callbacks; they come first in the list that is returned.

    Returns:
        `callbacks`, and `optimizer_cls_and_kwargs` where rates differ from the Trainer's own.

    Raises:
        ConfigurationError: Two options clash, an option clashes with one of `callbacks`, or the
            arguments are of another kind.
    """
    _check_kind(args)
    callbacks, is_layered = list(callbacks), any(_own_rates(args).values())
    # The optimizer for one option on rates reads all of them.
    rates = dict.fromkeys(_own_rates(args), is_layered)
    vars(args)[_DECIDED] = {**_decisions(args), **rates}
    keywords: dict[str, Any] = {"callbacks": [*callbacks, *callbacks_of(args, callbacks)]}
    if is_layered:
        # Curve, head rate and overrides are read from `args` when the optimizer is made.
        keywords["optimizer_cls_and_kwargs"] = layered_optimizer(args)
    return keywords


def _check_kind(args: object) -> None:
    if not isinstance(args, StabilizerArguments):
        raise ConfigurationError(
            f"args must be StabilizerArguments, got {type(args).__name__}, which have none of the "
            "remedies' options; StabilizerArguments take the same fields and theirs"
        )


def _decisions(args: StabilizerArguments) -> dict[str, object]:
    """What `stabilize` decides once for a Trainer; all else is read when a run begins."""
    names = ("averaging", "evaluations_per_epoch", "isolate_evaluations", "divergence_guard")
    durations = ("head_first", "gradual_unfreezing", "l1", "l2")
    return {
        **{name: getattr(args, name) for name in (*names, "log_layer_statistics")},
        **{name: bool(getattr(args, name)) for name in durations},
        **_own_rates(args),
    }


def _own_rates(args: StabilizerArguments) -> dict[str, bool]:
    """Which options ask for groups that differ from the Trainer's own.

    A stage that warms up needs groups of its own; where layers are frozen, the groups' names in a
    checkpoint tell of a resume with others.
    """
    return {
        "layer_lr": args.layer_lr != "uniform",
        "head_learning_rate": args.head_learning_rate is not None,
        "base_batch_size": args.base_batch_size is not None,
        "stage_warmup_steps": bool(args.stage_warmup_steps),
        "layer_weight_decay_multipliers": args.layer_weight_decay_multipliers is not None,
        "head_weight_decay": args.head_weight_decay is not None,
        "freeze_embeddings": args.freeze_embeddings,
        "freeze_layers": bool(args.freeze_layers),
        "freeze_body": args.freeze_body,
    }


def _refuse_late_options(args: StabilizerArguments) -> None:
    """Raises where an option was turned on, or changed, for which `stabilize` made nothing."""
    made, now = vars(args).get(_DECIDED, {}), _decisions(args)
    for name in made:
        # Switched off is read when a run begins, or does no harm.
        if now[name] is not False and now[name] != made[name]:
            raise ConfigurationError(
                f"{name}={getattr(args, name)!r} came too late: callbacks and optimizer of this "
                "Trainer were made before it was set; set it and call stabilize(args) again for a "
                "Trainer of its own"
            )


def _pooler(
    args: StabilizerArguments, model: torch.nn.Module, layers: LayerMap
) -> bool | Literal["identity"]:
    choice = pooler_choice(args)
    if choice == "auto":
        return "identity" if has_identity_pooler(model, layer_map=layers) else False
    return "identity" if choice == "identity" else choice == "true"
