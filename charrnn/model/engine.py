"""Batched inference without padding; shared prefixes are computed once.

``Engine`` has two paths. The *plain* path runs ``CharRNN`` on batches of names of equal length; it
is the reference. The *trie* path is for networks in ``eval`` mode on a CPU. Names over
``_LONGEST_SHARED`` take the plain path.

The state after t characters depends on these alone, so names with a common prefix, adjacent once
sorted, share their first states. The distinct proper prefixes of one length are a level of a trie:
an array of *nodes*, each with its last symbol and the number of its parent in the level above. One
level is one step of the recurrence with a row per node, and only the level above is kept. The
product of a state with ``h2h``, most of the work, is computed once per node and read by all of its
children. A name's *final step* has no children, so it is computed after the nodes of its level and
its state is not multiplied. Each step adds the logits of the n-grams that end with its symbol.
Where it is faster on the processor, ``tanh(z)`` is computed as ``2 sigmoid(2z) - 1``.

Three sizes bound memory and keep the working set in the processor's cache: names are sorted, and
share prefixes, within a *block*; each *chunk* of a sorted block has a trie; a level is computed in
*slices*.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from charrnn.errors import StorageError
from charrnn.model.network import CharRNN, NgramTable
from charrnn.model.vocabulary import Counts, Encoded, Ids, batches, load_u64

_BLOCK = 2**20  # names per block, at most: larger blocks share more prefixes, and take more memory
_CHUNK_NAMES = 2**14  # names per chunk, at most: fewer share less, more leave the cache
_CHUNK_FLOATS = 2**21  # names per chunk x hidden size, at most: 8 MiB of addends per level
_CHUNK_SYMBOLS = 2**18  # symbols per chunk, about: bounds the arrays of the trie
_CHUNK_SUMS = 2**22  # symbols per chunk x width of the table, about: 32 MiB of n-gram sums
_SLICE = 2**10  # rows per call of tanh and matrix product: their buffers stay in the cache
_PLAIN_NAMES = 2**10  # names per batch of the plain path on a CPU, at most: likewise
_LONGEST_SHARED = 2**8  # characters: longer names would make the trie's arrays too tall
_MINUS_ONE = torch.tensor(-1.0)
_MOST_GROUPS = 8  # of labels that are looked at for a name, at most: bounds the time of a name
_SORTED_SYMBOLS = 32  # names are sorted by so many characters; the rest rarely differ alone


class Engine:
    """Computes the logits of many names with one network.

    The network is not modified, and threads may share an engine. It holds tables computed from the
    weights: after a change of weights, create a new engine.

    Args:
        network: used as it is (call ``eval()`` first), on its device.
        batch_size: names per batch, at most; on a CPU batches may be smaller.
        check: called before every batch with the number of its names; an exception it raises ends
            the iteration.
        by_sigmoid: whether ``tanh`` is computed by sigmoid; None: where that is faster.
    """

    def __init__(
        self,
        network: CharRNN,
        batch_size: int = _CHUNK_NAMES,
        check: Callable[[int], None] = lambda names: None,
        by_sigmoid: bool | None = None,
    ) -> None:
        self.network = network
        self.batch_size = batch_size
        self.check = check
        on_cpu = network.h2o.weight.device.type == "cpu"
        self._plain_size = min(batch_size, _PLAIN_NAMES) if on_cpu else batch_size
        self._recurrence: _Recurrence | None = None
        # A subclass may override forward.
        if on_cpu and type(network) is CharRNN and not network.training:
            by_sigmoid = sigmoid_is_faster() if by_sigmoid is None else by_sigmoid
            self._recurrence = _Recurrence(network, by_sigmoid)

    @torch.inference_mode()
    def logits(
        self, encoded: Encoded, rows: Counts | None = None
    ) -> Iterator[tuple[Counts, Tensor]]:
        """Yield ``(row numbers, logits)``, int64 ``(B,)`` and float ``(B, L)`` on the network's
        device, until each of ``rows`` (all when None) was yielded once; in no particular order.

        Raises:
            StorageError: the device has no memory for a batch of one name.
        """
        plain_rows, trie_rows = self._by_path(encoded, rows)
        for batch in batches(encoded.lengths[plain_rows], self._plain_size):
            yield from self._plain(encoded, plain_rows[batch])
        if self._recurrence is None:
            return
        chunks = self._recurrence.chunks(encoded, trie_rows, self.batch_size, self.check)
        for some, states, sums in chunks:
            yield some, self._recurrence.logits(states, sums)

    def _by_path(self, encoded: Encoded, rows: Counts | None) -> tuple[Counts, Counts]:
        """Return which of the chosen names take the plain path, and which the trie."""
        chosen = np.arange(len(encoded)) if rows is None else rows
        by_trie = encoded.lengths[chosen] <= (_LONGEST_SHARED if self._recurrence else -1)
        return chosen[~by_trie], chosen[by_trie]

    def ranks(self, k: int, *, prior: bool = False) -> bool:
        """Whether ``ranked`` gives so many labels: where the trie suits a network with groups of
        labels, all of whose outputs are labels, and there is no prior."""
        config = self.network.config
        many = self._recurrence is not None and config.label_groups > 0 and not config.none_output
        return many and not prior and k <= config.group_size

    @torch.inference_mode()
    def ranked(
        self,
        encoded: Encoded,
        rows: Counts,
        k: int,
        temperature: float = 1.0,
        prior: Tensor | None = None,
    ) -> list[npt.NDArray[Any]]:
        """Return the ``k`` most probable labels of N names, in the order of ``rows``, and their
        probabilities, int64 and float32 ``(N, k)``: those of all logits, of which most are not
        computed. A group's labels are looked at where the group is more probable than the k-th
        label found so far, which bounds what is left out, and among the ``_MOST_GROUPS`` most
        probable: a label of another group, of which each has less than 1 / ``_MOST_GROUPS``, is not
        found, and the probabilities of those that are found are exact.

        Args:
            k: how many, which ``ranks`` allows.
            temperature: 1: that of networks with groups of labels is in their weights.
            prior: None, as for ``ranks``.
        """
        assert temperature == 1
        assert prior is None
        assert self._recurrence is not None
        assert self._recurrence.groups is not None
        size = (len(encoded), k)
        ids, values = np.empty(size, np.int64), np.empty(size, np.float32)
        plain_rows, trie_rows = self._by_path(encoded, rows)
        for batch in batches(encoded.lengths[plain_rows], self._plain_size):
            for some, logits in self._plain(encoded, plain_rows[batch]):
                values[some], ids[some] = logits.softmax(dim=1).topk(k)
        chunks = self._recurrence.chunks(encoded, trie_rows, self.batch_size, self.check)
        for some, states, sums in chunks:
            values[some], ids[some] = self._recurrence.groups.ranked(states, sums, k)
        return [ids[rows], values[rows]]

    def _plain(self, encoded: Encoded, rows: Counts) -> Iterator[tuple[Counts, Tensor]]:
        """Yield the logits of names of equal length. A batch that exceeds the device's memory is
        halved; later batches start with the size that fitted."""
        longer = max(1, int(encoded.lengths[rows[0]]) // _LONGEST_SHARED)  # x usual length
        size, first = max(1, min(self._plain_size // longer, len(rows))), 0
        while first < len(rows):
            batch = rows[first : first + size]
            self.check(len(batch))
            try:
                logits = self.network(self._ids(encoded, batch))
            except torch.OutOfMemoryError:
                if size == 1:
                    device = self.network.h2o.weight.device
                    raise StorageError(
                        f"device {device} has no memory for a single name; use the device cpu",
                        option="device",
                    ) from None
                size //= 2
                self._plain_size = size * longer
                continue
            yield batch, logits
            first += len(batch)

    def _ids(self, encoded: Encoded, rows: Counts) -> Tensor:
        """Return the ids of names of equal length, uint8 ``(B, T)``, on the network's device."""
        ids = torch.from_numpy(encoded.padded(rows)[0])
        device = self.network.h2o.weight.device
        if device.type == "cpu":
            return ids
        return ids.pin_memory().to(device, non_blocking=True)  # overlaps with the batch before


