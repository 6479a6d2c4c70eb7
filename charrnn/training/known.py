"""The table of known names of a training: which names it has, and how far these are trusted."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from charrnn.model.calibration import Floats, negative_log_likelihood
from charrnn.model.known_names import SCALE, KnownNames, keys_of
from charrnn.model.novelty import Hashes, name_hashes
from charrnn.model.version import ModelVersion
from charrnn.training.corpus import Corpus, given_names
from charrnn.training.mapped import blocks_of, column_of
from charrnn.training.outside import LEAST, balanced_weights, calibrated
from charrnn.training.splits import (
    MOST_PROBABILITIES,
    VALIDATION_FOLD,
    Examples,
    evenly_spaced,
    spaced_rows,
)

_MOST_NAMES = 2**18  # that are looked at: the most frequent ones
_MOST_PROBABILITIES = 2**23  # of them: 32 MB in float32
_SAMPLE = 2**20  # weights by which the frequent names are found
_LEAST_NAMES = 20  # of several people: fewer say little of how these are divided
_TRUST = np.linspace(0, 0.95, 20)  # in the lists
UNTESTED = 0.5  # trust in lists where no other list tells


@dataclass(frozen=True)
class Listed:
    """N names, and how often each label has them.

    Attributes:
        hashes: ``name_hashes``, int64 ``(N,)``, ascending.
        given: which are given names, bool ``(N,)``.
        counts: float32 ``(N, L)``: of each label's names, or people.
        network: the network's calibrated probabilities, float32 ``(N, L)``.
    """

    hashes: Hashes
    given: npt.NDArray[np.bool_]
    counts: npt.NDArray[np.float32]
    network: npt.NDArray[np.float32]

    @property
    def shares(self) -> npt.NDArray[np.float32]:
        """How each name is divided among the labels, float32 ``(N, L)``."""
        divided: npt.NDArray[np.float32] = self.counts / self.counts.sum(axis=1, keepdims=True)
        return divided

    def find(self, hashes: Hashes) -> npt.NDArray[np.int64]:
        """Return the row of each of M hashes, -1 where there is none, int64 ``(M,)``."""
        rows = np.searchsorted(self.hashes, hashes).clip(max=len(self.hashes) - 1)
        return np.where(self.hashes[rows] == hashes, rows, -1)


def listed_names(version: ModelVersion, examples: Examples, weights: Floats | None) -> Listed:
    """Return the most frequent names of the examples, with all of their labels. With ``weights``,
    those of the L labels, ``(L,)``, counts are the roots of these times the frequency, as the
    training divides a name of several lists (``TrainConfig.merge_shared``)."""
    L = len(version.labels)
    most = min(_MOST_NAMES, _MOST_PROBABILITIES // L)
    blocks = list(blocks_of(len(examples.names)))
    hashes = column_of(
        (name_hashes(version.vocabulary.encode(examples.names[rows])) for rows in blocks),
        np.int64,
        examples.scratch,
    )
    sample = examples.weights[:: -(-len(hashes) // _SAMPLE)]
    least = np.quantile(sample, max(0.0, 1 - most / len(hashes)))
    is_frequent = column_of((examples.weights[b] >= least for b in blocks), np.bool_, None)
    frequent = spaced_rows(is_frequent, most)
    own, first = np.unique(hashes[frequent], return_index=True)
    names = examples.names.take(pa.array(frequent[first]))
    counts = np.zeros((len(own), L), np.float32)
    network = calibrated(version, version.vocabulary.encode(names)).astype(np.float32)
    listed = Listed(own, given_names(names), counts, network)
    for block in blocks:
        rows = listed.find(hashes[block])
        known = rows >= 0
        rows, labels = rows[known], examples.label_ids[block][known]
        weight = examples.weights[block][known]
        if weights is None:
            np.add.at(counts, (rows, labels), weight)
        else:
            np.maximum.at(counts, (rows, labels), np.sqrt(weights[labels] * weight))
    return listed


def trust_in_lists(version: ModelVersion, listed: Listed, others: Examples | None) -> Floats:
    """Return how far the lists are trusted for each of N names, 0 to 1, ``(N,)``: by surnames and
    given names, as is best for the log-likelihood of names that ``others``, another list, has too,
    every label counting alike."""
    trust = np.full(len(listed.hashes), UNTESTED)
    if others is None:
        return trust
    rows = listed.find(name_hashes(version.vocabulary.encode(others.names)))
    for given in (False, True):
        of_part = np.flatnonzero((rows >= 0) & (others.given == given))
        found, label_ids = rows[of_part], others.label_ids[of_part]
        if len(found):
            weights = balanced_weights(label_ids, LEAST)
            p, q = listed.shares[found], listed.network[found]
            losses = [
                negative_log_likelihood(t * p + (1 - t) * q, label_ids, weights) for t in _TRUST
            ]
            trust[listed.given == given] = _TRUST[int(np.argmin(losses))]
    return trust


def trust_in_counts(version: ModelVersion, listed: Listed, corpus: Corpus) -> Floats:
    """Return how far counts are trusted for each of N names, 0 to 1, ``(N,)``: n r / (n r + 1 - r)
    for n people with the name. Were a name's people divided by a Dirichlet distribution about the
    network's answer p, two of them would have one label with the probability ``r + (1 - r) sum(p
    ** 2)`` (Mosimann 1962); r is that of the held-out names of two people or more, and 0 where
    there are fewer than ``_LEAST_NAMES``."""
    people = pl.concat([_people(part) for part in corpus.parts()])
    people = people[evenly_spaced(len(people), MOST_PROBABILITIES // len(version.labels))]
    if len(people) < _LEAST_NAMES:
        return np.zeros(len(listed.hashes))
    n = people["n"].to_numpy()
    alike = (people["squares"].to_numpy() - n) / (n * (n - 1))
    p = calibrated(version, version.vocabulary.encode(people["name"].to_arrow()))
    by_chance = (p**2).sum(axis=1)
    r = float(np.clip((alike - by_chance).sum() / max((1 - by_chance).sum(), 1e-9), 0, 1))
    counted = r * listed.counts.sum(axis=1, dtype=np.float64)
    trusted: Floats = counted / np.maximum(counted + 1 - r, 1e-12)
    return trusted


def _people(corpus: Corpus) -> pl.DataFrame:
    """Return the validation names of two people or more: ``name``, ``n``, the number of people, and
    ``squares``, the sum of the squares of those of each label."""
    columns = {"name": corpus.names, "key": corpus.normalised, "given": corpus.given,
               "label": corpus.label_ids, "n": corpus.weights.astype(np.float64)}  # fmt: skip
    name, n = pl.col("name").first(), pl.col("n").sum()
    return (
        pl.DataFrame(columns)
        .filter(pl.Series(corpus.folds == VALIDATION_FOLD))
        .group_by("key", "given", "label", maintain_order=True)
        .agg(name, n)
        .group_by("key", "given", maintain_order=True)
        .agg(name, n, squares=(pl.col("n") ** 2).sum())
        .filter(pl.col("n") >= 2)
    )


def known_names(listed: Listed, trust: Floats, most: int) -> KnownNames:
    """Return at most ``most`` entries, of those of N names by which the lists, trusted by
    ``trust``, ``(N,)``, gain most: log-likelihood of their shares for the people with a name, for
    each of its entries."""
    keys, divided = keys_of(listed.hashes), listed.shares
    shares = (divided * (SCALE * trust[:, None]).astype(np.float32)).astype(np.int16)
    np.minimum(shares, SCALE - 1, out=shares)
    shares[1:][np.diff(keys) == 0] = 0  # another name has its key
    p, least = shares / np.float32(SCALE), np.float32(1e-30)
    mixed = p + (1 - p.sum(axis=1, keepdims=True)) * listed.network
    log_ratio = np.log(np.maximum(mixed, least)) - np.log(np.maximum(listed.network, least))
    gain = (listed.counts * log_ratio).sum(axis=1)
    entries = (shares > 0).sum(axis=1)
    order = np.argsort(-gain / np.maximum(entries, 1), kind="stable")
    kept = np.zeros(len(gain), np.bool_)
    kept[order[np.cumsum(entries[order]) <= most]] = True
    rows, label_ids = np.nonzero(shares * kept[:, None])
    return KnownNames(
        keys=keys[rows],
        label_ids=label_ids.astype(np.int16),
        shares=shares[rows, label_ids].astype(np.uint8),
    )
