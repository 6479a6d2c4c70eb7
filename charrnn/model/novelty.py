"""Novelty of a name relative to the training names, whatever its label: detects junk in a column.

A character trigram model with Witten-Bell smoothing is fitted to the training names. A name's
*surprise* is its mean negative log-likelihood per character, in nats. Its *novelty* (the output
column ``unfamiliarity``) is the share of validation names with a lower surprise, so a threshold of
0.99 flags one validation name in a hundred.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from charrnn.model.vocabulary import Encoded, batches

Floats = npt.NDArray[np.float32]
Hashes = npt.NDArray[np.int64]
_HASH_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, 2^64 / golden ratio: mixes all bits
_BATCH = 2**12  # names: bounds the arrays of a batch


@dataclass(frozen=True)
class CharacterModel:
    """A character trigram model and the distribution of its surprise over the validation names.

    Attributes:
        surprise: float32 ``(S, S, S)``, S = number of symbols + 1: surprise in nats of the third id
            given the first two; ``PAD`` marks the edges of a name.
        quantiles: float32 ``(Q,)``, ascending: quantiles of the surprise, evenly spaced in rank.
    """

    surprise: Floats
    quantiles: Floats

    @classmethod
    def fit(cls, train: Encoded, held_out: Encoded, quantiles: int = 1001) -> Self:
        """Fit the trigram model to ``train`` and take ``quantiles`` of the surprise of
        ``held_out``."""
        table = _trigram_surprise(train)
        ranks = np.linspace(0, 1, quantiles)
        return cls(table, np.quantile(surprise(table, held_out), ranks).astype(np.float32))

    def novelty(self, encoded: Encoded) -> Floats:
        """Return the share of validation names with a lower surprise than each of N names, 0 to 1,
        float32 ``(N,)``."""
        below = np.searchsorted(self.quantiles, surprise(self.surprise, encoded), side="left")
        return (below / len(self.quantiles)).astype(np.float32)


def surprise(table: Floats, encoded: Encoded) -> Floats:
    """Return the mean surprise per character of N names in nats, float32 ``(N,)``; the end of a
    name counts as a character. ``table`` is ``CharacterModel.surprise``."""
    size = table.shape[0]
    flat = table.reshape(-1)
    means = np.zeros(len(encoded), np.float32)
    for rows in batches(encoded.lengths, _BATCH):
        means[rows] = flat[_trigrams(encoded, rows, size)].mean(axis=1)
    return means


def name_hashes(encoded: Encoded) -> Hashes:
    """Return a 64-bit polynomial hash of each of N normalised names, int64 ``(N,)``.

    A model version stores hashes, so that names can be looked up in it but not read.
    """
    all_hashes = np.zeros(len(encoded), np.uint64)
    for rows in batches(encoded.lengths, _BATCH):
        hashes = np.zeros(len(rows), np.uint64)
        for column in _with_edges(encoded, rows)[:, 2:].T:
            hashes = hashes * _HASH_BASE + column.astype(np.uint64) + np.uint64(1)
        all_hashes[rows] = hashes
    return all_hashes.view(np.int64)


def _trigram_surprise(encoded: Encoded) -> Floats:
    """Return the smoothed negative log-likelihoods of all trigrams, float32 ``(S, S, S)``."""
    size = len(encoded.vocabulary.symbols) + 1
    counts = np.zeros(size**3)
    for rows in batches(encoded.lengths, _BATCH):
        at = _trigrams(encoded, rows, size).reshape(-1)
        counts += np.bincount(at, minlength=size**3)
    trigrams = counts.reshape(size, size, size)
    unigram = _smoothed(trigrams.sum(axis=(0, 1)), np.full(size, 1 / size))
    bigram = _smoothed(trigrams.sum(axis=0), unigram)
    return (-np.log(_smoothed(trigrams, bigram))).astype(np.float32)


def _smoothed(
    counts: npt.NDArray[np.float64], lower: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the distribution over the last axis of ``counts``, interpolated with the distribution
    ``lower`` of one order less; its weight is the number of distinct followers (Witten & Bell
    1991)."""
    total = counts.sum(axis=-1, keepdims=True)
    followers = (counts > 0).sum(axis=-1, keepdims=True)
    followers = np.maximum(followers, 1)  # an unseen context takes the lower order alone
    smoothed: npt.NDArray[np.float64] = (counts + followers * lower) / (total + followers)
    return smoothed


def _trigrams(encoded: Encoded, rows: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.int64]:
    """Return the flat indices into ``(S, S, S)`` of the trigrams of names of equal length T,
    ``(B, T + 1)``."""
    ids = _with_edges(encoded, rows)
    return (ids[:, :-2] * size + ids[:, 1:-1]) * size + ids[:, 2:]


def _with_edges(encoded: Encoded, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the ids of names of equal length T between paddings, two before and one behind, int64
    ``(B, T + 3)``."""
    length = int(encoded.lengths[rows[0]]) if len(rows) else 0
    ids = np.zeros((len(rows), length + 3), np.int64)
    if length:
        ids[:, 2:-1] = encoded.flat[encoded.starts[rows][:, None] + np.arange(length)]
    return ids