def logits_of(
    network: CharRNN, encoded: Encoded, batch_size: int = _CHUNK_NAMES
) -> npt.NDArray[np.float32]:
    """Return the logits of N encoded names, float32 ``(N, L)``, in their order.

    The network is used as it is (call ``eval()`` first), on its device. ``tanh`` is torch's, so
    that a training gives the same bits on any processor.
    """
    logits = np.empty((len(encoded), network.config.outputs), np.float32)
    for rows, part in Engine(network, batch_size, by_sigmoid=False).logits(encoded):
        logits[rows] = part.cpu().numpy()
    return logits


class _Recurrence:
    """The weights of a network, laid out for the trie; bias and n-gram weights are not copied."""

    @torch.inference_mode()
    def __init__(self, network: CharRNN, by_sigmoid: bool) -> None:
        cell = network.forward_rnn.cell
        self.by_sigmoid = by_sigmoid
        factor = 2.0 if self.by_sigmoid else 1.0  # of sigmoid's argument; a power of two: exact
        # The addend to h2h(h) per symbol, both biases included, (V + 1, H).
        self.table = factor * (network.projected_symbols() + cell.h2h.bias)
        self.h2h = factor * cell.h2h.weight.T.contiguous()  # (H, H)
        self.h2o = network.h2o.weight.T.contiguous()  # (H, L)
        self.bias = network.h2o.bias.detach()  # (L,)
        self.ngrams = None if network.ngrams is None else network.ngrams.weight.detach()
        self.n2o = None if network.n2o is None else network.n2o.weight.T.contiguous()  # (R, L)
        self.network = network
        self.groups = _Groups(network) if network.config.label_groups else None

    def chunks(
        self, encoded: Encoded, rows: Counts, batch_size: int, check: Callable[[int], None]
    ) -> Iterator[tuple[Counts, Tensor, Tensor | None]]:
        """Yield row numbers, ``(B,)``, the last states of these names, ``(B, H)``, which the next
        step overwrites, and the sums of their n-grams, ``(B, K)`` or ``(B, R)``, None without."""
        width = self.h2o.shape[1] if self.ngrams is None else self.ngrams.shape[1]
        symbols = min(_CHUNK_SYMBOLS, _CHUNK_SUMS // width)
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK]
            block = block[_sort_order(encoded, block)]
            mean = 2 + int(encoded.lengths[block].mean())  # symbols in a name
            limits = (batch_size, _CHUNK_FLOATS // self.table.shape[1], symbols // mean)
            size = min(max(1, min(limits)), len(block))
            workspace = _Workspace(self.table, size)
            for first in range(0, len(block), size):
                chunk = block[first : first + size]
                check(len(chunk))
                trie = _Trie(encoded, chunk)
                states = self._walk(trie, workspace)
                sums = None if self.ngrams is None else _ngram_sums(trie, self.ngrams)
                yield chunk[trie.names], states, sums

    def logits(self, states: Tensor, sums: Tensor | None) -> Tensor:
        """Return the logits, ``(B, L)``, of names with such last states and sums of n-grams."""
        logits = torch.mm(states, self.h2o)
        if sums is not None:
            logits += sums if self.n2o is None else torch.mm(sums, self.n2o)
        logits += self.bias
        return self.network.label_logits(logits)

    def _walk(self, trie: _Trie, workspace: _Workspace) -> Tensor:
        """Return the last states of B names, ``(B, H)``, in the order of ``trie.names``; the next
        call overwrites them."""
        symbols, size = len(self.table), workspace.size
        addends, final = workspace.addends, workspace.final
        addends[symbols + size] = 0  # the state before the first symbol, above level 0
        pairs = torch.from_numpy(trie.pairs(symbols, size)).view(-1)

        def step(first: int, states: Tensor) -> None:
            """Compute the steps from number ``first`` on into ``states``, ``(n, H)``."""
            n = states.shape[0]  # len takes longer
            own = pairs[2 * first : 2 * (first + n)]
            sums = torch.embedding_bag(addends, own, workspace.offsets[:n])[0]
            if self.by_sigmoid:  # the sums are doubled
                torch.add(_MINUS_ONE, torch.sigmoid(sums, out=sums), alpha=2.0, out=states)
            else:
                torch.tanh(sums, out=states)

        node, last, done = 0, sum(trie.nodes), 0
        for t, (nodes, ending) in enumerate(zip(trie.nodes, trie.ending, strict=True)):
            products = addends[symbols + t % 2 * size :]
            for start, stop in _slices(nodes):
                states = workspace.states[: stop - start]
                step(node + start, states)
                torch.mm(states, self.h2h, out=products[start:stop])
            for start, stop in _slices(ending):
                step(last + start, final[done + start : done + stop])
            node, last, done = node + nodes, last + ending, done + ending
        return final[:done]


class _Groups:
    """The rows of h2o and n2o of a network with groups of labels, for ``ranked``."""

    @torch.inference_mode()
    def __init__(self, network: CharRNN) -> None:
        config = network.config
        G, S = config.label_groups, config.group_size
        layers = [network.h2o.weight, *([] if network.n2o is None else [network.n2o.weight])]
        weight, bias = torch.cat(layers, dim=1), network.h2o.bias.clone()
        bias[G + config.outputs :] = -torch.inf  # places that no output has
        self.of_group = (weight[:G].T.contiguous(), bias[:G])
        grid = weight[G:].view(G, S, -1).transpose(1, 2).contiguous()
        self.within = list(zip(grid, bias[G:].view(G, S), strict=True))
        self.label_of = torch.zeros(G * S, dtype=torch.int64)
        self.label_of[network.places.long()] = torch.arange(config.outputs)

    def ranked(self, states: Tensor, sums: Tensor | None, k: int) -> tuple[Tensor, Tensor]:
        """Return the probabilities and ids of the ``k`` most probable labels of B names with such
        last states and sums of n-grams (see ``chunks``), float and int64 ``(B, k)``."""
        features = states if sums is None else torch.cat((states, sums), dim=1)  # (B, D)
        weight, bias = self.of_group
        log_p = torch.addmm(bias, features, weight).log_softmax(dim=1)
        most_probable = _largest(log_p, min(_MOST_GROUPS, log_p.shape[1]))
        best = log_p.new_full((len(log_p), k), -torch.inf)  # log probabilities found so far
        places = torch.zeros(best.shape, dtype=torch.int64)  # of these labels
        # First each name's most probable group: another may have one of the k labels only where it
        # is more probable than the k-th of those.
        for ranks in (slice(0, 1), slice(1, None)):
            log_p, groups = (some[:, ranks] for some in most_probable)  # of n groups, (B, n)
            rows, nth = (log_p > best[:, -1:]).nonzero(as_tuple=True)
            keys = groups[rows, nth].numpy().astype(np.uint16)  # sorted by radix
            order = torch.from_numpy(np.argsort(keys, kind="stable"))
            rows, nth = rows[order], nth[order]
            logits = self._logits(features.index_select(0, rows), groups[rows, nth])
            logits -= logits.amax(dim=1, keepdim=True)
            most = log_p[rows, nth] - logits.exp().sum(dim=1).log()  # of the group's best label
            # Of the best labels of its groups, the k-th bounds what a name's k best labels have.
            bounds = torch.full_like(log_p, -torch.inf).index_put((rows, nth), most)
            least = _largest(torch.cat((best, bounds), dim=1), k)[0][:, -1]
            better = (most >= least[rows]).nonzero()[:, 0]
            rows, nth = rows[better], nth[better]
            below, slots = _largest(logits.index_select(0, better), k)
            values = best.new_full((*groups.shape, k), -torch.inf)
            values[rows, nth] = below + most[better, None]
            own = torch.zeros(values.shape, dtype=torch.int64)
            own[rows, nth] = slots + groups[rows, nth, None] * logits.shape[1]
            best, index = _largest(torch.cat((best, values.flatten(1)), dim=1), k)
            places = torch.cat((places, own.flatten(1)), dim=1).gather(1, index)
        return best.exp(), self.label_of[places]

    def _logits(self, features: Tensor, groups: Tensor) -> Tensor:
        """Return the logits within a group of n names with features ``(n, D)`` and ascending
        groups ``(n,)``, ``(n, S)``."""
        logits = features.new_empty(len(features), len(self.within[0][1]))
        edges = groups.bincount(minlength=len(self.within)).cumsum(0).tolist()
        for (weight, bias), (start, stop) in zip(self.within, pairwise([0, *edges]), strict=True):
            torch.addmm(bias, features[start:stop], weight, out=logits[start:stop])
        return logits


def _largest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the ``k`` largest of each row of ``(n, m)`` numbers, none above 0, descending,
    and their indices, ``(n, k)`` each; equal ones by index."""
    indices = first_of(values.numpy().view(np.uint32), k)  # such a number's bits grow as it falls
    return values.gather(1, indices), indices


def first_of(bits: npt.NDArray[np.uint32], k: int) -> Tensor:
    """Return the indices of the ``k`` smallest of each row of ``(n, m)`` numbers, int64 ``(n, k)``,
    ascending; equal ones by index. NumPy sorts rows of integers by vector instructions: the numbers
    with their indices below them."""
    keys = bits.astype(np.uint64)
    keys <<= np.uint64(32)
    keys |= np.arange(keys.shape[1], dtype=np.uint64)
    keys.sort(axis=1)
    return torch.from_numpy(keys[:, :k].astype(np.uint32).astype(np.int64))


@cache
def sigmoid_is_faster() -> bool:
    """Return whether ``tanh`` as ``2 sigmoid(2z) - 1`` takes less time than ``torch.tanh`` here.

    Decided by the processor, since a measurement may differ under load, and a run that is resumed
    writes the same bytes. An Intel with AVX-512 takes 0.25 ns an element, 0.47 by sigmoid
    (docs/performance.md); on an AMD with AVX2 sigmoid was found to be the faster one.
    """
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def _slices(count: int) -> Iterator[tuple[int, int]]:
    """Yield ``(start, stop)`` of slices of ``_SLICE``."""
    for start in range(0, count, _SLICE):
        yield start, min(start + _SLICE, count)


def _ngram_sums(trie: _Trie, weights: Tensor) -> Tensor:
    """Return the n-grams' sums of B names, ``(B, L)``, in the order of ``trie.names``; as
    ``NgramTable.forward`` does, for ``weights`` of ``(buckets, L)``."""
    parents = torch.from_numpy(trie.parents)
    # First each step's own n-grams, (M, L); then sums along the trie, in double precision, since a
    # running sum over a long name loses digits.
    sums = torch.cat([
        F.embedding_bag(torch.from_numpy(buckets), weights, mode="sum")
        for buckets in trie.buckets(len(weights))
    ]).double()  # fmt: skip
    final, edges = sum(trie.nodes), np.cumsum(trie.nodes).tolist()
    deeper = final + trie.ending[0]  # the first final step with a node above it
    for first, stop in [*pairwise(edges), (deeper, len(sums))]:
        sums[first:stop] += sums.index_select(0, parents[first:stop])
    lengths = trie.lengths[trie.names]
    count = sum(np.maximum(lengths - n + 1, 0) for n in NgramTable.ORDERS)
    scale = torch.from_numpy(NgramTable.SCALE / np.sqrt(count))
    return (sums[final:] * scale[:, None]).to(weights.dtype)


class _Workspace:
    """Buffers for the tries of chunks of at most ``size`` names; ``table`` is a recurrence's."""

    def __init__(self, table: Tensor, size: int) -> None:
        symbols, H = table.shape
        self.size = size
        # A row per symbol, then h2h(h) per node of a level, twice: the levels alternate.
        self.addends = table.new_empty(symbols + 2 * size, H)
        self.addends[:symbols] = table
        self.states = table.new_empty(_SLICE, H)  # of the nodes of a slice
        self.final = table.new_empty(size, H)  # of the final steps
        self.offsets = torch.arange(0, 2 * _SLICE, 2)  # where pairs begin in a flat array


class _Trie:
    """The M steps for B sorted names: all nodes, level by level, then all final steps, level by
    level.

    Attributes:
        ids: uint8 ``(T, B)``: a name per column, ``PAD`` below it.
        lengths: int64 ``(B,)``.
        nodes, ending: number of nodes and of final steps of each of the T levels.
        cells: int64 ``(M,)``: index into the flattened ``ids`` of each step's symbol.
        parents: int64 ``(M,)``: number of the step's parent among the nodes; 0 at the first level.
    """

    def __init__(self, encoded: Encoded, rows: Counts) -> None:
        """Build the trie of the sorted names in ``rows``; one without ids is a step of padding."""
        padded, lengths = encoded.padded(rows)
        self.ids, self.lengths = np.ascontiguousarray(padded.T), np.maximum(lengths, 1)
        T, B = self.ids.shape
        last = self.lengths - 1
        # A name shares nodes with the name before it as far as the two agree; the steps from there
        # to its end are its own.
        begin = np.append(0, np.minimum(_common_prefixes(self.ids), last[:-1]))
        np.minimum(begin, last, out=begin)
        own = last - begin + 1
        after = np.cumsum(own)
        M = int(after[-1])
        level = np.arange(M) - np.repeat(after - own - begin, own)  # of all steps, name by name
        order = np.argsort(level.astype(np.min_scalar_type(T)), kind="stable")  # level by level
        first, final = np.zeros((2, M), bool)
        first[after - own] = final[after - 1] = True
        first, final = first[order], final[order]
        # A step's parent is the step before it in its name. For a name's first own step it is the
        # parent of the previous step of the level, since up to there the names agree.
        number = np.empty(M, np.int64)
        number[order] = np.cumsum(~final) - 1
        parents = number[order - 1]
        parents[first] = 0
        np.maximum.accumulate(parents, out=parents)
        steps = np.concatenate((np.flatnonzero(~final), np.flatnonzero(final)))
        cells = level * B + np.repeat(np.arange(B), own)
        ending = np.bincount(last, minlength=T)
        self.nodes = (np.bincount(level, minlength=T) - ending).tolist()
        self.ending = ending.tolist()
        self.cells: Counts = cells[order[steps]]
        self.parents: Counts = parents[steps]

    @property
    def names(self) -> Counts:
        """The column numbers of the names in the order of their final steps, int64 ``(B,)``."""
        B = len(self.lengths)
        return self.cells[-B:] % B

    def pairs(self, offset: int, size: int) -> Counts:
        """Return the two rows of ``_Workspace.addends`` that each step sums, int64 ``(M, 2)``: its
        symbol's, and its parent's, which follow the ``offset`` rows of symbols."""
        T = len(self.nodes)
        above = np.arange(1, T + 1) % 2 * size  # where the products of the level above are
        shift = offset + above - np.cumsum([0, 0, *self.nodes])[:T]
        pairs = np.empty((len(self.cells), 2), np.int64)
        pairs[:, 0] = self.ids.reshape(-1)[self.cells]
        levels = np.concatenate((np.repeat(shift, self.nodes), np.repeat(shift, self.ending)))
        np.add(self.parents, levels, out=pairs[:, 1])
        return pairs

    def buckets(self, count: int) -> Iterator[Counts]:
        """Yield the buckets, 0 to ``count`` - 1, of the n-grams that end with each step's symbol,
        int64 ``(m, n)`` for consecutive steps; n is the number of orders that fit at their level.
        """
        orders, B = NgramTable.ORDERS, len(self.lengths)  # 1, 2, … up to the longest
        first_levels = len(orders) - 1  # at these levels the longer orders do not fit
        before = first_levels * B
        flat = np.concatenate((np.zeros(before, np.uint8), self.ids.reshape(-1)))
        buckets = np.empty((len(self.cells), len(orders)), np.int64)
        code = np.zeros(len(self.cells), np.int64)
        for n in orders:
            code |= flat[self.cells + (before - (n - 1) * B)].astype(np.int64) << 8 * (n - 1)
            buckets[:, n - 1] = NgramTable.bucket(code, n, count)
        start = 0
        for levels in (self.nodes, self.ending):
            for t, steps in enumerate(levels[:first_levels]):
                yield np.ascontiguousarray(buckets[start : start + steps, : t + 1])
                start += steps
            deeper = sum(levels[first_levels:])
            yield buckets[start : start + deeper]
            start += deeper


def _common_prefixes(ids: Ids) -> Counts:
    """Return the length of the prefix that each name but the first has in common with the name
    before it, int64 ``(B - 1,)``, for names in columns, ``(T, B)``."""
    T, B = ids.shape
    agree = np.ones(B - 1, bool)
    common = np.zeros(B - 1, np.min_scalar_type(T))
    for t in range(T):
        agree &= ids[t, 1:] == ids[t, :-1]
        if not agree.any():
            break
        common += agree
    return common.astype(np.int64)


def _sort_order(encoded: Encoded, rows: Counts) -> Counts:
    """Return the order that sorts N names, at least 1, by their first ``_SORTED_SYMBOLS`` ids,
    int64 ``(N,)``."""

    def eight_ids(start: int, some: Counts) -> npt.NDArray[np.uint64]:
        """Return the ids from position ``start`` on as numbers that sort as they do."""
        lengths = encoded.lengths[some]
        at = encoded.starts[some] + np.minimum(start, lengths)
        return load_u64(encoded.flat, at, lengths - start).byteswap()

    first = eight_ids(0, rows)
    order = np.argsort(first)
    equal = np.diff(first[order]) == 0
    tied = np.append(equal, False)  # only these are sorted by more, which is slow
    tied[1:] |= equal
    ties = np.sort(order[tied])
    starts = range(0, _SORTED_SYMBOLS, 8)
    order[tied] = ties[np.lexsort([eight_ids(start, rows[ties]) for start in reversed(starts)])]
    return order
