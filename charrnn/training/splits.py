"""The splits of a corpus: what is trained on, what chooses, and what is only measured."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from charrnn.model.normalise import ACCENTS, LATIN, normalise, normalise_array
from charrnn.model.vocabulary import GIVEN
from charrnn.training.corpus import Corpus, given_names

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
    """

    names: pa.LargeStringArray
    label_ids: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32]
    outliers: pa.LargeStringArray

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
        return not bool((self.weights == 1).all())

    @property
    def surnames(self) -> tuple[pa.LargeStringArray, npt.NDArray[np.int64]]:
        """The S surnames, and their label ids, int64 ``(S,)``."""
        rows = np.flatnonzero(~self.given)
        return self.names.take(pa.array(rows)), self.label_ids[rows]


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
    names are taken.
    """
    rows, weights = _distinct_names(corpus)
    of_fold = corpus.outlier_folds
    held_out = []
    most = MOST_PROBABILITIES // max(1, len(corpus.labels))
    for fold in (validation_fold, test_fold):
        of_fold_rows = np.flatnonzero(corpus.folds[rows] == fold)
        of_part = of_fold_rows[evenly_spaced(len(of_fold_rows), most)]
        held_out.append(_examples(corpus, rows[of_part], weights[of_part], of_fold == fold))
    if spellings:
        rows, weights = _distinct_spellings(corpus)
    learned = ~np.isin(corpus.folds[rows], (test_fold, validation_fold))
    words = (of_fold >= 0) & ~np.isin(of_fold, (test_fold, validation_fold))
    return Split(_examples(corpus, rows[learned], weights[learned], words), *held_out)


def evenly_spaced(count: int, most: int) -> Rows:
    """Return at most ``most`` of the numbers 0 to ``count`` - 1, ascending and evenly spaced."""
    return np.linspace(0, count - 1, min(count, most)).astype(np.int64)


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
