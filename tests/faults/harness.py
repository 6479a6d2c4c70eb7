"""The server of ``launcher`` from outside, and the scenes in which it runs commands."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LAUNCHER = Path(__file__).with_name("launcher.py")


class Server:
    """Runs commands in forks of one process; see ``launcher``."""

    def __init__(self) -> None:
        one = dict.fromkeys(
            ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"),
            "1",
        )
        self.home = tempfile.mkdtemp(prefix="charrnn-home-")
        self.process = subprocess.Popen(
            [sys.executable, str(LAUNCHER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **one,
                "PYTHONPATH": str(ROOT),
                "HOME": self.home,
                "PATH": os.environ.get("PATH", ""),
            },
        )

    def run(self, folder: Path, *argv: str, **more: Any) -> dict[str, Any]:
        """Run one command in ``folder`` and return what came of it."""
        return self.together([{"cwd": str(folder), "argv": argv, **more}])[0]

    def together(self, commands: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Run commands at once."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(commands) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())  # type: ignore[no-any-return]

    def close(self) -> None:
        """End the server."""
        self.process.communicate()
        shutil.rmtree(self.home, ignore_errors=True)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder in memory where there is one: an fsync there takes no milliseconds, and what a
    killed process leaves behind is the same."""
    memory = Path("/dev/shm")
    folder = tempfile.mkdtemp(prefix="charrnn-", dir=memory if os.access(memory, os.W_OK) else None)
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
