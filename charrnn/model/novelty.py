"""Novelty of a name: how unlike the names of all labels it is; finds junk, and languages unknown.

The *surprise* of a name is taken from its logits: minus their log-sum-exp over the labels, the free
energy (Liu et al. 2020, "Energy-based Out-of-distribution Detection"), plus the logit of *none of
these* where the network has that output. Its *novelty* (the output column ``unfamiliarity``) is the
share of held-out names with a lower surprise, so a threshold of 0.99 flags one in a hundred.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from charrnn.model.vocabulary import Encoded, load_u64

Floats = npt.NDArray[np.float32]
Hashes = npt.NDArray[np.int64]
QUANTILES = 1001  # of a scale
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, 2^64 / golden ratio: mixes all bits


def surprise(logits: Tensor, label_count: int) -> Tensor:
    """Return the surprise of N names in nats, ``(N,)``, from logits ``(N, K)``, of which the first
    ``label_count``, L, are those of the labels, and the next, where K is L + 1, that of none.

    >>> surprise(Tensor([[0.0, 0.0, 3.0]]), 2)
    tensor([2.3069])
    """
    of_labels = logits[:, :label_count].logsumexp(dim=1)
    return (logits[:, label_count] if logits.shape[1] > label_count else 0) - of_labels


@dataclass(frozen=True)
class NoveltyScale:
    """The distribution of the surprise of held-out names.

    Attributes:
        quantiles: float32 ``(Q,)``, ascending, evenly spaced in rank.
    """

    quantiles: Floats

    @classmethod
    def of(cls, surprises: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Self:
        """Return the scale of M surprises, ``(M,)``, which count by ``weights``, ``(M,)``, or all
        alike."""
        values = np.asarray(surprises, np.float64)
        order = np.argsort(values, kind="stable")
        weight = np.ones(len(values)) if weights is None else np.asarray(weights, np.float64)
        rank = np.cumsum(weight[order]) - weight[order] / 2
        ranks = np.interp(np.linspace(0, 1, QUANTILES), rank / weight.sum(), values[order])
        return cls(ranks.astype(np.float32))

    def novelty(self, surprises: Tensor) -> Tensor:
        """Return the share of held-out names with a lower surprise than each of N names, 0 to 1,
        float32 ``(N,)``, on their device."""
        quantiles = torch.from_numpy(self.quantiles).to(surprises.device)
        return torch.searchsorted(quantiles, surprises).double().div(len(quantiles)).float()


def joint_novelty(one: Tensor, other: Tensor) -> Tensor:
    """Return the novelty of N full names from those of their parts, ``(N,)`` each: the share of
    pairs whose product of the shares above both parts is larger (Fisher 1932, "Statistical Methods
    for Research Workers", 21.1). A usual given name makes up for a rare surname.

    >>> joint_novelty(Tensor([0.5, 0.99]), Tensor([0.5, 0.5]))
    tensor([0.4034, 0.9685])
    """
    above = ((1 - share).clamp(min=0.5 / QUANTILES) for share in (one, other))
    product = next(above) * next(above)
    return 1 - product * (1 - product.log())


def name_hashes(encoded: Encoded) -> Hashes:
    """Return a 64-bit hash of the ids of each of N names, int64 ``(N,)``: eight ids at a time are
    mixed in by a multiplication, whose upper bits depend on all of them.

    A model version stores hashes, so that names can be looked up in it but not read.
    """
    lengths, rows = encoded.lengths, np.arange(len(encoded))
    hashes = lengths.astype(np.uint64) * _FACTOR
    for first in range(0, int(lengths.max(initial=0)), 8):
        rows = rows[lengths[rows] > first]
        eight = load_u64(encoded.flat, encoded.starts[rows] + first, lengths[rows] - first)
        mixed = (hashes[rows] ^ eight) * _FACTOR
        hashes[rows] = mixed ^ (mixed >> np.uint64(32))
    return (hashes * _FACTOR).view(np.int64)
