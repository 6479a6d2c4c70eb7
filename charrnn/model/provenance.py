"""Versions of the libraries on which the bytes of a result depend."""

from __future__ import annotations

import platform
from importlib.metadata import version

import charrnn


def library_versions() -> dict[str, str]:
    """Return library → version, Python among them."""
    installed = {name: version(name) for name in ("torch", "numpy", "polars", "pyarrow")}
    return {"charrnn": charrnn.__version__, **installed, "python": platform.python_version()}
