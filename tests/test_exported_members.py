"""Is every public name there, documented, sorted, and free of charge until it is used?"""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import hf_stabilizer


def test_all_is_sorted_and_every_name_is_there() -> None:
    assert hf_stabilizer.__all__ == sorted(set(hf_stabilizer.__all__))
    for name in hf_stabilizer.__all__:
        assert getattr(hf_stabilizer, name).__name__ == name


@pytest.mark.parametrize("name", hf_stabilizer.__all__)
def test_every_name_is_documented(name: str) -> None:
    text = inspect.getdoc(getattr(hf_stabilizer, name)) or ""
    assert len(text) > 30, f"{name} has no docstring"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'LayerMapp'"):
        _ = hf_stabilizer.LayerMapp


@pytest.mark.parametrize(
    "code",
    [
        "import hf_stabilizer, hf_stabilizer.cli",
        "import hf_stabilizer.studies.page.report, hf_stabilizer.studies.statistics",
        "import hf_stabilizer.studies.table, hf_stabilizer.studies.verdict",
        "import hf_stabilizer.recipes, hf_stabilizer.data",
    ],
)
def test_these_imports_cost_neither_torch_nor_transformers(code: str) -> None:
    check = "import sys; assert not {'torch', 'transformers'} & set(sys.modules), 'heavy'"
    subprocess.run([sys.executable, "-c", f"{code}; {check}"], check=True)


def test_an_old_transformers_is_named_in_one_sentence(tmp_path: object) -> None:
    code = (
        "import importlib.metadata as m; found = m.version;"
        "m.version = lambda name: '4.57.1' if name == 'transformers' else found(name);"
        "import hf_stabilizer"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1
    assert "needs transformers >= 5.4 and found 4.57.1" in last
    assert "pip install" in last
