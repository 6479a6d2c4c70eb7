"""The splits of a corpus: what is trained on, what chooses, and what is only measured."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from charrnn.model.normalise import ACCENTS, LATIN, normalise_array
from charrnn.model.vocabulary import GIVEN
from charrnn.training.corpus import Corpus, given_names
from charrnn.training.mapped import Column, Texts, blocks_of

TEST_FOLD, VALIDATION_FOLD = 9, 8  # of the honest split
# Of a held-out part, at most: 128 MB in float64. With 100 labels 167,772 names, with 10,000 1,677.
MOST_PROBABILITIES = 2**24

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Examples:
    """N names with their labels, and M words that are no names.

    Attributes:
        names: large_string ``(N,)``; before a given name stands the mark ``GIVEN``.
        label_ids: int64 ``(N,)``.
        weights: how often each name counts, float32 ``(N,)``.
        outliers: words of the same folds that are no names, large_string ``(M,)``.
        scratch: folder for the files of large columns; see ``mapped.Column``.
    """

    names: pa.LargeStringArray
    label_ids: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32]
    outliers: pa.LargeStringArray
    scratch: Path | None = None

    @classmethod
    def of(
        cls,
        names: Sequence[str] | pa.Array,
        label_ids: Sequence[int] | npt.NDArray[np.integer],
        *,
        weights: npt.NDArray[np.float32] | None = None,
        outliers: Sequence[str] | pa.Array = (),
    ) -> Self:
        """Return examples of N names with label ids ``(N,)``; without ``weights``, ``(N,)``, each
        counts once."""
        return cls(
            pa.array(names, pa.large_string()),
            np.asarray(label_ids, np.int64),
            np.ones(len(names), np.float32) if weights is None else weights,
            pa.array(outliers, pa.large_string()),
        )

    @property
    def given(self) -> npt.NDArray[np.bool_]:
        """Which of the names are given names, bool ``(N,)``."""
        return given_names(self.names)

    @property
    def has_frequencies(self) -> bool:
        """Whether some names count more often than others."""
        blocks = blocks_of(len(self.weights))
        return not all(bool((self.weights[rows] == 1).all()) for rows in blocks)

    def of_part(self, *, given: bool) -> tuple[pa.LargeStringArray, npt.NDArray[np.int64]]:
        """Return the G given names, or the surnames, and their label ids, int64 ``(G,)``."""
        rows = np.flatnonzero(self.given == given)
        return self.names.take(pa.array(rows)), self.label_ids[rows]

    def take(self, rows: Rows) -> Self:
        """Return the examples of M row numbers, ``(M,)``, and all outliers."""
        return replace(
            self,
            names=self.names.take(pa.array(rows)),
            label_ids=self.label_ids[rows],
            weights=self.weights[rows],
        )


class ExampleBlocks:
    """Examples that are made by blocks; see ``mapped.Column``."""

    def __init__(self, scratch: Path | None) -> None:
        self._scratch, self._names = scratch, Texts(scratch)
        self._label_ids, self._weights = Column(np.int64, scratch), Column(np.float32, scratch)

    def extend(self, examples: Examples) -> None:
        """Add examples, but not their outliers."""
        for rows in blocks_of(len(examples.names)):
            self._names.append(examples.names[rows])
            self._label_ids.append(examples.label_ids[rows])
            self._weights.append(examples.weights[rows])

    def whole(self, outliers: pa.LargeStringArray) -> Examples:
        """Return the examples; nothing can be added any more."""
        columns = (self._names.whole(), self._label_ids.whole(), self._weights.whole())
        return Examples(*columns, outliers, self._scratch)


@dataclass(frozen=True)
class Split:
    """Train, validation (may be empty) and test examples of one protocol."""

    train: Examples
    validation: Examples
    test: Examples


def honest_split(
    corpus: Corpus,
    test_fold: int = TEST_FOLD,
    validation_fold: int = VALIDATION_FOLD,
    *,
    spellings: bool = False,
) -> Split:
    """Return the leak-free split: each name of a label once, without junk, by fold.

    A name is a ``normalised`` text as surname or as given name. All its spellings are in one fold,
    so no name is in two parts. Folds other than the default ones are for rotation.

    Args:
        spellings: whether training sees other spellings (accents, another script) as examples of
            their own, for models whose text rules tell them apart. Validation and test have each
            name once in any case: its first spelling in Latin letters, or else its first.

    Of a held-out fold with more than ``MOST_PROBABILITIES`` pairs of name and label, evenly spaced
    names are taken. Where labelled tables count, a held-out name is that of one person, drawn of
    all with the name: a label that one of a thousand has says as much about the model as that.
    """
    train, validation, test = (ExampleBlocks(corpus.scratch) for _ in range(3))
    held_out = {validation_fold: validation, test_fold: test}
    for part in corpus.parts():
        names, folds = _distinct(part, part.normalised, one_person=part.counted)
        for fold, blocks in held_out.items():
            blocks.extend(names.take(np.flatnonzero(folds == fold)))
        if spellings or part.counted:
            keys = normalise_array(part.names, ACCENTS) if spellings else part.normalised
            names, folds = _distinct(part, keys)
        train.extend(names.take(np.flatnonzero(~np.isin(folds, list(held_out)))))
    of_fold, parts = corpus.outlier_folds, []
    words = (of_fold >= 0) & ~np.isin(of_fold, list(held_out))
    parts.append(train.whole(corpus.outliers.filter(pa.array(words))))
    most = MOST_PROBABILITIES // max(1, len(corpus.labels))
    for fold, blocks in held_out.items():
        examples = blocks.whole(corpus.outliers.filter(pa.array(of_fold == fold)))
        parts.append(examples.take(evenly_spaced(len(examples.names), most)))
    return Split(*parts)


def evenly_spaced(count: int, most: int) -> Rows:
    """Return at most ``most`` of the numbers 0 to ``count`` - 1, ascending and evenly spaced."""
    return np.linspace(0, count - 1, min(count, most)).astype(np.int64)


def spaced_rows(chosen: npt.NDArray[np.bool_], most: int) -> Rows:
    """Return at most ``most`` of the rows that are ``chosen``, bool ``(N,)``, ascending and evenly
    spaced among these."""
    numbers = evenly_spaced(int(np.count_nonzero(chosen)), most)
    rows, before = [np.empty(0, np.int64)], 0
    for block in blocks_of(len(chosen)):
        of_block = np.flatnonzero(chosen[block])
        first, end = np.searchsorted(numbers, (before, before + len(of_block)))
        rows.append(block.start + of_block[numbers[first:end] - before])
        before += len(of_block)
    return np.concatenate(rows)


def _distinct(
    corpus: Corpus, keys: pa.LargeStringArray, *, one_person: bool = False
) -> tuple[Examples, npt.NDArray[np.int8]]:
    """Return one example per name of a label, in the order of their first rows, and their folds,
    ``(G,)``; usable rows are one name that have the same of N ``keys``.

    An example is the name's first spelling in Latin letters, or else its first. Its weight is the
    sum of the rows' where labelled tables count; where there are lists, the highest one: a list
    that has a name twice says no more than one that has it once. With ``one_person`` a name has the
    label of one of the people with it: of random waiting times, whose rates are the weights, that
    of a label drawn so is the shortest (Efraimidis & Spirakis 2006).
    """
    is_latin = np.array(pc.string_is_ascii(corpus.names))
    others = pc.replace_substring(corpus.names.filter(pa.array(~is_latin)), GIVEN, "")
    is_latin[~is_latin] = pc.string_is_ascii(normalise_array(others, LATIN))
    columns = {"key": keys, "given": corpus.given, "label": corpus.label_ids}
    rows = pl.DataFrame(columns | {"weight": corpus.weights}).with_row_index("row")
    latin, weight = pl.when(pl.Series(is_latin)).then("row").alias("latin"), pl.col("weight")
    names = (
        rows.with_columns(latin)
        .filter(pl.Series(corpus.folds >= 0))
        .group_by(*columns, maintain_order=True)
        .agg(
            pl.coalesce(pl.col("latin").min(), pl.col("row").min()).alias("row"),
            weight.cast(pl.Float64).sum() if corpus.counted else weight.max(),
        )
    )
    if one_person:
        waits = np.random.default_rng(0).exponential(size=len(names))
        names = names.with_columns(wait=pl.Series(waits) / pl.col("weight").clip(1e-30)).filter(
            pl.col("wait") == pl.col("wait").min().over("key", "given")
        )
    chosen, weights = names["row"].to_numpy(), names["weight"].to_numpy().astype(np.float32)
    texts = corpus.names.take(pa.array(chosen))
    return Examples.of(texts, corpus.label_ids[chosen], weights=weights), corpus.folds[chosen]


def seed_split(corpus: Corpus, seed: int) -> Split:
    """Return the notebook's split: all rows, random 80/20, with duplicates in both parts (leaky)
    and without a validation part."""
    order = np.random.default_rng(seed).permutation(len(corpus.names))
    test = math.floor(0.2 * len(order))
    parts = (np.sort(order[test:]), order[:0], np.sort(order[:test]))
    examples = Examples.of(corpus.names, corpus.label_ids, weights=corpus.weights)
    return Split(*map(examples.take, parts))
