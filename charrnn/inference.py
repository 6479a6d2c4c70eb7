"""Logits for many names, with no step spent on padding, nor twice on what names have in common.

``Engine`` is the fast way; ``CharRNN`` on exact-length batches is the plain one, the reference,
and what runs on a GPU, while training, and for pooling over all states.

The trie. After its first t characters a name's hidden state depends on these characters alone, so
names that begin alike can share their first states. Sorted names have equal prefixes side by side,
and their distinct prefixes of one length are a level of a trie: an array of *nodes*, each with its
last symbol and the number of its parent in the level above. One level is one step of the cell on
as many rows as there are nodes, and only the level above is remembered. The product of a state
with the recurrent weights, most of the work, is made once per node and handed to all children;
with the symbol's projected input added it is what the cell needs. Only proper prefixes are nodes;
a name's last step, whose state no other name continues, is taken beside the nodes of that level.
The other direction of a bidirectional network does the same to the names read from their ends.
``h2o`` is linear, so each direction adds its own share to the logits and sorts as it likes. The
n-grams' sum is a state like the others: a step adds the n-grams that end with its symbol.

Two sizes bound memory: names are sorted, and can share, within a *block*; a sorted block is walked
in *chunks* so small that a level stays in the processor's cache.
"""

from __future__ import annotations

__all__ = ["Engine", "batches", "logits_of"]

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor
from torch.nn import functional as F

from charrnn.errors import StorageError
from charrnn.model import CharRNN, NgramTable
from charrnn.vocabulary import Counts, Encoded, Ids

_BLOCK = 2**18  # names sorted together: more share more, and take more memory
_CHUNK_NAMES = 2**13  # names walked together
_CHUNK_FLOATS = 2**20  # and at most so many numbers as addends to their gates
_PLAIN_NAMES = 2**10  # names of one length in a pass without a trie, on a CPU
_ANSWER_ROWS = 2**14  # rows of logits handed out at a time
_SORTED_SYMBOLS = 24  # names are sorted by about so many characters


class Engine:
    """A network made ready to answer for many names.

    It keeps tables made from the weights: after a change of weights, make a new one. It does not
    change the network, so threads may share it.

    Args:
        network: used as it stands (call ``eval()`` first), on the device where it is.
        batch_size: names in one pass, at most; on a CPU there may be fewer.
    """

    def __init__(self, network: CharRNN, batch_size: int = _CHUNK_NAMES) -> None:
        self.network = network
        self.batch_size = batch_size
        on_cpu = network.h2o.weight.device.type == "cpu"
        self._plain_size = min(batch_size, _PLAIN_NAMES) if on_cpu else batch_size
        plain = type(network) is not CharRNN or network.config.pooling != "last"
        shares = on_cpu and not network.training and not plain
        self._directions = _directions(network) if shares else []

    @torch.inference_mode()
    def logits(
        self, encoded: Encoded, rows: Counts | None = None
    ) -> Iterator[tuple[Counts, Tensor]]:
        """Yield ``(row numbers, logits)``, int64 ``(B,)`` and float ``(B, L)`` on the network's
        device, until each of ``rows`` (all when None) has come once, in any order."""
        chosen = np.arange(len(encoded)) if rows is None else rows
        if not self._directions:
            for batch in batches(encoded.lengths[chosen], self._plain_size):
                yield from self._plain(encoded, chosen[batch])
            return
        readings = [_Reading.of(encoded, d.backward) for d in self._directions]
        for start in range(0, len(chosen), _BLOCK):
            block = chosen[start : start + _BLOCK]
            logits: Tensor = self.network.h2o.bias.repeat(len(block), 1)
            for direction, reading in zip(self._directions, readings, strict=True):
                logits += direction.logits(reading, block, self.batch_size)
            for first in range(0, len(block), _ANSWER_ROWS):
                some = slice(first, first + _ANSWER_ROWS)
                yield block[some], logits[some]

    def _plain(self, encoded: Encoded, rows: Counts) -> Iterator[tuple[Counts, Tensor]]:
        """Yield the answers for names of one length, in smaller batches where the device's memory
        asks for it; the size that fits is kept for the batches to come."""
        step, first = max(1, min(self._plain_size, len(rows))), 0
        while first < len(rows):
            some = rows[first : first + step]
            try:
                logits = self.network(self._ids(encoded, some))
            except torch.OutOfMemoryError:
                if step == 1:
                    raise StorageError(
                        "the device has no memory for a single name; use --device cpu"
                    ) from None
                self._plain_size = step = step // 2
                continue
            yield some, logits
            first += len(some)

    def _ids(self, encoded: Encoded, rows: Counts) -> Tensor:
        """Return the ids of names of one length, uint8 ``(B, T)``, on the network's device."""
        ids, _ = encoded.padded(rows)
        return torch.from_numpy(ids).to(self.network.h2o.weight.device)


