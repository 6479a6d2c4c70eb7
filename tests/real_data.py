"""Where the real data set is, if it is."""

import os
from pathlib import Path


def real_names() -> Path | None:
    """The real data set's folder, where this machine has it."""
    found = Path(os.environ.get("CHARRNN_NAMES", "data/names"))
    return found if found.is_dir() else None
