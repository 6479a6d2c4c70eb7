"""How common names are, where only some of the lists say it."""

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

USUAL = 200.0  # per million people, of a word that is no name, and of a name on most lists
COVERED = 0.5  # share of a label's people whose names are taken to be on its lists
_LEAST, _MOST = 50.0, 2000.0  # per million, of a name on such a list
_RARE = 0.5  # of the lowest known frequency, for a name that the counts of its label lack


def filled_frequencies(
    keys: pa.Array, parts: pa.Array, labels: pa.Array, shares: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """Return how common each of N names is, per million people of its label, float32 ``(N,)``; all
    1 where none is known.

    All lines of a name of a label get the highest frequency that any list gives it. A name that no
    list gives one is rare where others of the label have one; where none has, the label's lists are
    taken to hold the names of half of its people, all of them alike.

    Args:
        keys: names as ``name_key`` has them.
        parts: surname, given or other.
        labels: null for words that are no names.
        shares: among the people of the label; NaN where the list does not say.
    """
    if np.isnan(shares).all():
        return np.ones(len(shares), np.float32)
    known = pl.col("share")
    frame = pl.DataFrame(
        {"key": keys, "part": parts, "label": labels, "share": pl.Series(1e6 * shares)}
    ).with_columns(known.fill_nan(None))
    names = pl.col("key").n_unique().over("part", "label")
    usual = pl.when(pl.col("label").is_null()).then(USUAL).otherwise(1e6 * COVERED / names)
    usual = usual.clip(_LEAST, _MOST)
    filled = frame.select(
        pl.coalesce(
            known.max().over("key", "part", "label"),
            _RARE * known.min().over("part", "label"),
            usual,
        )
    )
    return filled.to_series().to_numpy().astype(np.float32)
