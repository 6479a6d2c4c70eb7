"""What a process takes."""

import multiprocessing
import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function returns in a process of its own, whose memory is its alone; a crash
    does not take the tests with it."""
    # Forked from a process that has imported what they need: a spawned one imports for 0.3 s.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["charrnn.tables.source", "pyarrow.parquet", "pytest"])
    with ProcessPoolExecutor(1, context) as pool:
        return pool.submit(function, *arguments).result()


def peak_memory() -> int:
    """Return the largest memory of this process so far, in bytes; ``getrusage`` would count that
    of its parent, too."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024