def batches(lengths: Counts, batch_size: int) -> Iterator[Counts]:
    """Yield row numbers, int64, in batches of one length and at most ``batch_size`` rows, shortest
    names first; every row appears once."""
    order = np.argsort(lengths, kind="stable")
    edges = np.flatnonzero(np.diff(lengths[order])) + 1
    for start, stop in zip([0, *edges], [*edges, len(order)], strict=True):
        for first in range(start, stop, batch_size):
            yield order[first : min(first + batch_size, stop)]


def logits_of(
    network: CharRNN, encoded: Encoded, batch_size: int = _CHUNK_NAMES
) -> npt.NDArray[np.float32]:
    """Return the logits of N encoded names, float32 ``(N, L)``, in their order.

    The network is used as it stands (call ``eval()`` first) on the device where it is.
    """
    logits = np.empty((len(encoded), network.config.label_count), np.float32)
    for rows, found in Engine(network, batch_size).logits(encoded):
        logits[rows] = found.cpu().numpy()
    return logits


# A step: gate inputs x, (n, X), as in ``_Direction.table``, and the parents' states, (n, S), to
# the states, in the last argument. It leaves x in ruins.
_Step = Callable[[Tensor, Tensor, Tensor], None]


def _rnn_step(x: Tensor, state: Tensor, following: Tensor) -> None:
    torch.tanh(x, out=following)


def _gru_step(x: Tensor, state: Tensor, following: Tensor) -> None:
    H = state.shape[1]
    r, z = x[:, : 2 * H].sigmoid_().chunk(2, dim=1)
    n = x[:, 3 * H :].addcmul_(r, x[:, 2 * H : 3 * H]).tanh_()
    torch.lerp(n, state, z, out=following)  # (1 - z)·n + z·h


def _lstm_step(x: Tensor, state: Tensor, following: Tensor) -> None:
    i, f, g, o = x.chunk(4, dim=1)
    h_t, c_t = following.chunk(2, dim=1)
    torch.mul(f.sigmoid_(), state.chunk(2, dim=1)[1], out=c_t)
    c_t.addcmul_(i.sigmoid_(), g.tanh_())
    torch.mul(o.sigmoid_(), c_t.tanh(), out=h_t)


_STEPS: dict[str, _Step] = {"rnn": _rnn_step, "gru": _gru_step, "lstm": _lstm_step}


