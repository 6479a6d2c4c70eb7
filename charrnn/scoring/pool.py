"""Predictions for names that come again and again, made once for all partitions of a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from charrnn.scoring.columns import Predictions

_SLOTS = 8  # of the table of hashes, for each name: fewer names have no slot, more memory is used


@dataclass(frozen=True)
class NamePool:
    """P names and their predictions, found by a hash of the name.

    Attributes:
        names: distinct, without null, large_string ``(P,)``.
        predictions: for these.
        slots: their ``slots_of``.
    """

    names: pa.LargeStringArray
    predictions: Predictions
    slots: npt.NDArray[np.int32]

    def complete(
        self, names: pa.LargeStringArray, predict: Callable[[pa.Array], Predictions]
    ) -> Predictions:
        """Return the predictions for D distinct names: those of the pool, and what ``predict``
        makes of the rest."""
        place = self.slots[_hashes(names) & (len(self.slots) - 1)]
        there = np.maximum(place, 0)
        same = pc.equal(names, self.names.take(pa.array(there))).to_numpy(zero_copy_only=False)
        rest = np.flatnonzero((place < 0) | ~same)
        predictions = self.predictions.take(there)
        predictions.put(rest, predict(names.take(pa.array(rest))))
        return predictions


def slots_of(names: pa.LargeStringArray) -> npt.NDArray[np.int32]:
    """Return a table of the hashes of at least one distinct name, ``(P,)``: index of the name whose
    hash has the slot's number as its lower bits, -1 for none, int32 ``(S,)``. Of names that share a
    slot only one is found."""
    slots = np.full(1 << (_SLOTS * len(names)).bit_length(), -1, np.int32)
    slots[_hashes(names) & (len(slots) - 1)] = np.arange(len(names), dtype=np.int32)
    return slots


def _hashes(names: pa.LargeStringArray) -> npt.NDArray[np.int64]:
    """Return a hash of each name, int64; the same for the same version of Polars."""
    series = pl.from_arrow(names)
    assert isinstance(series, pl.Series)
    return series.hash(seed=0).to_numpy().view(np.int64)
