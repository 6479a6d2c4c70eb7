"""Logits for many names, with no step spent on padding, nor twice on what names have in common.

``Engine`` is the fast way; ``CharRNN`` on exact-length batches is the plain one, the reference,
and what runs on a GPU, while training, for pooling over all states and for very long names.

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

Three sizes bound memory and keep what is at hand in the processor's cache: names are sorted, and
can share, within a *block*; a sorted block is walked in *chunks*; a level is walked in *slices*.
"""

from __future__ import annotations

__all__ = ["Engine", "logits_of"]

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from charrnn.errors import StorageError
from charrnn.model.network import CharRNN, NgramTable
from charrnn.model.vocabulary import Counts, Encoded, Ids, batches, load_u64

_BLOCK = 2**20  # names sorted together: more share more, and take more memory,
_BLOCK_FLOATS = 2**25  # at most so many numbers as logits
_CHUNK_NAMES = 2**14  # names walked together,
_CHUNK_FLOATS = 2**21  # at most so many numbers as addends to their gates,
_CHUNK_SYMBOLS = 2**18  # and about so many symbols,
_CHUNK_SUMS = 2**23  # whose n-grams have about so many logits, at most
_SLICE = 2**10  # steps of the cell in one go
_PLAIN_NAMES = 2**10  # names of one length in a pass without a trie, on a CPU
_LONGEST_SHARED = 2**8  # characters: longer names are answered by themselves
_ANSWER_ROWS = 2**14  # rows of logits handed out at a time
_SORTED_SYMBOLS = 24  # names are sorted by about so many characters


