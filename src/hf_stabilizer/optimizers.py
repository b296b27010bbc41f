"""Which optimizer steps the layers, each at its own rate? The named ones, and the Trainer socket.

    parameter groups --> the optimizer that `args` name --> Trainer

With all multipliers 1 and no rate for the head, a run equals the plain Trainer's to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer
from transformers import Trainer, TrainingArguments

from hf_stabilizer.errors import ConfigurationError
from hf_stabilizer.layers import LayerMap
from hf_stabilizer.learning_rates import (
    Curve,
    batch_size_factor,
    cosine_rates,
    grouped_rates,
    layerwise_decay,
)
from hf_stabilizer.optimizer_conflicts import refuse_conflicts, refuse_own_groups
from hf_stabilizer.parameter_groups import (
    check_coverage,
    check_coverage_again,
    check_rates,
    compare_groups,
    param_groups,
)
from hf_stabilizer.schedules import check_schedule

# Any in this module: keyword arguments for the Trainer, and values of options of any type.


def create_llrd_optimizer(
    model: nn.Module,
    args: TrainingArguments,
    *,
    decay: float = 0.9,
    head_learning_rate: float | None = None,
    layer_map: LayerMap | None = None,
) -> Optimizer:
    """Makes the optimizer that `args` name with layer-wise learning-rate decay (LLRD).

    For `Trainer(optimizers=(optimizer, None))`; with `model_init`, FSDP or hyperparameter search
    the Trainer refuses that, and `layered_optimizer` is the way. `decay=1` is the plain Trainer.

    Args:
        model: The model that will be trained, on its final device or not.
        args: Gives the optimizer (`optim`, betas, `optim_args`), the rate of the top block and the
            weight decay.
        decay: Ratio of the rates of neighbouring layers, in (0, 1].
        head_learning_rate: Rate of all that lies above the blocks; None: `args.learning_rate`.
        layer_map: Depths that were found before; None: `LayerMap.from_model(model)`.

    Returns:
        The optimizer, its groups as `param_groups` describes them. Loading a checkpoint whose
        groups differ raises `ResumeError` with the difference.

    Raises:
        ConfigurationError: A value is out of range; `args.optim` brings its own groups (GaLore,
            APOLLO, LOMO); the schedule does not keep ratios; DeepSpeed's configuration has an
            optimizer or scheduler of its own.
        LayerDiscoveryError: A parameter has no depth.

    Example:
        >>> import tempfile
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> model = BertForSequenceClassification(
        ...     BertConfig(vocab_size=9, hidden_size=4, num_hidden_layers=2,
        ...                num_attention_heads=1, intermediate_size=4))
        >>> args = TrainingArguments(tempfile.gettempdir(), learning_rate=1e-3)
        >>> optimizer = create_llrd_optimizer(model, args, decay=0.9)
        >>> optimizer.param_groups[0]["name"], optimizer.param_groups[0]["lr"]
        ('layer_02', 0.001)

    Source:
        Howard and Ruder 2018, arXiv 1801.06146; Zhang et al. 2021, arXiv 2006.05987.
    """
    return _create_optimizer(model, args, layerwise_decay(decay), head_learning_rate, layer_map)


def create_grouped_llrd_optimizer(
    model: nn.Module,
    args: TrainingArguments,
    *,
    multipliers: Sequence[float],
    head_learning_rate: float | None = None,
    layer_map: LayerMap | None = None,
) -> Optimizer:
    """Makes the optimizer that `args` name with one rate per even set of blocks.

    As `create_llrd_optimizer`, with the curve `grouped_rates(multipliers)`; `[1.0]` is the plain
    Trainer.

    Args:
        model: The model that will be trained.
        args: As for `create_llrd_optimizer`.
        multipliers: One positive number per set of blocks, lowest set (and embeddings) first.
        head_learning_rate: Rate of all that lies above the blocks; None: `args.learning_rate`.
        layer_map: Depths that were found before; None: `LayerMap.from_model(model)`.

    Returns:
        The optimizer.

    Raises:
        ConfigurationError: As for `create_llrd_optimizer`; more multipliers than blocks.
        LayerDiscoveryError: A parameter has no depth.

    Example:
        >>> import tempfile
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> model = BertForSequenceClassification(
        ...     BertConfig(vocab_size=9, hidden_size=4, num_hidden_layers=2,
        ...                num_attention_heads=1, intermediate_size=4))
        >>> args = TrainingArguments(tempfile.gettempdir(), learning_rate=1e-3)
        >>> optimizer = create_grouped_llrd_optimizer(model, args, multipliers=[0.5, 1.0])
        >>> {group["name"]: group["lr"] for group in optimizer.param_groups}["layer_01"]
        0.0005

    Source:
        Peggy Chang, Towards Data Science 2021 (see `grouped_rates`).
    """
    curve = grouped_rates(multipliers)
    return _create_optimizer(model, args, curve, head_learning_rate, layer_map)


def create_cosine_lr_optimizer(
    model: nn.Module,
    args: TrainingArguments,
    *,
    lowest: float,
    head_learning_rate: float | None = None,
    layer_map: LayerMap | None = None,
) -> Optimizer:
    """Makes the optimizer that `args` name with rates rising over depth along a cosine.

    As `create_llrd_optimizer`, with the curve `cosine_rates(lowest)`; `lowest=1` is the plain
    Trainer. This is a curve over layers; a cosine over time is `lr_scheduler_type="cosine"`.

    Args:
        model: The model that will be trained.
        args: As for `create_llrd_optimizer`.
        lowest: Multiplier of the embeddings, in [0, 1].
        head_learning_rate: Rate of all that lies above the blocks; None: `args.learning_rate`.
        layer_map: Depths that were found before; None: `LayerMap.from_model(model)`.

    Returns:
        The optimizer.

    Raises:
        ConfigurationError: As for `create_llrd_optimizer`.
        LayerDiscoveryError: A parameter has no depth.

    Example:
        >>> import tempfile
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> model = BertForSequenceClassification(
        ...     BertConfig(vocab_size=9, hidden_size=4, num_hidden_layers=2,
        ...                num_attention_heads=1, intermediate_size=4))
        >>> args = TrainingArguments(tempfile.gettempdir(), learning_rate=1e-3)
        >>> optimizer = create_cosine_lr_optimizer(model, args, lowest=0.1)
        >>> optimizer.param_groups[-1]["name"], optimizer.param_groups[-1]["lr"]
        ('embeddings_no_decay', 0.0001)

    Source:
        After Radek Osmulski (see `cosine_rates`).
    """
    return _create_optimizer(model, args, cosine_rates(lowest), head_learning_rate, layer_map)


def layered_optimizer(
    args: TrainingArguments,
    curve: Curve | None = None,
    *,
    head_learning_rate: float | None = None,
    overrides: Mapping[str, int | str] | None = None,
) -> tuple[Callable[[], Callable[..., Optimizer]], dict[str, Any]]:
    """Returns what `Trainer(optimizer_cls_and_kwargs=...)` takes, for rates by depth.

    The optimizer is made when the Trainer asks for it, from the values that `args` has then: so it
    works with `model_init`, `hyperparameter_search`, resuming, DDP and FSDP2. The tuple holds no
    state and serves any number of runs.

    Args:
        args: The same arguments as the Trainer gets.
        curve: `(depth, num_layers) -> multiplier`; None: curve, rate of the head and overrides are
            all read from `StabilizerArguments` when the optimizer is made.
        head_learning_rate: Rate of all that lies above the blocks; None: `args.learning_rate`.
        overrides: As for `LayerMap.from_model`: glob on parameter names -> depth, "embeddings" or
            "head".

    Returns:
        `(factory, keyword arguments)`.

    Raises:
        ConfigurationError: As for `create_llrd_optimizer`, here and again when the optimizer is
            made. Not with FSDP1 and `use_orig_params=False`.

    Example:
        >>> import tempfile
        >>> args = TrainingArguments(tempfile.gettempdir(), optim="lomo")
        >>> layered_optimizer(args, layerwise_decay(0.9))
        Traceback (most recent call last):
            ...
        hf_stabilizer.errors.ConfigurationError: optim='lomo' makes parameter groups of its own, so
        it cannot have a rate per layer; choose another optimizer, such as 'adamw_torch', or equal
        rates

    Source:
        The factory form of the socket: `Trainer.create_optimizer`, transformers 5.2 and later.
    """
    refuse_conflicts(args)
    check_schedule(args)
    check_rates(layerwise_decay(1.0) if curve is None else curve, head_learning_rate)
    # No key may be called params, model or optimizer_dict: the Trainer takes such keys out.
    options = {"curve": curve, "head_learning_rate": head_learning_rate, "overrides": overrides}
    return _factory, {"args": args, **options}


def curve_from_arguments(args: TrainingArguments) -> Curve:
    """Returns the curve that `StabilizerArguments` describe; plain arguments mean equal rates.

    Options that are None take the technique's default: `layer_lr_decay` 0.9, `layer_lr_lowest` 0.1.

    Raises:
        ConfigurationError: A value is out of range; the message names the option.
    """
    technique = getattr(args, "layer_lr", "uniform")
    try:
        if technique == "llrd":
            return layerwise_decay(_given(args, "layer_lr_decay", 0.9))
        if technique == "grouped":
            return grouped_rates(_given(args, "layer_lr_multipliers", ()))
        if technique == "cosine":
            return cosine_rates(_given(args, "layer_lr_lowest", 0.1))
    except ConfigurationError as error:
        # Their messages begin with the argument's name, which is the option's without layer_lr_.
        raise ConfigurationError(f"layer_lr_{error}") from error
    return layerwise_decay(1.0)


def _factory() -> Callable[..., Optimizer]:
    """The Trainer calls what it is given once with nothing, then the result with the model."""
    return _create_layered


def _create_layered(
    model: nn.Module,
    *,
    args: TrainingArguments,
    curve: Curve | None,
    head_learning_rate: float | None,
    overrides: Mapping[str, int | str] | None,
) -> Optimizer:
    if curve is None:
        curve = curve_from_arguments(args)
        head_learning_rate = _given(args, "head_learning_rate", head_learning_rate)
        overrides = _given(args, "layer_overrides", overrides)
    layer_map = LayerMap.from_model(model, overrides=overrides)
    return _create_optimizer(model, args, curve, head_learning_rate, layer_map)


def _create_optimizer(
    model: nn.Module,
    args: TrainingArguments,
    curve: Curve,
    head_learning_rate: float | None,
    layer_map: LayerMap | None,
) -> Optimizer:
    refuse_conflicts(args)
    groups = param_groups(
        model, args, curve, head_learning_rate=head_learning_rate, layer_map=layer_map
    )
    # A checkpoint of a compiled model fits the plain one, and the reverse.
    names = {p: name.replace("_orig_mod.", "") for name, p in model.named_parameters()}
    for group in groups:
        # torch's own key for them (2.6), kept in every checkpoint: what the comparison reads.
        group["param_names"] = [names[parameter] for parameter in group["params"]]
    optimizer_class, kwargs = Trainer.get_optimizer_cls_and_kwargs(args)
    refuse_own_groups(args, optimizer_class, kwargs)
    # Schedules with an absolute floor read the default rate, so it must be scaled, too.
    kwargs["lr"] = args.learning_rate * batch_size_factor(args)
    optimizer: Optimizer = optimizer_class(groups, **kwargs)
    check_coverage(model, optimizer)
    check_coverage_again(model, optimizer)
    optimizer.register_load_state_dict_pre_hook(compare_groups)
    if kwargs.get("optim_bits") == 8:
        _keep_embeddings_in_32_bits(model)
    return optimizer


def _keep_embeddings_in_32_bits(model: nn.Module) -> None:
    """What the Trainer does for 8-bit optimizers of bitsandbytes, unless a factory makes them."""
    from bitsandbytes.optim import GlobalOptimManager  # type: ignore[import-not-found]

    manager = GlobalOptimManager.get_instance()
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            manager.register_module_override(module, "weight", {"optim_bits": 32})


def _given(args: TrainingArguments, name: str, default: Any) -> Any:
    """The option's value, or the default where it is None or `args` are plain."""
    value = getattr(args, name, None)
    return default if value is None else value
