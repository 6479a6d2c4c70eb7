"""The table of known names: what training names say where the network answers otherwise.

A network answers names it never saw, and pays for that with names that everyone knows: it reads
``Koch`` by its spelling, though lists of many languages tell whose name it is. So a version keeps
what its training names say of those whose answers differ most from it. A label l of a known name
has the probability ``s_l + (1 - sum(s)) p_l``: p is the network's, and s, its *shares*, is how the
name is divided among its labels, times how far that is trusted. The mixture of a memory and a
network is that of the nearest-neighbour language model (Khandelwal et al. 2020, "Generalization
through Memorization").
"""

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from charrnn.model.novelty import Hashes

SCALE = 256  # of the shares, as they are stored
_FILTER = 2**21  # values of the lower bits of keys, by which most other names are told: 2 MiB


@dataclass(frozen=True)
class KnownNames:
    """E entries of names and labels; those of a name are adjacent.

    A name is found by half of its hash, so of other names one in 2^32 / E is taken for a known one.

    Attributes:
        keys: int32 ``(E,)``, ascending: ``keys_of`` the names.
        label_ids: int16 ``(E,)``.
        shares: uint8 ``(E,)``, in parts of ``SCALE``; those of a name sum to less than ``SCALE``.
    """

    keys: npt.NDArray[np.int32]
    label_ids: npt.NDArray[np.int16]
    shares: npt.NDArray[np.uint8]

    @classmethod
    def none(cls) -> Self:
        """Return a table without names."""
        return cls(np.empty(0, np.int32), np.empty(0, np.int16), np.empty(0, np.uint8))

    def tensors(self) -> dict[str, Tensor]:
        """Return the attributes as tensors by name."""
        return {f.name: torch.from_numpy(getattr(self, f.name)) for f in fields(self)}

    def __len__(self) -> int:
        """Return the number of entries, E."""
        return len(self.keys)

    @cached_property
    def _maybe(self) -> npt.NDArray[np.bool_]:
        found = np.zeros(_FILTER, np.bool_)
        found[self.keys & (_FILTER - 1)] = True
        return found

    def mix_into(self, log_p: Tensor, hashes: Hashes) -> Tensor:
        """Return the log probabilities of B names ``(B, L)``, corrected in place for those that are
        known, by the ``name_hashes`` of the names, ``(B,)``."""
        keys = keys_of(hashes)
        rows = np.flatnonzero(self._maybe[keys & (_FILTER - 1)])
        first = np.searchsorted(self.keys, keys[rows])
        is_known = self.keys.take(first, mode="clip") == keys[rows]
        rows, first = rows[is_known], first[is_known]
        if not len(rows):
            return log_p
        counts = np.searchsorted(self.keys, keys[rows], "right") - first
        at = np.repeat(np.arange(len(rows)), counts)
        entries = np.arange(len(at)) - np.repeat(np.cumsum(counts) - counts - first, counts)
        shares = np.zeros((len(rows), log_p.shape[1]), np.float32)
        shares[at, self.label_ids[entries]] = self.shares[entries] / np.float32(SCALE)
        rest = torch.from_numpy(np.log1p(-shares.sum(axis=1, keepdims=True))).to(log_p.device)
        known = torch.from_numpy(rows).to(log_p.device)
        listed = torch.from_numpy(shares).to(log_p.device).log()
        log_p[known] = torch.logaddexp(listed, log_p[known] + rest)
        return log_p


def keys_of(hashes: Hashes) -> npt.NDArray[np.int32]:
    """Return the upper half of each of N hashes of ``name_hashes``, int32 ``(N,)``."""
    return (hashes >> 32).astype(np.int32)
