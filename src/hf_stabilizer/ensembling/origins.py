"""Do these models lie in one valley? Their weights average only if they began at the same place.

    checkpoints of one run                            the same path
    runs from one checkpoint, head drawn by one seed  the same start, other data order or dropout
    runs from one checkpoint, head fitted             the same start: a fitted head has no seed

Models whose heads began at other places learn other features for the same thing, and the mean of
two such heads is neither. Source: Wortsman et al. 2022, Model soups (arXiv:2203.05482), section 2;
Neyshabur, Sedghi, Zhang 2020, What is being transferred (arXiv:2008.11687).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hf_stabilizer.ensembling.candidates import scored_rows
from hf_stabilizer.ensembling.weight_means import Weights
from hf_stabilizer.errors import ConfigurationError
from hf_stabilizer.prediction import Member

# Any in this module: values of configuration keys.
_START = (
    *("model_name_or_path", "transfer_from", "transfer_layers", "reinit_layers", "reinit_pooler"),
    *("fit_head", "fit_head_scale"),
)
_TRAINED_ON = ("train_file", "dataset_name", "dataset_config_name", "filter", "max_train_rows")


def check_origins(members: Sequence[Member]) -> None:
    """Checks that all models began with the same weights.

    Args:
        members: The models; those of runs say where they began.

    Raises:
        ConfigurationError: Two did not, or one does not say; the message names the reason.
    """
    first = members[0]
    for other in members[1:]:
        if run_of(first) != run_of(other):
            reason = _difference(first, other)
            if reason:
                raise ConfigurationError(
                    f"{first.name!r} and {other.name!r} have no common start: {reason}; a soup is "
                    "of checkpoints of one run, or of runs with one checkpoint and one head seed "
                    "(or a fitted head); ensemble takes any"
                )


def run_of(member: Member) -> Path | None:
    """Returns the folder of the run that a model is of, None if it is of none."""
    if member.configuration is None:
        return None
    folder = member.folder.resolve()
    return folder if (folder / "configuration.yaml").is_file() else folder.parent


def _difference(first: Member, other: Member) -> str:
    """Returns why the starts differ, "" if they do not."""
    for member in (first, other):
        if member.configuration is None:
            return f"{member.name!r} is no run and does not say how it began"
    ours, theirs = _values(first), _values(other)
    for key in _START:
        if _said(ours, key) != _said(theirs, key):
            return f"{key} is {_said(ours, key)!r} and {_said(theirs, key)!r}"
    seeds = [_head_seed(values) for values in (ours, theirs)]
    if seeds[0] != seeds[1] and not _is_fitted(first):
        return f"their heads were drawn with head_seed {seeds[0]} and {seeds[1]}"
    if seeds[0] != seeds[1]:
        rows = [{k: _said(v, k) for k in _TRAINED_ON} for v in (ours, theirs)]
        rows = [{**r, **scored_rows(v)} for r, v in zip(rows, (ours, theirs), strict=True)]
        if rows[0] != rows[1]:
            return "their heads were fitted on other rows"
    return ""


def _values(member: Member) -> dict[str, Any]:
    assert member.configuration is not None
    return dict(member.configuration.values)


def _said(values: Mapping[str, Any], key: str) -> Any:
    """A key's value; what stands for "off" is nothing, but no layers are not all of them."""
    value = values.get(key)
    return value if key == "transfer_layers" else value or None


def _head_seed(values: Mapping[str, Any]) -> Any:
    seed = values.get("head_seed")
    return values.get("seed") if seed is None else seed


def _is_fitted(member: Member) -> bool:
    """Whether nothing of the start was drawn but a head that was then fitted."""
    values = _values(member)
    if not values.get("fit_head") or values.get("reinit_layers"):
        return False
    if values.get("transfer_layers") is not None and values.get("transfer_from") is None:
        return False  # All above the lowest so many are drawn anew.
    if values.get("reinit_pooler") not in (None, False, "false", "identity"):
        return False
    brought = _names_in(str(values.get("model_name_or_path")))
    if brought is None:  # A Hub id, which is not looked up for this.
        return True
    drawn = [name for name in Weights(member.model_folder).names if not _is_in(name, brought)]
    return len({name.rpartition(".")[0] for name in drawn}) <= 1


def _names_in(location: str) -> set[str] | None:
    from hf_stabilizer.data import resolve_location

    folder = Path(resolve_location(location))
    try:
        return set(Weights(folder).names) if folder.is_dir() else None
    except ConfigurationError:
        return None


def _is_in(name: str, brought: set[str]) -> bool:
    """Whether a checkpoint brings a tensor; either may have the name of the body before it."""
    return bool(_ends(name) & {end for other in brought for end in _ends(other)})


def _ends(name: str) -> set[str]:
    """Returns a name with and without its first word, which must leave two or more."""
    # transformers saves the norms of the first BERT models under the names that they came with.
    name = name.replace("LayerNorm.gamma", "LayerNorm.weight")
    name = name.replace("LayerNorm.beta", "LayerNorm.bias")
    rest = name.partition(".")[2]
    return {name, rest} if "." in rest else {name}