@dataclass(frozen=True)
class _Direction:
    """One recurrence of a network, with its weights laid out for the trie.

    Attributes:
        table: ``(V + 1, X)``: what a symbol adds to the gates, both biases included. X is G·H, and
            H more for a GRU: r multiplies the recurrent part of the n gate alone, so its columns
            are r, z, n from the state (of the symbol only the bias) and n from the symbol.
        h2h: ``(H, G·H)``.
        h2o: ``(H, L)``.
        state_size: S, H or (lstm) 2·H.
        ngrams: n-gram weights ``(buckets + 1, L)``, the last row 0; the forward direction's only.
    """

    backward: bool
    step: _Step
    table: Tensor
    h2h: Tensor
    h2o: Tensor
    state_size: int
    ngrams: Tensor | None

    def logits(self, reading: _Reading, rows: Counts, batch_size: int) -> Tensor:
        """Return what this direction adds to the logits of N names, ``(N, L)``."""
        order = reading.sorted(rows)
        found = self.table.new_empty(len(rows), self.h2o.shape[1])
        place = np.empty_like(order)  # where in ``found`` a name's logits are
        size = min(batch_size, max(1, _CHUNK_FLOATS // self.table.shape[1]))
        space = self._space(min(size, len(rows)))
        for first in range(0, len(rows), size):
            chunk = order[first : first + size]
            ids, lengths = reading.columns(rows[chunk])
            buckets = 0 if self.ngrams is None else len(self.ngrams) - 1
            trie = _Trie.of(ids, lengths, len(self.table), buckets)
            place[chunk[trie.names]] = np.arange(first, first + len(chunk))
            self._walk(trie, space, found[first : first + size])
        return found.index_select(0, torch.from_numpy(place))

    def _space(self, size: int) -> list[Tensor]:
        """Return buffers for ``size`` names: addends to the gates, by symbol and below by parent,
        ``(V + 1 + size, X)``; states of two levels and of parents; last hidden states."""
        like, S, H = self.table, self.state_size, len(self.h2o)
        addends = torch.cat((self.table, like.new_zeros(size, self.table.shape[1])))
        return [addends, *(like.new_zeros(size, width) for width in (S, S, S, H))]

    def _walk(self, trie: _Trie, space: list[Tensor], out: Tensor) -> None:
        """Put the logits of B names into ``out``, ``(B, L)``, in the order of ``trie.names``."""
        addends, state, following, parents, last = space
        V1, H = len(self.table), len(self.h2o)
        by_parent = addends[V1:, : self.h2h.shape[1]]
        by_parent[0] = 0  # the root
        state[0] = 0
        sums = None  # (M, L), double: a running sum over a long name would lose digits
        if self.ngrams is not None:
            sums = F.embedding_bag(trie.grams, self.ngrams, mode="sum").double()
        first, done, every_second = 0, 0, torch.arange(0, 2 * len(last), 2)
        above = first  # where the level above begins
        for nodes, ending in zip(trie.nodes, trie.ending, strict=True):
            n = nodes + ending
            pairs = trie.pairs[first : first + n]
            x = torch.embedding_bag(addends, pairs.view(-1), every_second[:n])[0]  # sums, (n, X)
            if self.step is not _rnn_step:  # which sees its parent in x only
                torch.index_select(state, 0, pairs[:, 1] - V1, out=parents[:n])
            self.step(x, parents[:n], following[:n])
            state, following = following, state
            torch.mm(state[:nodes, :H], self.h2h, out=by_parent[:nodes])
            last[done : done + ending] = state[nodes:n, :H]
            if sums is not None and first:
                sums[first : first + n] += sums[above:first].index_select(0, pairs[:, 1] - V1)
            above, first, done = first, first + n, done + ending
        torch.mm(last[:done], self.h2o, out=out)
        if sums is not None:
            out += sums.index_select(0, trie.ends) * trie.scale


@dataclass(frozen=True)
class _Trie:
    """The steps that B sorted names need, level by level: first its nodes (distinct proper
    prefixes), then the last steps of the names that end there.

    Attributes:
        pairs: int64 ``(M, 2)``; each step's symbol and V + 1 + its parent's number in the level
            above: rows of ``addends``.
        nodes: number of nodes of each level.
        ending: number of names that end at each level.
        names: int64 ``(B,)``; the names in the order of their last steps.
        ends: int64 ``(B,)``; the numbers of the last steps.
        grams: int64 ``(M, 4)``; buckets of the 1- to 4-grams that end with each step's symbol.
        scale: float ``(B, 1)``; what the sum of a name's n-grams is multiplied with.
    """

    pairs: Tensor
    nodes: list[int]
    ending: list[int]
    names: Counts
    ends: Tensor
    grams: Tensor
    scale: Tensor

    @classmethod
    def of(cls, ids: Ids, lengths: Counts, offset: int, buckets: int) -> _Trie:
        """Build it for names in columns, as ``_Reading.columns`` gives them; ``offset``: V + 1;
        without ``buckets`` no ``grams``."""
        T, B = ids.shape
        last = (lengths - 1).astype(np.int32)
        inside = np.arange(T, dtype=np.int32)[:, None] < last  # before the last step, (T, B)
        steps = np.empty((T, 2, B), bool)
        nodes, ends = steps[:, 0], steps[:, 1]
        # A name opens a node where it leaves the path of the name before it, or that one stops.
        leaves = ids[:, 1:] != ids[:, :-1]
        leaves |= ~inside[:, :-1]
        for t in range(1, T):
            leaves[t] |= leaves[t - 1]
        nodes[:, 0], nodes[:, 1:] = True, leaves
        nodes &= inside
        ends[:] = False
        ends[last, np.arange(B)] = True
        node = np.ones((T + 1, B), np.int32)  # of each name at each level, from 1; the root is 1
        nodes.cumsum(axis=1, dtype=np.int32, out=node[1:])
        at = np.flatnonzero(steps)
        ended = np.flatnonzero(at // B & 1)
        level, name = at // (2 * B), at % B
        at = level * B + name
        pairs = np.empty((len(at), 2), np.int64)
        pairs[:, 0] = ids.reshape(-1)[at]
        pairs[:, 1] = node.reshape(-1)[at]
        pairs[:, 1] += offset - 1
        names = np.argsort(last, kind="stable")
        grams = _buckets(ids, level, at, buckets) if buckets else pairs[:0]
        return cls(
            pairs=torch.from_numpy(pairs),
            nodes=nodes.sum(axis=1).tolist(),
            ending=np.bincount(last, minlength=T).tolist(),
            names=names,
            ends=torch.from_numpy(ended),
            grams=torch.from_numpy(grams),
            scale=torch.from_numpy(_scale(lengths[names])),
        )


def _buckets(ids: Ids, level: Counts, at: Counts, buckets: int) -> Counts:
    """Return the buckets of the n-grams that end at places ``at`` of ``ids``, ``(M, 4)``, hashed as
    ``NgramTable`` does; ``buckets``, a row of zeros, for one that would begin before the name."""
    B = ids.shape[1]
    flat = np.concatenate((np.zeros(3 * B, np.uint8), ids.reshape(-1)))
    found = np.empty((len(at), len(NgramTable.ORDERS)), np.int64)
    code = np.zeros(len(at), np.int64)
    for n in NgramTable.ORDERS:
        code |= flat[at + (4 - n) * B].astype(np.int64) << 8 * (n - 1)
        key = (code | n << 8 * n) * NgramTable._MULTIPLIER  # wraps around
        found[:, n - 1] = (key >> 40) & (buckets - 1)
    for n in NgramTable.ORDERS[1:]:
        found[: np.searchsorted(level, n - 1), n - 1] = buckets
    return found


def _scale(lengths: Counts) -> npt.NDArray[np.float32]:
    """Return what ``NgramTable`` multiplies the sum of a name's n-grams with, ``(B, 1)``."""
    count = sum(np.maximum(lengths - n + 1, 0) for n in NgramTable.ORDERS)
    return (NgramTable._SCALE / np.sqrt(count)).astype(np.float32)[:, None]


@dataclass(frozen=True)
class _Reading:
    """N names as one direction reads them: turned around or not, and with their boundaries.

    Attributes:
        flat, starts, lengths: as in ``Encoded``, with ids of 0 behind ``flat``, so that a slice
            that begins at a name never runs off the end.
        edges: the first and last id of every name, or None where there are no boundaries.
        bits: that hold an id.
    """

    flat: Ids
    starts: Counts
    lengths: Counts
    edges: tuple[int, int] | None
    bits: int

    @classmethod
    def of(cls, encoded: Encoded, backward: bool) -> _Reading:
        """Lay out all names of ``encoded``."""
        vocabulary, flat, starts = encoded.vocabulary, encoded.flat, encoded.starts
        edges = (vocabulary.begin, vocabulary.end)
        if backward:
            flat, edges = flat[::-1], edges[::-1]
            starts = len(flat) - starts - encoded.lengths
        behind = int(encoded.lengths.max(initial=0)) + 2 * _SORTED_SYMBOLS
        return cls(
            flat=np.concatenate((flat, np.zeros(behind, np.uint8))),
            starts=starts,
            lengths=encoded.lengths,
            edges=edges if vocabulary.boundaries else None,
            bits=len(vocabulary.symbols).bit_length(),
        )

    def slices(self, rows: Counts, start: int, width: int) -> Ids:
        """Return names' ids from number ``start`` on, ``PAD`` behind them, uint8 ``(B, width)``."""
        begin = self.starts[rows] + np.minimum(start, self.lengths[rows])
        left = (self.lengths[rows] - start).astype(np.int32)
        ids = sliding_window_view(self.flat, width)[begin]
        ids *= np.arange(width, dtype=np.int32) < left[:, None]
        return ids

    def columns(self, rows: Counts) -> tuple[Ids, Counts]:
        """Return ``(ids, lengths)`` as ``Encoded.padded`` does, but with a name in each column,
        ``(T, B)``. An empty name without boundaries is one step of padding."""
        lengths = self.lengths[rows]
        longest = int(lengths.max(initial=0))
        if self.edges is None:
            return self.slices(rows, 0, max(1, longest)).T.copy(), np.maximum(lengths, 1)
        ids = np.zeros((longest + 2, len(rows)), np.uint8)
        ids[0] = self.edges[0]
        ids[1:-1] = self.slices(rows, 0, longest).T
        ids[lengths + 1, np.arange(len(rows))] = self.edges[1]
        return ids, lengths + 2

    def sorted(self, rows: Counts) -> Counts:
        """Return the order that sorts N names by their first characters: a few at a time, packed
        into a key, and only names still tied go on to the next few. What is left unsorted in the
        end is shared less, and not wrong."""
        K = (63 - len(rows).bit_length()) // self.bits  # characters in a key
        order = np.arange(len(rows))
        at, group = order.copy(), np.zeros(len(rows), np.int64)  # tied names: where, with whom
        for start in range(0, _SORTED_SYMBOLS, K):
            key = group
            for ids in self.slices(rows[order[at]], start, K).T:
                key = (key << self.bits) | ids
            by = np.argsort(key)
            order[at], key = order[at[by]], key[by]
            opens = np.diff(key, prepend=-1) != 0
            tied = ~opens | ~np.append(opens[1:], True)
            tied &= key & (2**self.bits - 1) > 0  # the others have ended
            at, group = at[tied], opens.cumsum()[tied] - 1
        return order


def _directions(network: CharRNN) -> list[_Direction]:
    """Lay out a network's weights; two directions divide the columns of ``h2o``."""
    H, kind = network.config.hidden_size, network.config.cell
    found = []
    for i, rnn in enumerate((network.forward_rnn, network.backward_rnn)):
        if rnn is None:
            continue
        with torch.inference_mode():
            x2h, h2h = rnn.cell.x2h, rnn.cell.h2h
            if network.embedding is not None:
                table = x2h(network.embedding.weight)  # (V + 1, G·H)
            else:
                table = F.pad(x2h.weight.T, (0, 0, 1, 0)) + x2h.bias
            if kind == "gru":
                rz, n = table.split((2 * H, H), dim=1)
                table = torch.cat((rz, torch.zeros_like(n), n), dim=1)
            table = table + F.pad(h2h.bias, (0, table.shape[1] - len(h2h.bias)))
            h2o = network.h2o.weight[:, i * H : (i + 1) * H].T.contiguous()
            weight = h2h.weight.T.contiguous()
            ngrams = None
            if network.ngrams is not None and i == 0:
                ngrams = F.pad(network.ngrams.weight, (0, 0, 0, 1))
        size = rnn.cell.states * H
        found.append(_Direction(bool(i), _STEPS[kind], table, weight, h2o, size, ngrams))
    return found
