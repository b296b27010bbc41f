"""Which files that runs read lie beside their study, and move with it?

A procedure writes rows and models into its own folder, and its studies read them there. What a
study asks names them from its own folder, so that the whole may be moved and gone on with:

    CV/rows/fold1/train.parquet     is ../rows/fold1/train.parquet in CV/study/study.json
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_stabilizer.procedure import FILE

# Any in this module: whatever YAML can say.
PLACES = (
    *("train_file", "validation_file", "test_file", "unlabelled_file"),
    *("model_name_or_path", "transfer_from"),
)
"""Keys that may name a file or a folder of a procedure."""


def movable(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Returns the values with what moves together with a study named from its folder.

    Args:
        values: Configuration keys with plain values.
        folder: Folder of the study; the procedure that it is part of is up to three above it.

    Example:
        >>> movable({"train_file": "/data/rows.csv", "max_steps": 9}, Path("results/study"))
        {'train_file': '/data/rows.csv', 'max_steps': 9}
        >>> own = Path("results/study/rows.csv").absolute()
        >>> movable({"train_file": str(own)}, Path("results/study"))
        {'train_file': 'rows.csv'}
    """
    study = folder.resolve()
    above = (path for path in study.parents[:3] if (path / FILE).is_file())
    home = next(above, study)
    return {
        key: _from_study(value, home, study) if key in PLACES else value
        for key, value in values.items()
    }


def _from_study(value: Any, home: Path, study: Path) -> Any:
    if not isinstance(value, str):
        return value
    path = Path(value)
    if not path.is_absolute() and not path.exists():  # a name on the Hub, a package's file
        return value
    path = path.resolve()
    return Path(os.path.relpath(path, study)).as_posix() if path.is_relative_to(home) else value