class Engine:
    """A network made ready to answer for many names.

    It keeps tables made from the weights: after a change of weights, make a new one. It does not
    change the network, so threads may share it.

    Args:
        network: used as it stands (call ``eval()`` first), on the device where it is.
        batch_size: names in one pass, at most; on a CPU there may be fewer.
        check: called before every pass; what it raises ends the work.
    """

    def __init__(
        self,
        network: CharRNN,
        batch_size: int = _CHUNK_NAMES,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.network = network
        self.batch_size = batch_size
        self.check = check
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
        alone = encoded.lengths[chosen] > (_LONGEST_SHARED if self._directions else -1)
        apart, chosen = chosen[alone], chosen[~alone]
        for batch in batches(encoded.lengths[apart], self._plain_size):
            yield from self._plain(encoded, apart[batch])
        readings = [_PrefixInput.of(encoded, d.backward) for d in self._directions]
        size = max(1, min(_BLOCK, _BLOCK_FLOATS // self.network.config.label_count))
        for start in range(0, len(chosen), size):
            block = chosen[start : start + size]
            logits: Tensor = self.network.h2o.bias.repeat(len(block), 1)
            for direction, reading in zip(self._directions, readings, strict=True):
                direction.add_logits(logits, reading, block, self.batch_size, self.check)
            for first in range(0, len(block), _ANSWER_ROWS):
                some = slice(first, first + _ANSWER_ROWS)
                yield block[some], logits[some]

    def _plain(self, encoded: Encoded, rows: Counts) -> Iterator[tuple[Counts, Tensor]]:
        """Yield the answers for names of one length, in smaller batches where the device's memory
        asks for it; the size that fits is kept for the batches to come."""
        longer = max(1, int(encoded.lengths[rows[0]]) // _LONGEST_SHARED)  # than is usual
        step, first = max(1, min(self._plain_size // longer, len(rows))), 0
        while first < len(rows):
            some = rows[first : first + step]
            self.check()
            try:
                logits = self.network(self._ids(encoded, some))
            except torch.OutOfMemoryError:
                if step == 1:
                    raise StorageError(
                        "the device has no memory for a single name; use --device cpu"
                    ) from None
                step //= 2
                self._plain_size = step * longer
                continue
            yield some, logits
            first += len(some)

    def _ids(self, encoded: Encoded, rows: Counts) -> Tensor:
        """Return the ids of names of one length, uint8 ``(B, T)``, on the network's device."""
        ids = torch.from_numpy(encoded.padded(rows)[0])
        device = self.network.h2o.weight.device
        if device.type == "cpu":
            return ids
        return ids.pin_memory().to(device, non_blocking=True)  # while it works on the last batch


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
        ngrams: n-gram weights ``(buckets, L)``; the forward direction's only.
    """

    backward: bool
    step: _Step
    table: Tensor
    h2h: Tensor
    h2o: Tensor
    state_size: int
    ngrams: Tensor | None

    @property
    def remembers(self) -> bool:
        """Whether a step needs the parent's state itself, and not its product alone."""
        return self.step is not _rnn_step

    def add_logits(
        self,
        logits: Tensor,
        reading: _PrefixInput,
        rows: Counts,
        batch_size: int,
        check: Callable[[], None],
    ) -> None:
        """Add to the logits of N names, ``(N, L)``, what this direction has to say."""
        order = reading.sorted(rows)
        mean = 2 + int(reading.lengths[rows].mean())  # symbols in a name
        symbols = min(_CHUNK_SYMBOLS, _CHUNK_SUMS // logits.shape[1])
        limits = (batch_size, _CHUNK_FLOATS // self.table.shape[1], symbols // mean)
        size = min(max(1, min(limits)), len(rows))
        space = _Workspace.of(self, size)
        for first in range(0, len(rows), size):
            check()
            chunk = order[first : first + size]
            trie = _Trie.of(*reading.columns(rows[chunk]))
            found = self._walk(trie, space)
            if self.ngrams is not None:
                found += _ngram_logits(trie, self.ngrams)
            logits.index_add_(0, torch.from_numpy(chunk[trie.names]), found)

    def _walk(self, trie: _Trie, space: _Workspace) -> Tensor:
        """Return the recurrence's logits of B names, ``(B, L)``, in the order of ``trie.names``."""
        V1, H, size = len(self.table), len(self.h2o), space.size
        space.addends[V1 + size] = 0  # the root is what lies above level 0
        space.states[1][0] = 0
        rows = torch.from_numpy(trie.pairs(V1, size)).view(-1)

        def take(first: int, out: Tensor) -> None:
            """Take the steps from number ``first`` on, all of level t, into ``out``, ``(n, S)``."""
            pairs = rows[2 * first : 2 * (first + len(out))]
            x = torch.embedding_bag(space.addends, pairs, space.pairs[: len(out)])[0]  # (n, X)
            parents = space.parents[: len(out)]
            if self.remembers:
                above = pairs[1::2] - (V1 + (t + 1) % 2 * size)
                torch.index_select(space.states[t % 2 - 1], 0, above, out=parents)
            self.step(x, parents, out)

        node, end, done = 0, sum(trie.nodes), 0
        for t, (nodes, ending) in enumerate(zip(trie.nodes, trie.ending, strict=True)):
            below = space.addends[V1 + t % 2 * size :, : self.h2h.shape[1]]
            for start, stop in _slices(nodes):
                own = slice(start, stop) if self.remembers else slice(0, stop - start)
                states = space.states[t % 2][own]
                take(node + start, states)
                torch.mm(states[:, :H], self.h2h, out=below[start:stop])
            for start, stop in _slices(ending):
                take(end + start, space.last[done + start : done + stop])
            node, end, done = node + nodes, end + ending, done + ending
        return torch.mm(space.last[:done, :H], self.h2o)


def _slices(count: int) -> Iterator[tuple[int, int]]:
    """Yield ``(start, stop)`` of slices of ``_SLICE``."""
    for start in range(0, count, _SLICE):
        yield start, min(start + _SLICE, count)


def _ngram_logits(trie: _Trie, weights: Tensor) -> Tensor:
    """Return the n-grams' logits of B names, ``(B, L)``, in the order of ``trie.names``."""
    parents = torch.from_numpy(trie.parents)
    # Of a step's own n-grams first, (M, L); then added up along the way, in double precision: a
    # running sum over a long name would lose digits.
    sums = torch.cat([
        F.embedding_bag(torch.from_numpy(buckets), weights, mode="sum")
        for buckets in trie.buckets(len(weights))
    ]).double()  # fmt: skip
    ends, edges = sum(trie.nodes), np.cumsum(trie.nodes).tolist()
    deeper = ends + trie.ending[0]  # the first last step with a node above
    for first, stop in [*pairwise(edges), (deeper, len(sums))]:
        sums[first:stop] += sums.index_select(0, parents[first:stop])
    lengths = trie.lengths[trie.names]
    count = sum(np.maximum(lengths - n + 1, 0) for n in NgramTable.ORDERS)
    scale = torch.from_numpy(NgramTable.SCALE / np.sqrt(count))
    return (sums[ends:] * scale[:, None]).to(weights.dtype)


@dataclass(frozen=True)
class _Workspace:
    """Buffers for the walk through tries of at most ``size`` names.

    Attributes:
        addends: ``(V + 1 + 2·size, X)``: what is summed up for the gates; a row for every symbol,
            then one for every node of a level, levels taking turns.
        states: of a level's nodes, ``(size, S)`` or, where nobody asks for them again, of a
            slice, ``(_SLICE, S)``; twice, for levels to take turns.
        parents: ``(_SLICE, S)``.
        last: ``(size, S)``; the states in which names end.
        pairs: int64; 0, 2, 4, …: where in a flat array pairs begin.
    """

    size: int
    addends: Tensor
    states: tuple[Tensor, Tensor]
    parents: Tensor
    last: Tensor
    pairs: Tensor

    @classmethod
    def of(cls, direction: _Direction, size: int) -> _Workspace:
        """Return buffers that suit a direction."""
        table, S = direction.table, direction.state_size
        addends = table.new_empty(len(table) + 2 * size, table.shape[1])
        addends[: len(table)] = table
        addends[len(table) :, direction.h2h.shape[1] :] = 0  # a parent has no say there
        kept = size if direction.remembers else _SLICE
        return cls(
            size=size,
            addends=addends,
            states=(table.new_empty(kept, S), table.new_empty(kept, S)),
            parents=table.new_empty(_SLICE, S),
            last=table.new_empty(size, S),
            pairs=torch.arange(0, 2 * _SLICE, 2),
        )


@dataclass(frozen=True)
class _Trie:
    """The M steps that B sorted names need: first all nodes, level by level, then the last step of
    every name, level by level.

    Attributes:
        ids: uint8 ``(T, B)``; a name in every column, ``PAD`` below it.
        lengths: int64 ``(B,)``.
        nodes: number of nodes of each of the T levels.
        ending: number of names that end at each level.
        cells: int64 ``(M,)``; where a step's symbol is in ``ids``, counted row by row.
        parents: int64 ``(M,)``; the number of the node above, 0 at the first level.
    """

    ids: Ids
    lengths: Counts
    nodes: list[int]
    ending: list[int]
    cells: Counts
    parents: Counts

    @classmethod
    def of(cls, ids: Ids, lengths: Counts) -> _Trie:
        """Build it for names in columns, as ``_PrefixInput.columns`` gives them."""
        T, B = ids.shape
        last = lengths - 1
        # A name shares the nodes of the name before it as far as the two agree; the steps from
        # there to its end are its own.
        begin = np.append(0, np.minimum(_agreeing(ids), last[:-1]))
        np.minimum(begin, last, out=begin)
        own = last - begin + 1
        after = np.cumsum(own)
        M = int(after[-1])
        level = np.arange(M) - np.repeat(after - own - begin, own)  # of all steps, name by name
        order = np.argsort(level.astype(np.min_scalar_type(T)), kind="stable")  # level by level
        first, ends = np.zeros((2, M), bool)
        first[after - own] = ends[after - 1] = True
        first, ends = first[order], ends[order]
        # A step's parent is its name's step before; for a name's first own step it is the parent
        # of the step that comes before it in the level, since up to there the names agree.
        number = np.empty(M, np.int64)
        number[order] = np.cumsum(~ends) - 1
        parents = number[order - 1]
        parents[first] = 0
        np.maximum.accumulate(parents, out=parents)
        steps = np.concatenate((np.flatnonzero(~ends), np.flatnonzero(ends)))
        cells = level * B + np.repeat(np.arange(B), own)
        ending = np.bincount(last, minlength=T)
        return cls(
            ids=ids,
            lengths=lengths,
            nodes=(np.bincount(level, minlength=T) - ending).tolist(),
            ending=ending.tolist(),
            cells=cells[order[steps]],
            parents=parents[steps],
        )

    @property
    def names(self) -> Counts:
        """The names in the order of their last steps, int64 ``(B,)``."""
        B = len(self.lengths)
        return self.cells[-B:] % B

    def pairs(self, offset: int, size: int) -> Counts:
        """Return the rows of ``_Workspace.addends`` that each step sums, int64 ``(M, 2)``: its
        symbol's, and its parent's behind the ``offset`` rows of symbols."""
        T = len(self.nodes)
        above = np.arange(1, T + 1) % 2 * size  # where the level above was put
        shift = offset + above - np.cumsum([0, 0, *self.nodes])[:T]
        pairs = np.empty((len(self.cells), 2), np.int64)
        pairs[:, 0] = self.ids.reshape(-1)[self.cells]
        levels = np.concatenate((np.repeat(shift, self.nodes), np.repeat(shift, self.ending)))
        np.add(self.parents, levels, out=pairs[:, 1])
        return pairs

    def buckets(self, count: int) -> Iterator[Counts]:
        """Yield the buckets, of ``count``, of the n-grams that end with each step's symbol, int64
        ``(m, n)``: for some steps after the other, n being as many as there are in a name by
        then."""
        orders, B = NgramTable.ORDERS, len(self.lengths)  # 1, 2, … up to the longest
        first_levels = len(orders) - 1  # where some n-grams would begin before the name
        before = first_levels * B
        flat = np.concatenate((np.zeros(before, np.uint8), self.ids.reshape(-1)))
        found = np.empty((len(self.cells), len(orders)), np.int64)
        code = np.zeros(len(self.cells), np.int64)
        for n in orders:
            code |= flat[self.cells + (before - (n - 1) * B)].astype(np.int64) << 8 * (n - 1)
            found[:, n - 1] = NgramTable.bucket(code, n, count)
        start = 0
        for levels in (self.nodes, self.ending):
            for t, steps in enumerate(levels[:first_levels]):
                yield np.ascontiguousarray(found[start : start + steps, : t + 1])
                start += steps
            deeper = sum(levels[first_levels:])
            yield found[start : start + deeper]
            start += deeper


def _agreeing(ids: Ids) -> Counts:
    """Return with how many of its first symbols each name but the first agrees with the name
    before it, for names in columns, ``(T, B)``."""
    T, B = ids.shape
    agree = np.ones(B - 1, bool)
    shared = np.zeros(B - 1, np.min_scalar_type(T))
    for t in range(T):
        agree &= ids[t, 1:] == ids[t, :-1]
        if not agree.any():
            break
        shared += agree
    return shared.astype(np.int64)


@dataclass(frozen=True)
class _PrefixInput:
    """N names as one direction reads them: turned around or not, and with their boundaries.

    Attributes:
        flat, starts, lengths: as in ``Encoded``.
        edges: the first and last id of every name, or None where there are no boundaries.
        bits: that hold an id.
    """

    flat: Ids
    starts: Counts
    lengths: Counts
    edges: tuple[int, int] | None
    bits: int

    @classmethod
    def of(cls, encoded: Encoded, backward: bool) -> _PrefixInput:
        """Lay out all names of ``encoded``."""
        vocabulary, flat, starts = encoded.vocabulary, encoded.flat, encoded.starts
        edges = (vocabulary.begin, vocabulary.end)
        if backward:
            flat, edges = flat[::-1], edges[::-1]
            starts = len(flat) - starts - encoded.lengths
        return cls(
            flat=np.concatenate((flat, np.zeros(8, np.uint8))),
            starts=starts,
            lengths=encoded.lengths,
            edges=edges if vocabulary.boundaries else None,
            bits=len(vocabulary.symbols).bit_length(),
        )

    def columns(self, rows: Counts) -> tuple[Ids, Counts]:
        """Return ``(ids, lengths)`` as ``Encoded.padded`` does, but with a name in each column,
        ``(T, B)``. An empty name without boundaries is one step of padding."""
        starts, lengths = self.starts[rows], self.lengths[rows]
        longest = int(lengths.max())
        marks = 0 if self.edges is None else 1
        ids = np.zeros((max(1, longest + 2 * marks), len(rows)), np.uint8)
        short = lengths.astype(np.min_scalar_type(longest))
        for t in range(longest):
            row = ids[t + marks]
            self.flat.take(starts + t, out=row, mode="clip")
            row *= short > t
        if self.edges is None:
            return ids, np.maximum(lengths, 1)
        ids[0] = self.edges[0]
        ids[lengths + 1, np.arange(len(rows))] = self.edges[1]
        return ids, lengths + 2

    def sorted(self, rows: Counts) -> Counts:
        """Return the order that sorts N names by their first characters: a few at a time, packed
        into a key, and only names still tied go on to the next few. What is left unsorted in the
        end is shared less, and not wrong."""
        order = np.arange(len(rows))
        tied, group = order.copy(), np.zeros(len(rows), np.uint64)  # tied: where, and with whom
        start = 0
        while start < _SORTED_SYMBOLS and len(tied):
            # A key is group, symbols, number: to sort it is to sort numbers along.
            number_bits, group_bits = (int(n).bit_length() for n in (len(tied), group[-1]))
            K = min(8, (64 - number_bits - group_bits) // self.bits)
            symbols = self._packed(rows[order[tied]], start) >> ((8 - K) * self.bits)
            key = group << K * self.bits | symbols
            key = key << number_bits | np.arange(len(tied), dtype=np.uint64)
            key.sort()
            by = (key & (2**number_bits - 1)).astype(np.int64)
            order[tied] = order[tied[by]]
            key >>= number_bits
            equal = key[1:] == key[:-1]
            stay = np.append(equal, False)
            stay[1:] |= equal
            stay &= key & (2**self.bits - 1) > 0  # the others have ended
            group = np.cumsum(np.append(True, ~equal)[stay]).astype(np.uint64)
            tied, start = tied[stay], start + K
        return order

    def _packed(self, rows: Counts, start: int) -> npt.NDArray[np.uint64]:
        """Return names' eight ids from number ``start`` on, each in ``bits`` bits, the first one
        uppermost, 0 behind a name's end; uint64 ``(B,)``."""
        lengths = self.lengths[rows]
        at = self.starts[rows] + np.minimum(start, lengths)
        found = load_u64(self.flat, at, lengths - start).byteswap()
        for lane in (8, 16, 32):  # of two lanes side by side make one, twice as wide
            gap = np.uint64(lane - self.bits * lane // 8)
            right = found & np.uint64(_repeated((1 << lane) - 1, 2 * lane))
            found = (found ^ right) >> gap | right
        return found


def _repeated(bits: int, width: int) -> int:
    """Return a 64-bit number that repeats ``bits`` every ``width`` bits."""
    return sum(bits << shift for shift in range(0, 64, width))


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
                ngrams = network.ngrams.weight.detach()
        size = rnn.cell.states * H
        found.append(_Direction(bool(i), _STEPS[kind], table, weight, h2o, size, ngrams))
    return found
