"""How are the metadata of a model card read, changed and written, with all else left as it is?

---
license: mit       # comments, quotes and the order of keys stay
model-index: ...   # results that are ours are found by their names, and replaced
---
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_stabilizer.errors import StudyError

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

# Any in this module: whatever YAML can say.
MEAN = "mean over seeds"
THESE = "these weights"
"""Ends of the names of our metrics, by which they are found again."""


def split_card(text: str) -> tuple[str, str]:
    """Returns the YAML and the Markdown behind it; the first is empty where there is none."""
    from huggingface_hub.repocard import REGEX_YAML_BLOCK

    found = REGEX_YAML_BLOCK.search(text)
    return (found.group(2), text[found.end() :]) if found else ("", f"\n{text.lstrip()}")


def read_metadata(head: str, path: Path) -> Any:
    """Reads the YAML with its comments and quotes.

    Raises:
        StudyError: It cannot be read, or is no mapping.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap
    from ruamel.yaml.error import YAMLError

    yaml = YAML()
    yaml.preserve_quotes = True
    try:
        data = yaml.load(head)
    except YAMLError as error:
        first = " ".join(str(error).split())[:200]
        raise StudyError(f"the metadata of {path} cannot be read ({first}); mend them") from error
    if data is None:
        return CommentedMap()
    if not isinstance(data, dict):
        raise StudyError(f"the metadata of {path} are no mapping of keys to values; mend them")
    return data


def as_yaml(data: Any) -> str:
    """Returns the metadata as YAML, ending in a new line."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096  # or long sentences would be folded
    text = io.StringIO()
    yaml.dump(data, text)
    return text.getvalue()


def is_hub_id(name: str) -> bool:
    """Returns whether a name can be one of the Hub, and is no path that is there."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return not os.path.exists(name)


def put_results(data: Any, results: Sequence[EvalResult], name: str) -> None:
    """Puts the results into the first entry of the model index, in the place of earlier ones."""
    from huggingface_hub.repocard_data import eval_results_to_model_index

    index = data.get("model-index") or []
    new = eval_results_to_model_index(name, list(results))[0]
    if not index:
        data["model-index"] = [new]
        return
    old = [one for one in index[0].get("results") or [] if not _is_ours(one)]
    index[0]["results"] = [*old, *new["results"]]


def _is_ours(result: Mapping[str, Any]) -> bool:
    names = [str(metric.get("name", "")) for metric in result.get("metrics") or []]
    return bool(names) and all(name.endswith((f", {MEAN}", f", {THESE}")) for name in names)


def check_card(text: str, path: Path) -> None:
    """Reads the card as the Hub's own library does.

    Raises:
        StudyError: That library does not take it.
    """
    from huggingface_hub import ModelCard

    try:
        ModelCard(text)
    except ValueError as error:
        raise StudyError(
            f"the metadata of {path} are no model card's ({error}); mend them"
        ) from error
