"""Versions of the libraries on which the bytes of a result depend."""

import platform

import numpy
import polars
import pyarrow
import torch

import charrnn


def library_versions() -> dict[str, str]:
    """Return library → version, Python among them."""
    libraries = (charrnn, torch, numpy, polars, pyarrow)
    versions = {library.__name__: str(library.__version__) for library in libraries}
    return {**versions, "python": platform.python_version()}
