"""Which parameters share a rate? One group per depth and weight decay, known by name.

    parameter --LayerMap--> depth --curve--> multiplier --> group

The decay rule is the Trainer's own. The names travel in every checkpoint, so that resuming with
other groups is told and not trained.
"""

from __future__ import annotations

import difflib
import math
import warnings
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

from torch import nn
from torch.optim import Optimizer
from transformers import Trainer, TrainingArguments

from hf_stabilizer.errors import ConfigurationError, ResumeError
from hf_stabilizer.layers import LayerMap
from hf_stabilizer.learning_rates import Curve, batch_size_factor, grouped_decays
from hf_stabilizer.schedules import check_schedule

Group: TypeAlias = dict[str, Any]  # Any: tensors, texts and numbers side by side
"""A param_group of torch: `params` are tensors, every other value is plain Python."""


def param_groups(
    model: nn.Module,
    args: TrainingArguments,
    curve: Curve,
    *,
    head_learning_rate: float | None = None,
    layer_map: LayerMap | None = None,
) -> list[Group]:
    """Sorts the trainable parameters into groups of one depth and one weight decay each.

    The rate of depth k is `args.learning_rate * curve(k, N)`, that of the head
    `head_learning_rate`; if `args` has a `base_batch_size`, every rate is scaled linearly from it
    to the batch size of `args` (per device x devices x accumulation; a batch size that
    `auto_find_batch_size` lowers later is not seen). Weight decay follows the Trainer's own rule:
    none on biases and norms; where `args` have `layer_weight_decay_multipliers` or a
    `head_weight_decay`, it differs by depth. A tied weight stands once, at the lowest depth that
    uses it (the embeddings). Frozen parameters are left out, as the Trainer does.

    Order: the top block first, because the Trainer logs the rate of group 0; then the head, then
    the other blocks downwards, the embeddings last.

    Args:
        model: The model that will be trained.
        args: Gives `learning_rate` (of the top block), `weight_decay` and the schedule.
        curve: `(depth, num_layers) -> multiplier`, e.g. `layerwise_decay(0.9)`.
        head_learning_rate: Rate of all that lies above the blocks; None: `args.learning_rate`.
        layer_map: Depths that were found before; None: `LayerMap.from_model(model)`.

    Returns:
        Dicts with `name` ("layer_03", "layer_03_no_decay"), `depth`, `params` (tensors), `lr` and
        `weight_decay`, ready for any torch optimizer.

    Raises:
        ConfigurationError: A rate is no finite number from 0 up, nothing is trainable, or the
            schedule of `args` does not keep the ratios between rates (ReduceLROnPlateau, greedy).
        LayerDiscoveryError: A parameter has no depth.

    Example:
        >>> import tempfile
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> from hf_stabilizer import layerwise_decay
        >>> model = BertForSequenceClassification(
        ...     BertConfig(vocab_size=9, hidden_size=4, num_hidden_layers=2,
        ...                num_attention_heads=1, intermediate_size=4))
        >>> args = TrainingArguments(tempfile.gettempdir(), learning_rate=1e-3, weight_decay=0.01)
        >>> for group in param_groups(model, args, layerwise_decay(0.5), head_learning_rate=2e-3):
        ...     print(f"{group['name']:21} {group['lr']:.5f} {group['weight_decay']}")
        layer_02              0.00100 0.01
        layer_02_no_decay     0.00100 0.0
        head                  0.00200 0.01
        head_no_decay         0.00200 0.0
        layer_01              0.00050 0.01
        layer_01_no_decay     0.00050 0.0
        embeddings            0.00025 0.01
        embeddings_no_decay   0.00025 0.0

    Source:
        Zhang et al. 2021, section 3, arXiv 2006.05987; the decay rule and the left-out frozen
        parameters: `Trainer.create_optimizer`, transformers 5.4 to 5.23.
    """
    check_schedule(args)
    layer_map = layer_map or LayerMap.from_model(model)
    rates = _rates(args, curve, layer_map.num_layers, head_learning_rate)
    decays_by_depth = _weight_decays(args, layer_map.num_layers)
    # The method needs no Trainer, only the rule that it holds.
    decayed = set(Trainer.get_decay_parameter_names(cast(Trainer, None), model))
    groups: dict[tuple[int, bool], Group] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        depth, decays = layer_map.depth_of(name), name in decayed
        group = groups.setdefault(
            (depth, decays),
            {
                "name": layer_map.label(depth) + ("" if decays else "_no_decay"),
                "depth": depth,
                "params": [],
                "lr": rates[depth],
                "weight_decay": decays_by_depth[depth] if decays else 0.0,
            },
        )
        group["params"].append(parameter)
    if not groups:
        raise ConfigurationError("no parameter of the model requires grad; unfreeze some first")
    top = layer_map.num_layers
    # The top block, the head, then downwards; within a depth the decayed group comes first.
    return [groups[key] for key in sorted(groups, key=lambda k: (k[0] != top, -k[0], not k[1]))]


