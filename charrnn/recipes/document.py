"""What a recipe returns, as one JSON document for scripts: a key per field of its record."""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from charrnn.model.version import ModelVersion

OF_VERSION = ("name", "digest", "label_name", "labels", "temperature", "facts")


def document(value: Any) -> Any:
    """Return a value as plain JSON values.

    A record becomes an object with a key per field, or what its ``to_json`` returns; a model
    version its name, digest, labels, temperature and facts; a table its rows; a path text; an
    error its message; a number that is not finite null.

    >>> document((Path("a.csv"), {"share": float("nan")}))
    ['a.csv', {'share': None}]
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.ndarray | np.generic):
        return document(value.tolist())
    if isinstance(value, pl.DataFrame):
        return document(value.to_dicts())
    if isinstance(value, Mapping):
        return {str(key): document(part) for key, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [document(part) for part in value]
    if isinstance(value, date):  # a time as well
        return value.isoformat()
    if isinstance(value, ModelVersion):
        return {name: document(getattr(value, name)) for name in OF_VERSION}
    if hasattr(value, "to_json"):
        return document(value.to_json())
    if is_dataclass(value):
        return {f.name: document(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Path | Exception):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")
