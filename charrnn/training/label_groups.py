"""Groups of labels alike, for networks that answer in two steps: the group, then the label in it.

A label is what its training names have: the shares of their hashed n-grams. Labels are divided in
two along the direction in which they differ most, each half again, and so on. Groups are of equal
size, which bounds the cost of a step, and names have few groups that are likely, which makes
scoring fast.
"""

import numpy as np
import numpy.typing as npt
import torch

from charrnn.model.network import ModelConfig, NgramTable
from charrnn.model.vocabulary import Encoded, batches
from charrnn.training.splits import evenly_spaced

_BUCKETS = 2**10  # of n-grams
_MOST_NAMES = 500_000  # that decide the groups
_BATCH = 2**13
_STEPS = 12  # of the power iteration: the direction need not be exact


@torch.inference_mode()
def label_places(
    encoded: Encoded, label_ids: npt.NDArray[np.int64], config: ModelConfig
) -> npt.NDArray[np.int64]:
    """Return the place of each of K outputs in the grid of groups, int64 ``(K,)``; see
    ``CharRNN.places``. ``label_ids`` are those of N encoded names, ``(N,)``."""
    K = config.outputs
    table = NgramTable(_BUCKETS, 1, dropout=0)
    counts = np.zeros(K * _BUCKETS, np.float32)
    sample = evenly_spaced(len(label_ids), _MOST_NAMES)
    part, ids_of_part = encoded.take(sample), label_ids[sample]
    for rows in batches(part.lengths, _BATCH):
        ids = torch.from_numpy(part.padded(rows)[0]).long()
        cells = torch.cat(table.buckets(ids), dim=1).numpy() + ids_of_part[rows, None] * _BUCKETS
        found, times = np.unique(cells, return_counts=True)
        counts[found] += times
    shares = counts.reshape(K, _BUCKETS)
    # Roots of shares: their distance is Hellinger's, in which frequent n-grams do not outweigh all.
    features = np.sqrt(shares / np.maximum(shares.sum(axis=1, keepdims=True), 1))
    places = np.empty(K, np.int64)
    places[_divided(features, np.arange(K), config.label_groups, config.group_size)] = np.arange(K)
    return places


def _divided(
    features: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], groups: int, size: int
) -> npt.NDArray[np.int64]:
    """Return labels in the order of their groups, of ``size`` each but for the last."""
    if groups <= 1 or len(labels) <= size:
        return labels
    own = features[labels]
    centred = own - own.mean(axis=0)
    direction = centred[np.argmax(np.square(centred).sum(axis=1))]
    for _ in range(_STEPS):
        direction = centred.T @ (centred @ direction)
        direction /= max(float(np.linalg.norm(direction)), 1e-12)
    ordered = labels[np.argsort(centred @ direction, kind="stable")]
    left = (groups // 2) * size
    return np.concatenate((
        _divided(features, ordered[:left], groups // 2, size),
        _divided(features, ordered[left:], groups - groups // 2, size),
    ))  # fmt: skip