def compare_groups(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Refuses a checkpoint of other groups; a hook for `register_load_state_dict_pre_hook`.

    torch pairs the states of a checkpoint with parameters by position: groups of equal sizes in
    another order would load without a word, each with the moments of the other.

    Raises:
        ResumeError: Names or order differ; the message shows the difference.
    """
    saved, own = state["param_groups"], optimizer.param_groups
    before, now = _lines(saved), _lines(own)
    if before != now:
        changes = [*difflib.unified_diff(before, now, n=0, lineterm="")][2:]  # without its header
        changes = [line for line in changes if not line.startswith("@@")]
        more = [f"... and {len(changes) - 20} more"] if len(changes) > 20 else []
        raise ResumeError(
            "the optimizer in the checkpoint has other groups of parameters than this run; resume "
            "with the options that it was saved with (layer rates, overrides, frozen layers), or "
            "start anew. In the checkpoint (-), in this run (+):\n"
            + "\n".join([*changes[:20], *more])
        )
    # The rates before any schedule; not there as long as there is no schedule.
    pairs = [(s.get("initial_lr"), g.get("initial_lr"), g) for s, g in zip(saved, own, strict=True)]
    changed = [group["name"] for old, new, group in pairs if old != new and None not in (old, new)]
    if changed:
        warnings.warn(
            f"the checkpoint was made with other learning rates for {', '.join(changed)}; as the "
            "Trainer does, the run goes on with those of the checkpoint",
            stacklevel=2,
        )


def check_coverage(model: nn.Module, optimizer: Optimizer) -> None:
    """Refuses an optimizer that does not hold every trainable parameter exactly once.

    Raises:
        ConfigurationError: One is missing, or in two groups.
    """
    held = Counter(p for group in optimizer.param_groups for p in group["params"])
    own = {parameter: name for name, parameter in model.named_parameters()}
    if not held.keys() & own.keys():
        return  # DeepSpeed puts flat partitions in the place of the parameters
    missing = [name for p, name in own.items() if p.requires_grad and p not in held]
    twice = [own.get(p, "a parameter of no module") for p, count in held.items() if count > 1]
    for names, flaw in ((missing, "in no group of the optimizer"), (twice, "in it twice")):
        if names:
            raise ConfigurationError(
                f"{len(names)} trainable parameters are {flaw}, {names[0]!r} first; build the "
                "optimizer from the model that is trained, with every parameter unfrozen that is "
                "to learn at any time"
            )


def check_coverage_again(model: nn.Module, optimizer: Optimizer) -> None:
    """Has the first step of the optimizer check once more: by then the model has been wrapped."""
    unchecked = [weakref.ref(model)]

    def check(optimizer: Optimizer, *_: object) -> None:
        # The hook stays: torch is going through all of them, and none may be removed meanwhile.
        model = unchecked.pop()() if unchecked else None
        if model is not None:
            check_coverage(model, optimizer)

    optimizer.register_step_pre_hook(check)


def check_rates(curve: object, head_learning_rate: object) -> None:
    """Raises `ConfigurationError` for what can be no curve, or no rate of the head."""
    if not callable(curve):
        raise ConfigurationError(
            "curve must be a function (depth, num_layers) -> multiplier, such as "
            f"layerwise_decay(0.9), got {curve!r}"
        )
    rate = head_learning_rate
    if rate is not None and not (isinstance(rate, int | float) and 0 < rate < math.inf):
        raise ConfigurationError(
            f"head_learning_rate must be a finite number above 0, got {rate!r}; leave it out for "
            "the rate of the top block"
        )


def _rates(
    args: TrainingArguments, curve: Curve, num_layers: int, head_learning_rate: float | None
) -> dict[int, float]:
    check_rates(curve, head_learning_rate)
    factor = batch_size_factor(args)
    rates = {}
    for depth in range(num_layers + 1):
        multiplier = float(curve(depth, num_layers))
        if not (math.isfinite(multiplier) and multiplier >= 0):
            raise ConfigurationError(
                f"the curve gives {multiplier!r} for depth {depth} of {num_layers}; a multiplier "
                "must be a finite number from 0 up"
            )
        rates[depth] = float(args.learning_rate * multiplier * factor)
    head = args.learning_rate if head_learning_rate is None else head_learning_rate
    rates[num_layers + 1] = float(head * factor)
    return rates


def decays_from_arguments(args: TrainingArguments) -> Curve:
    """Returns depth -> multiplier of `args.weight_decay` as `StabilizerArguments` have it.

    Raises:
        ConfigurationError: A multiplier is out of range.
    """
    multipliers = getattr(args, "layer_weight_decay_multipliers", None)
    try:
        return grouped_decays([1.0] if multipliers is None else multipliers)
    except ConfigurationError as error:  # it begins with the argument's name
        raise ConfigurationError(f"layer_weight_decay_{error}") from error


def _weight_decays(args: TrainingArguments, num_layers: int) -> dict[int, float]:
    """Returns the weight decay of each depth; all alike unless options of ours say otherwise."""
    curve, own = decays_from_arguments(args), float(args.weight_decay)
    decays = {depth: own * curve(depth, num_layers) for depth in range(num_layers + 1)}
    head = getattr(args, "head_weight_decay", None)
    decays[num_layers + 1] = own if head is None else float(head)
    return decays


def _lines(groups: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for index, group in enumerate(groups):
        label = group.get("name", f"group {index}")
        names = group.get("param_names") or [f"{len(group['params'])} tensors"]
        lines += [f"{label}: {name}" for name in names]
    return lines
