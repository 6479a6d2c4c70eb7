"""The splits of a corpus: what is trained on, what chooses, and what is only measured."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from charrnn.model.normalise import ACCENTS, LATIN, normalise, normalise_array
from charrnn.model.vocabulary import GIVEN
from charrnn.training.corpus import Corpus, given_names
from charrnn.training.mapped import Column, Texts, blocks_of

TEST_FOLD, VALIDATION_FOLD = 9, 8  # of the honest split
# Of a held-out part, at most: 128 MB in float64. With 100 labels 167,772 names, with 10,000 1,677.
MOST_PROBABILITIES = 2**24
_NO_TEXTS = pa.array([], pa.large_string())

Rows = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float32]


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

    @property
    def surnames(self) -> tuple[pa.LargeStringArray, npt.NDArray[np.int64]]:
        """The S surnames, and their label ids, int64 ``(S,)``."""
        return self.of_part(given=False)

    def of_part(self, *, given: bool) -> tuple[pa.LargeStringArray, npt.NDArray[np.int64]]:
        """Return the G given names, or the surnames, and their label ids, int64 ``(G,)``."""
        rows = np.flatnonzero(self.given == given)
        return self.names.take(pa.array(rows)), self.label_ids[rows]


class ExampleBlocks:
    """Examples that are made by blocks; see ``mapped.Column``."""

    def __init__(self, scratch: Path | None) -> None:
        self._scratch, self._names = scratch, Texts(scratch)
        self._label_ids, self._weights = Column(np.int64, scratch), Column(np.float32, scratch)

    def append(
        self, names: pa.LargeStringArray, label_ids: npt.NDArray[np.integer], weights: Weights
    ) -> None:
        """Add N names with their label ids and weights, ``(N,)`` each."""
        self._names.append(names)
        self._label_ids.append(label_ids)
        self._weights.append(weights)

    def extend(self, examples: Examples) -> None:
        """Add examples, but not their outliers."""
        for rows in blocks_of(len(examples.names)):
            self.append(examples.names[rows], examples.label_ids[rows], examples.weights[rows])

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
    held_out, scratch = (validation_fold, test_fold), corpus.scratch
    columns = [(Column(np.int64, scratch), Column(np.float32, scratch)) for _ in held_out]
    train, first = ExampleBlocks(scratch), 0
    for part in corpus.parts():
        rows, weights = _distinct_names(part)
        drawn = _one_person(part, rows, weights) if corpus.counted else part.folds[rows] >= 0
        for fold, (of_rows, of_weights) in zip(held_out, columns, strict=True):
            own = drawn & (part.folds[rows] == fold)
            of_rows.append(first + rows[own])
            of_weights.append(weights[own])
        if spellings:
            rows, weights = _distinct_spellings(part)
        learned = ~np.isin(part.folds[rows], held_out)
        rows = rows[learned]
        train.append(part.names.take(pa.array(rows)), part.label_ids[rows], weights[learned])
        first += len(part.names)
    of_fold, parts = corpus.outlier_folds, []
    words = (of_fold >= 0) & ~np.isin(of_fold, held_out)
    parts.append(train.whole(corpus.outliers.filter(pa.array(words))))
    most = MOST_PROBABILITIES // max(1, len(corpus.labels))
    for fold, (of_rows, of_weights) in zip(held_out, columns, strict=True):
        rows, weights = of_rows.whole(), of_weights.whole()
        kept = evenly_spaced(len(rows), most)
        parts.append(_examples(corpus, rows[kept], weights[kept], of_fold == fold))
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


def _distinct_names(corpus: Corpus) -> tuple[Rows, Weights]:
    """Return one row per name of a label, in the order of their first rows, and their weights."""
    usable = np.flatnonzero(corpus.folds >= 0)
    keys = (_codes(corpus.normalised) * 2 + corpus.given)[usable]
    first = _first_rows(keys, corpus.label_ids[usable])
    # Of a name whose first row is in another script, the first row in Latin letters, if there is.
    other = ~pc.string_is_ascii(corpus.names).to_numpy(zero_copy_only=False)[usable]
    other &= np.bincount(first, minlength=len(first)) > 1
    others = np.flatnonzero(other[first])
    texts = corpus.names.take(pa.array(usable[others])).to_pylist()
    is_latin = [t.isascii() or normalise(t.removeprefix(GIVEN), LATIN).isascii() for t in texts]
    latin = others[np.array(is_latin, np.bool_)]
    chosen = usable.copy()
    chosen[first[latin[::-1]]] = usable[latin[::-1]]  # the last one assigned stays
    rows, weights = _of_first_rows(corpus, usable, first)
    return chosen[rows], weights


def _one_person(corpus: Corpus, rows: Rows, weights: Weights) -> npt.NDArray[np.bool_]:
    """Return which of R rows, one for each label of a name, are that of a person drawn of all with
    the name, bool ``(R,)``; ``weights``, ``(R,)``, are numbers of people. The smallest of random
    waiting times with these rates is drawn (Efraimidis & Spirakis 2006)."""
    keys = (_codes(corpus.normalised) * 2 + corpus.given)[rows]
    waits = np.random.default_rng(0).exponential(size=len(rows)) / np.maximum(weights, 1e-30)
    order = np.lexsort((waits, keys))
    drawn = np.zeros(len(rows), np.bool_)
    drawn[order[np.diff(keys[order], prepend=-1) != 0]] = True
    return drawn


def _distinct_spellings(corpus: Corpus) -> tuple[Rows, Weights]:
    """Return one row per spelling of a name of a label, as ``ACCENTS`` tells them apart, and their
    weights."""
    usable = np.flatnonzero(corpus.folds >= 0)
    keys = _codes(normalise_array(corpus.names, ACCENTS))[usable]
    first = _first_rows(keys, corpus.label_ids[usable])
    rows, weights = _of_first_rows(corpus, usable, first)
    return usable[rows], weights


def _codes(texts: pa.LargeStringArray) -> Rows:
    """Return a number for each of N texts, the same for equal ones, ``(N,)``."""
    codes: Rows = texts.dictionary_encode().indices.to_numpy().astype(np.int64)
    return codes


def _first_rows(keys: Rows, label_ids: npt.NDArray[np.int32]) -> Rows:
    """Return the first row with an equal pair for each of N pairs of key and label, ``(N,)``."""
    pairs = keys * (int(label_ids.max(initial=0)) + 1) + label_ids
    order = np.argsort(pairs, kind="stable")
    pairs = pairs[order]
    start = np.arange(len(order))
    start[1:][pairs[1:] == pairs[:-1]] = 0
    first = np.empty_like(order)
    first[order] = order[np.maximum.accumulate(start, out=start)]
    return first


def _of_first_rows(corpus: Corpus, usable: Rows, first: Rows) -> tuple[Rows, Weights]:
    """Return the G of the N ``usable`` rows that are the first of theirs, ascending, and the weight
    of each, ``(G,)``: the sum of the rows' where labelled tables count; where there are lists, the
    highest one: a list that has a name twice says no more than one that has it once."""
    rows, weights = np.flatnonzero(first == np.arange(len(first))), corpus.weights[usable]
    if corpus.counted:
        return rows, np.bincount(first, weights)[rows].astype(np.float32)
    highest = np.zeros_like(weights)
    np.maximum.at(highest, first, weights)
    return rows, highest[rows]


def seed_split(corpus: Corpus, seed: int) -> Split:
    """Return the notebook's split: all rows, random 80/20, with duplicates in both parts (leaky)
    and without a validation part."""
    order = np.random.default_rng(seed).permutation(len(corpus.names))
    test = math.floor(0.2 * len(order))
    parts = (np.sort(order[test:]), order[:0], np.sort(order[:test]))
    return Split(*(_examples(corpus, rows, corpus.weights[rows]) for rows in parts))


def _examples(
    corpus: Corpus, rows: Rows, weights: Weights, outliers: npt.NDArray[np.bool_] | None = None
) -> Examples:
    return Examples(
        corpus.names.take(pa.array(rows)),
        corpus.label_ids[rows].astype(np.int64),
        weights,
        corpus.outliers.filter(pa.array(outliers)) if outliers is not None else _NO_TEXTS,
    )
