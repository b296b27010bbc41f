from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def losses_of(mode: str, folder: Path) -> str:
    """Evaluation losses of a run in two processes, which check all else themselves."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    script = ["--nproc_per_node", "2", "-m", "tests.averaging_in_two_processes"]
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
    return next(line for line in finished.stdout.splitlines() if line.startswith("losses"))


@pytest.mark.slow
def test_two_processes_average_and_resume_alike_whether_weights_are_sharded_or_not(tmp_path):
    losses = {mode: losses_of(mode, tmp_path / mode) for mode in ("ddp", "fsdp2", "sharded")}
    assert losses["ddp"] == losses["fsdp2"] == losses["sharded"]
