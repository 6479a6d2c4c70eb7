"""How common names are, where only some of the lists say it."""

import polars as pl

USUAL = 200.0  # per million people, of a word that is no name, and of a name on most lists
COVERED = 0.5  # share of a label's people whose names are taken to be on its lists
_LEAST, _MOST = 50.0, 2000.0  # per million, of a name on such a list
_RARE = 0.5  # of the lowest known frequency, for a name that the counts of its label lack


def filled_frequencies(names: pl.DataFrame) -> pl.Series:
    """Return how common each of N names is, per million people of its label, float32 ``(N,)``; all
    1 where none is known.

    All lines of a name of a label get the highest frequency that any list gives it. A name that no
    list gives one is rare where others of the label have one; where none has, the label's lists are
    taken to hold the names of half of its people, all of them alike.

    Args:
        names: ``key``, as ``name_key`` has it, ``part``, ``language``, null for words that are no
            names, and ``share`` among the people of the label, null where the list does not say.
    """
    if not names["share"].count():
        return pl.ones(len(names), pl.Float32, eager=True)
    known = 1e6 * pl.col("share")
    count = pl.col("key").n_unique().over("part", "language")
    usual = pl.when(pl.col("language").is_null()).then(USUAL).otherwise(1e6 * COVERED / count)
    return names.select(
        pl.coalesce(
            known.max().over("key", "part", "language"),
            _RARE * known.min().over("part", "language"),
            usual.clip(_LEAST, _MOST),
        ).cast(pl.Float32)
    ).to_series()
