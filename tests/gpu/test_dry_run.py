"""The measuring script still runs, with tiny sizes and without a card."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "run.sh"


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_the_dry_run_fills_in_every_stage(tmp_path: Path) -> None:
    output = tmp_path / "gpu.json"
    command = ["bash", str(SCRIPT), "--dry-run", "--output", str(output), "--folder", str(tmp_path)]
    done = subprocess.run(
        [*command, "--models", "tiny"],
        capture_output=True, text=True, env={**os.environ, "PYTHON": sys.executable},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(output.read_text())
    stages = ["card", "tests", "agreement", "speed", "equality", "memory", "end_to_end", "training"]
    assert list(found) == ["command", *stages]
    assert not [name for name in stages if "failed" in found[name]]
    assert found["agreement"]["tiny"]["cpu"]["bar_met"]
    assert found["end_to_end"]["tiny"]["runs"][0]["partitions"] == 3
    assert list(tmp_path.iterdir()) == [output]  # what was made has been removed
