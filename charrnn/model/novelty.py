"""How unlike the training names a name is, whatever its label: for finding junk in a name column.

A trigram model of characters, with Witten-Bell smoothing, is counted on the training names. A
name's *surprise* is its mean negative log-likelihood per character, in nats. Its *unfamiliarity*
is the share of held-out (validation) names that are less surprising: a threshold of 0.99 flags one
held-out name in a hundred, by construction.
"""

from __future__ import annotations

__all__ = ["CharacterModel", "name_hashes", "surprise"]

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from charrnn.model.vocabulary import Encoded, Vocabulary, batches

Floats = npt.NDArray[np.float32]
Hashes = npt.NDArray[np.int64]
_HASH_BASE = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class CharacterModel:
    """A trigram model and where held-out names lie on its scale.

    Attributes:
        surprise: float32 ``(S, S, S)``, S = ids with padding: nats of the third id after the
            first two, where padding stands for the edge of the name.
        quantiles: float32 ``(Q,)``, ascending: surprises of held-out names, evenly spaced in rank.
    """

    surprise: Floats
    quantiles: Floats

    @classmethod
    def fit(cls, train: Encoded, held_out: Encoded, quantiles: int = 1001) -> CharacterModel:
        """Count the model on ``train`` and place its scale with ``held_out``."""
        table = _trigram_surprise(train)
        found = surprise(table, held_out)
        return cls(table, np.quantile(found, np.linspace(0, 1, quantiles)).astype(np.float32))

    def unfamiliarity(self, encoded: Encoded) -> Floats:
        """Return the share of held-out names less surprising than each name, 0 to 1, ``(N,)``."""
        below = np.searchsorted(self.quantiles, surprise(self.surprise, encoded), side="left")
        return (below / len(self.quantiles)).astype(np.float32)


def surprise(table: Floats, encoded: Encoded) -> Floats:
    """Return each name's mean surprise per character, its end counted as one, in nats ``(N,)``."""
    size = table.shape[0]
    flat = table.reshape(-1)
    result = np.zeros(len(encoded), np.float32)
    for rows in batches(encoded.lengths, 4096):
        ids = _with_edges(encoded, rows)  # (B, T + 3)
        at = (ids[:, :-2] * size + ids[:, 1:-1]) * size + ids[:, 2:]
        result[rows] = flat[at].mean(axis=1)
    return result


def name_hashes(encoded: Encoded) -> Hashes:
    """Return a 64-bit polynomial hash of each normalised name, ``(N,)``: a set of names can be
    looked up, but not read, in a model version."""
    result = np.zeros(len(encoded), np.uint64)
    for rows in batches(encoded.lengths, 4096):
        hashes = np.zeros(len(rows), np.uint64)
        for column in _with_edges(encoded, rows)[:, 2:].T:
            hashes = hashes * _HASH_BASE + column.astype(np.uint64) + np.uint64(1)
        result[rows] = hashes
    return result.view(np.int64)


def _trigram_surprise(encoded: Encoded) -> Floats:
    size = _size(encoded.vocabulary)
    counts = np.zeros(size**3)
    for rows in batches(encoded.lengths, 4096):
        ids = _with_edges(encoded, rows)
        at = (ids[:, :-2] * size + ids[:, 1:-1]) * size + ids[:, 2:]
        counts += np.bincount(at.reshape(-1), minlength=size**3)
    three = counts.reshape(size, size, size)
    two, one = three.sum(axis=0), three.sum(axis=(0, 1))
    uniform = np.full(size, 1 / size)
    unigram = _smoothed(one, uniform)
    bigram = _smoothed(two, unigram)
    trigram = _smoothed(three, bigram)
    return (-np.log(trigram)).astype(np.float32)


def _smoothed(
    counts: npt.NDArray[np.float64], lower: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Interpolate counts over the last axis with a lower-order distribution, weighted by how many
    different characters have followed (Witten & Bell 1991)."""
    total = counts.sum(axis=-1, keepdims=True)
    kinds = (counts > 0).sum(axis=-1, keepdims=True)
    kinds = np.maximum(kinds, 1)  # an unseen context is all lower order
    smoothed: npt.NDArray[np.float64] = (counts + kinds * lower) / (total + kinds)
    return smoothed


def _with_edges(encoded: Encoded, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the ids of names of one length with padding as edges: two before, one behind."""
    length = int(encoded.lengths[rows[0]]) if len(rows) else 0
    ids = np.zeros((len(rows), length + 3), np.int64)
    if length:
        ids[:, 2:-1] = encoded.flat[encoded.starts[rows][:, None] + np.arange(length)]
    return ids


def _size(vocabulary: Vocabulary) -> int:
    return len(vocabulary.symbols) + 1
