"""Characters and text rules of a labelled table: what its names are read by (``--script auto``).

The symbols are those that cover 99.9 % of the characters, at most 255 with the marks of begin and
end. Hangul syllables are symbols where there are ids for all of them: n-grams of jamo hardly span
two syllables. Accents and case are kept where they inform. That is measured by cross-validation
over all names but those of the test fold, as one fold of a table has too few names to tell: naive
Bayes on the hashed n-grams of nine tenths of them, with and without, answers the others, and
the plainer rules stay unless the richer ones are better by more than one standard error of the
paired difference (the one-standard-error rule, Breiman et al. 1984).
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from charrnn.model.facts import TextChoice, TextRules
from charrnn.model.network import NgramTable
from charrnn.model.normalise import Normalisation
from charrnn.model.novelty import name_hashes
from charrnn.model.vocabulary import Encoded, Vocabulary, batches
from charrnn.training.corpus import Corpus
from charrnn.training.mapped import column_of
from charrnn.training.splits import TEST_FOLD, Examples, spaced_rows

_LEAST_COVERED = 0.99  # with Hangul syllables as symbols; with fewer they are written as jamo
COVERAGE = 0.999  # of the characters, by symbols, while there are ids
VOCABULARY_ROWS = 250_000  # that decide the vocabulary, at most
_DECIDING = 50_000  # names that decide the text rules, at most
_GROUPS = 10  # of these names, each answered by what the others teach
_LABELS = 256  # the most frequent ones, whose names these are
_BUCKETS = 2**16
_BATCH = 2**12
_SMOOTHING = 0.1  # added to every count of n-grams

_PLAIN = Normalisation("NFKC", fold="plain", vowel_signs=True)
_RICHER: dict[str, dict[str, Any]] = {
    "accents": {"fold": "punctuation"},
    "case": {"lowercase": False},
}

Rows = npt.NDArray[np.bool_]
Ids = npt.NDArray[np.int64]


def _sample(corpus: Corpus, chosen: Callable[[Corpus], Rows], most: int) -> Examples:
    """Return a sample of the rows that are ``chosen`` of each part, bool ``(N,)``."""
    of_parts = column_of(map(chosen, corpus.parts()), np.bool_, corpus.scratch)
    rows = spaced_rows(of_parts, most)
    return Examples.of(corpus.names.take(pa.array(rows)), corpus.label_ids[rows])


def auto_vocabulary(corpus: Corpus) -> tuple[Vocabulary, TextRules]:
    """Return the vocabulary of a corpus, and why it is that."""
    L = len(corpus.labels)
    counts = sum(np.bincount(part.label_ids, minlength=L) for part in corpus.parts())
    is_frequent = np.zeros(L, np.bool_)
    is_frequent[np.argsort(-counts, kind="stable")[:_LABELS]] = True

    def deciding(part: Corpus) -> Rows:
        usable: Rows = (part.folds >= 0) & (part.folds != TEST_FOLD)
        return usable & is_frequent[part.label_ids]

    names = _sample(corpus, deciding, _DECIDING)
    rules, choices = _PLAIN, dict[str, TextChoice | None]()
    for what, richer in _RICHER.items():
        rich = replace(rules, **richer)
        choices[what] = choice = _chosen(rich, rules, names)
        rules = rich if choice and choice.kept else rules
    sample = _sample(corpus, lambda part: part.folds >= 0, VOCABULARY_ROWS)
    vocabulary, covered = _covering(sample, replace(rules, jamo=False))
    if covered < _LEAST_COVERED:
        vocabulary, covered = _covering(sample, rules)
    return vocabulary, TextRules(len(vocabulary.symbols), covered, **choices)


def _covering(sample: Examples, rules: Normalisation) -> tuple[Vocabulary, float]:
    """Return the vocabulary under some rules, and the share of the characters that it knows."""
    vocabulary = _vocabulary(sample, rules)
    encoded = vocabulary.encode(sample.names)
    return vocabulary, float(1 - encoded.unknown.sum() / max(1, encoded.lengths.sum()))


def _vocabulary(sample: Examples, rules: Normalisation) -> Vocabulary:
    names = sample.names.to_pylist()
    return Vocabulary.of_names(names, sample.label_ids, rules, coverage=COVERAGE)


def _chosen(rich: Normalisation, plain: Normalisation, names: Examples) -> TextChoice | None:
    """Return which of two rules reads the names better, and by how much; None where they read all
    names alike."""
    with_rich, with_plain = _vocabulary(names, rich), _vocabulary(names, plain)
    if with_rich.symbols == with_plain.symbols:
        return None
    groups = name_hashes(with_plain.encode(names.names)) % _GROUPS  # spellings stay together
    right = [_is_right(v, names, groups) for v in (with_rich, with_plain)]
    gained = right[0].astype(np.int64) - right[1]
    kept = gained.sum() > np.sqrt(np.abs(gained).sum())  # by more than a standard error
    return TextChoice(bool(kept), float(right[0].mean()), float(right[1].mean()), len(gained))


@torch.inference_mode()
def _is_right(vocabulary: Vocabulary, names: Examples, groups: Ids) -> Rows:
    """Return which of N names naive Bayes answers right that learned those of the other groups,
    bool ``(N,)``; ``groups`` are numbers below ``_GROUPS``, ``(N,)``."""
    present, label_ids = np.unique(names.label_ids, return_inverse=True)
    table = NgramTable(_BUCKETS, len(present), dropout=0)
    encoded = vocabulary.encode(names.names)
    counts = _counts(table, encoded, label_ids, np.arange(len(encoded)))
    prior = torch.from_numpy(np.log(np.bincount(label_ids)).astype(np.float32))
    right = np.zeros(len(encoded), np.bool_)
    for group in range(_GROUPS):
        own = np.flatnonzero(groups == group)
        others = counts - _counts(table, encoded, label_ids, own) + _SMOOTHING
        table.weight.copy_(others.div_(others.sum(dim=0)).log_())
        for rows in _by_length(encoded, own):
            logits = table(torch.from_numpy(encoded.padded(rows)[0]).long(), None) + prior
            right[rows] = logits.argmax(dim=1).numpy() == label_ids[rows]
    return right


def _counts(table: NgramTable, encoded: Encoded, label_ids: Ids, chosen: Ids) -> torch.Tensor:
    """Return how often the n-grams of each bucket are in the ``chosen`` names of each of L labels,
    float32 ``(buckets, L)``."""
    counts, L = torch.zeros_like(table.weight), table.weight.shape[1]
    for rows in _by_length(encoded, chosen):
        buckets = torch.cat(table.buckets(torch.from_numpy(encoded.padded(rows)[0]).long()), dim=1)
        cells = buckets * L + torch.from_numpy(label_ids[rows])[:, None]
        counts.view(-1).index_add_(0, cells.view(-1), torch.ones(cells.numel()))
    return counts


def _by_length(encoded: Encoded, chosen: Ids) -> Iterator[Ids]:
    """Yield the ``chosen`` rows by batches of names of one length."""
    for rows in batches(np.maximum(encoded.lengths[chosen], 1), _BATCH):
        yield chosen[rows]
