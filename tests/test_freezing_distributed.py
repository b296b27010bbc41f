"""Gradual unfreezing in two processes, sharded or not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent


def weights_of(mode: str, folder: Path) -> dict[str, torch.Tensor]:
    """The weights that a run in two processes leaves, which check all else themselves."""
    folder.mkdir()
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    script = ["--nproc_per_node", "2", "-m", "tests.freezing_in_two_processes"]
    finished = subprocess.run(
        [*launcher, *script, mode, str(folder)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return torch.load(folder / "weights.pt", weights_only=True)


@pytest.mark.slow
def test_two_processes_free_layers_and_resume_alike_whether_weights_are_sharded_or_not(tmp_path):
    plain, sharded = (weights_of(mode, tmp_path / mode) for mode in ("ddp", "fsdp2"))
    assert plain.keys() == sharded.keys()
    for name, weights in plain.items():
        torch.testing.assert_close(weights, sharded[name], msg=name)
