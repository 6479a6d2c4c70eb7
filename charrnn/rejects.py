"""Rows of the input that cannot be read: which they are, and how many may be left out."""

from __future__ import annotations

__all__ = ["REJECTS", "OverBudgetError", "check_budget", "parse_budget", "rejects_table"]

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa

from charrnn.csv_structure import REASONS
from charrnn.errors import ConfigError, DataError
from charrnn.staging import StagedCsv

# Rows left out of the input: which file (its place among the inputs and its name), its line, which
# row of the file it would have been (from 0), and why; never what it says.
REJECTS = pa.schema(
    [
        ("input", pa.int32()),
        ("file", pa.string()),
        ("line", pa.int64()),
        ("record", pa.int64()),
        ("reason", pa.dictionary(pa.int8(), pa.string())),
    ]
)


class OverBudgetError(DataError):
    """More rows would be rejected than may be; ``rejects`` are all of them."""

    def __init__(self, message: str, rejects: pa.Table) -> None:
        super().__init__(message)
        self.rejects = rejects


def rejects_table(number: int, path: Path, staged: StagedCsv) -> pa.Table:
    """Return the rejected rows of the input file ``path``, the ``number``-th, as ``REJECTS``."""
    reasons = pa.DictionaryArray.from_arrays(pa.array(staged.reasons.view("i1")), list(REASONS))
    count = len(staged.lines)
    columns = [np.full(count, number, np.int32), pa.array([path.name] * count, pa.string())]
    return pa.table([*columns, staged.lines, staged.records, reasons], REJECTS)


def parse_budget(text: str) -> int | float:
    """Return how many rows may be rejected: ``"20"`` → 20 rows, ``"0.1%"`` → 0.001 of the rows.

    Raises:
        ConfigError: it is neither a number nor a share from 0% to 100%.
    """
    try:
        allowed = float(text[:-1]) / 100 if text.endswith("%") else int(text)
    except ValueError:
        allowed = -1
    if allowed < 0 or (isinstance(allowed, float) and not allowed <= 1):
        raise ConfigError(f"max rejected is {text!r}; expected a number of rows or a share like 1%")
    return allowed


def check_budget(rejects: pa.Table, rows: int, allowed: int | float) -> None:
    """Raise OverBudgetError when more rows are rejected than ``allowed``: a number of rows (int),
    or a share (float) of them and the ``rows`` that are left."""
    count = len(rejects)
    most = allowed if isinstance(allowed, int) else allowed * (rows + count)
    if count <= most:
        return
    reasons = Counter(rejects["reason"].to_pylist())
    first = [f"{r['file']} line {r['line']} {r['reason']}" for r in rejects[:5].to_pylist()]
    raise OverBudgetError(
        f"{count:,} of {rows + count:,} rows would be rejected ("
        f"{', '.join(f'{reason} {n:,}' for reason, n in sorted(reasons.items()))}), more than "
        f"{allowed if isinstance(allowed, int) else f'{allowed:.4%}'}; first: {', '.join(first)}; "
        "mend them or raise --max-rejected",
        rejects,
    )
