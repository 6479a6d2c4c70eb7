"""Logits for many names: exact-length batches, so that no step is spent on padding.

Names are sorted by length and cut where the length changes; a batch therefore needs no mask, and
a name's result does not depend on its neighbours beyond the last bits of a matrix product.
"""

from __future__ import annotations

__all__ = ["batches", "logits_of"]

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from charrnn.model import CharRNN
from charrnn.vocabulary import Counts, Encoded


def batches(lengths: Counts, batch_size: int) -> Iterator[Counts]:
    """Yield row numbers, int64, in batches of one length and at most ``batch_size`` rows, shortest
    names first; every row appears once."""
    order = np.argsort(lengths, kind="stable")
    edges = np.flatnonzero(np.diff(lengths[order])) + 1
    for start, stop in zip([0, *edges], [*edges, len(order)], strict=True):
        for first in range(start, stop, batch_size):
            yield order[first : min(first + batch_size, stop)]


@torch.inference_mode()
def logits_of(
    network: CharRNN, encoded: Encoded, batch_size: int = 1024
) -> npt.NDArray[np.float32]:
    """Return the logits of N encoded names, float32 ``(N, L)``, in their order.

    The network is used as it stands (call ``eval()`` first) on the device where it is.
    """
    device = network.h2o.weight.device
    logits = np.empty((len(encoded), network.config.label_count), np.float32)
    for rows in batches(encoded.lengths, batch_size):
        logits[rows] = network(_to(device, encoded, rows)).cpu().numpy()
    return logits


def _to(device: torch.device, encoded: Encoded, rows: Counts) -> Tensor:
    ids, _ = encoded.padded(rows)
    return torch.from_numpy(ids).to(device)
