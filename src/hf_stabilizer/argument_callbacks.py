"""Which callbacks do these arguments ask for?"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from transformers import TrainerCallback

from hf_stabilizer.averaging import AveragingCallback, EMACallback, SWACallback
from hf_stabilizer.divergence import Action, DivergenceGuardCallback
from hf_stabilizer.errors import ConfigurationError
from hf_stabilizer.evaluation import EvaluationsPerEpochCallback
from hf_stabilizer.freezing import FreezingCallback, GradualUnfreezingCallback, HeadFirstCallback
from hf_stabilizer.layer_statistics import LayerStatisticsCallback
from hf_stabilizer.learning_rates import batch_size_factor
from hf_stabilizer.regularization import L1Callback, L2Callback

if TYPE_CHECKING:
    from hf_stabilizer.arguments import StabilizerArguments

# Any in this module: values of options of any type.

AVERAGINGS: Mapping[str, type[AveragingCallback]] = {"swa": SWACallback, "ema": EMACallback}


def callbacks_of(args: StabilizerArguments, theirs: list[TrainerCallback]) -> list[TrainerCallback]:
    """Returns the callbacks of all options, in the order in which the Trainer is to call them.

    Args:
        args: The options.
        theirs: The user's own callbacks, which are not to ask for the same again.

    Raises:
        ConfigurationError: Two options clash, or one with a callback of the user's.
    """
    ours = [
        *freezing_callbacks(args),
        *penalty_callbacks(args),
        *averaging_callbacks(args),
        *_evaluations(args),
        *_watchers(args),
    ]
    _check_callbacks(args, theirs, ours)
    return ours


def freezing_callbacks(args: StabilizerArguments) -> list[TrainerCallback]:
    """Returns what head_first or gradual_unfreezing asks for.

    Raises:
        ConfigurationError: Both are asked for, or two options would set the rate.
    """
    if args.head_first and args.gradual_unfreezing:
        raise ConfigurationError(
            f"head_first={args.head_first!r} and gradual_unfreezing={args.gradual_unfreezing!r} "
            "cannot be combined, both say when the body learns; set one of them to 0 (gradual "
            "unfreezing begins with the head alone, too)"
        )
    if args.swa_learning_rate is not None and args.stage_warmup_steps:
        raise ConfigurationError(
            f"swa_learning_rate={args.swa_learning_rate!r} and "
            f"stage_warmup_steps={args.stage_warmup_steps!r} cannot be combined, both set the "
            "rate; leave one of them out"
        )
    kind: type[FreezingCallback]
    if args.gradual_unfreezing:
        kind = GradualUnfreezingCallback
    elif args.head_first:
        kind = HeadFirstCallback
    else:
        return []
    callback = kind(**_freezing_options(args))
    callback.read_options = partial(_freezing_options, args)
    return [callback]


def _freezing_options(args: StabilizerArguments) -> dict[str, Any]:
    overrides: Any = args.layer_overrides  # a mapping by now
    if args.gradual_unfreezing:
        stage = _given(blocks_per_stage=args.blocks_per_stage, warmup_steps=args.stage_warmup_steps)
        return {"duration": args.gradual_unfreezing, "overrides": overrides, **stage}
    return {"duration": args.head_first, "overrides": overrides}


def penalty_callbacks(
    args: StabilizerArguments, *, only: str | None = None
) -> list[TrainerCallback]:
    """Returns what l2 and l1 ask for; `only` one of them.

    Raises:
        ConfigurationError: An option is out of range.
    """
    found: list[TrainerCallback] = []
    if args.l2 != 0 and only in (None, "l2"):
        l2 = L2Callback(**_l2_options(args))
        l2.read_options = partial(_l2_options, args)
        found.append(l2)
    if args.l1 != 0 and only in (None, "l1"):
        l1 = L1Callback(**_l1_options(args))
        l1.read_options = partial(_l1_options, args)
        found.append(l1)
    return found


def _l2_options(args: StabilizerArguments) -> dict[str, Any]:
    return {"strength": args.l2}


def _l1_options(args: StabilizerArguments) -> dict[str, Any]:
    return {"strength": args.l1, "log": args.log_layer_statistics}


def averaging_callbacks(args: StabilizerArguments) -> list[TrainerCallback]:
    """Returns what averaging asks for.

    Raises:
        ConfigurationError: An option is out of range.
    """
    if args.averaging == "none":
        return []
    callback = AVERAGINGS[args.averaging](**_averaging_options(args))
    # Options are read again where a run begins: a hyperparameter search has changed them by then.
    callback.read_options = partial(_averaging_options_of, args, args.averaging)
    return [callback]


def _averaging_options_of(args: StabilizerArguments, averaging: str) -> dict[str, Any]:
    if args.averaging != averaging:
        raise ConfigurationError(
            f"averaging={args.averaging!r} came too late: the callbacks of this Trainer were made "
            f"with averaging={averaging!r}; call stabilize(args) again for a Trainer of its own"
        )
    return _averaging_options(args)


def _averaging_options(args: StabilizerArguments) -> dict[str, Any]:
    common = _given(start=args.averaging_start, every=args.averaging_every)
    if args.averaging == "ema":
        return common | _given(decay=args.ema_decay, warmup=args.ema_warmup)
    return common | _given(
        learning_rate=_swa_learning_rate(args),
        anneal_steps=args.swa_anneal_steps,
        anneal=args.swa_anneal,
        keep_ratios=args.swa_keep_ratios,
    )


def _swa_learning_rate(args: StabilizerArguments) -> float | None:
    if args.swa_learning_rate is None:
        return None
    return args.swa_learning_rate * batch_size_factor(args)


def _evaluations(args: StabilizerArguments) -> list[TrainerCallback]:
    if args.evaluations_per_epoch or args.isolate_evaluations:
        return [EvaluationsPerEpochCallback(args.evaluations_per_epoch)]
    return []


def _watchers(args: StabilizerArguments) -> list[TrainerCallback]:
    overrides: Any = args.layer_overrides  # a mapping by now
    statistics = [LayerStatisticsCallback(overrides=overrides)] if args.log_layer_statistics else []
    if args.divergence_guard == "off":
        return [*statistics]
    action = cast(Action, args.divergence_guard)  # one of its values: checked at the door
    return [*statistics, DivergenceGuardCallback(action)]


def _given(**options: Any) -> dict[str, Any]:
    """Keeps the options that were given: None means the technique's own default."""
    return {name: value for name, value in options.items() if value is not None}


def _check_callbacks(
    args: StabilizerArguments, theirs: list[TrainerCallback], ours: list[TrainerCallback]
) -> None:
    for kind, option in (
        ((FreezingCallback,), "gradual_unfreezing" if args.gradual_unfreezing else "head_first"),
        ((SWACallback, EMACallback), "averaging"),
        ((L2Callback,), "l2"),
        ((L1Callback,), "l1"),
        ((EvaluationsPerEpochCallback,), "evaluations_per_epoch"),
        ((LayerStatisticsCallback,), "log_layer_statistics"),
        ((DivergenceGuardCallback,), "divergence_guard"),
    ):
        doubled = [c for c in theirs if isinstance(c, kind)]
        if doubled and any(isinstance(c, kind) for c in ours):
            raise ConfigurationError(
                f"the option {option} and the callback {type(doubled[0]).__name__} ask for the "
                "same thing twice; keep one of them"
            )
