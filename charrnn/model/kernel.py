"""The GPU kernels: ids of many names in, ranked labels and their probabilities out.

Two kernels, both over names sorted by length, a block of names a program:

``_recur`` runs the whole recurrence of a tanh network. The state never leaves the registers and the
weights stay in shared memory. A step is one sum of matrix products: the projected input is a
one-hot matrix, made from the symbols in registers, times the table of projected symbols, so that
nothing is gathered. The table of a vocabulary of ``IDS`` or more does not fit beside the weights;
its rows are gathered from global memory. Products are of float16 numbers, added up in float32. A
float32 number is a float16 one and a float16 remainder, together 22 bits: the input always has
both; state and weights have both with three ``TERMS``, and with one only the first.

``_answer`` takes the states in which names end, adds what their hashed n-grams say, and goes on to
softmax, prior and the most likely labels, or stops at the logits.

The arithmetic is tested without a GPU by Triton's interpreter (``TRITON_INTERPRET=1``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from charrnn.model.network import CharRNN, NgramTable

try:
    import triton
    import triton.language as tl
    from triton import OutOfResources as OutOfResources

    # A kernel is compiled once for all numbers of names, not anew for 1 and for multiples of 16.
    jit: Any = triton.jit(do_not_specialize=["n", "begin", "end", "labels"])
except ImportError:  # torch for a CPU comes without it
    triton = None
    OutOfResources = MemoryError

    def jit(function: Any) -> Any:
        """Leave a kernel as it stands, never to be launched."""
        return function


IDS = 64  # rows of the one-hot product: the most ids, padding included, that are not gathered
HIDDEN_SIZES = (16, 32, 64, 128, 256)
RANKS = 8  # labels that ``_answer`` can rank
_EXACT_SIZE = 128  # hidden units up to which the remainders of the weights fit beside them
_TO_LOG2 = 2.8853900817779268  # 2 / log(2): tanh(z) = 1 - 2 / (1 + 2 ** (z * 2 / log(2)))
_MOST_LOGITS = 2**14  # of a program of ``_answer``


@dataclass(frozen=True)
class Weights:
    """A network's weights as the kernels read them, all on one device (H hidden units, L labels, P
    the power of two from L on, at least 16).

    Attributes:
        table: what each id adds to a step, float16 and its remainder, ``(2, IDS, H)``, or, to be
            gathered, float32 ``(V + 1, H)`` for V ids; both biases included, scaled by
            ``2 / log(2)`` like ``h2h``.
        h2h: recurrent weights and remainder, float16 ``(2, H, H)``.
        h2o: float32 ``(H, P)``; 0 from column L on.
        bias: float32 ``(P,)``; minus infinity from L on.
        ngrams: float16 ``(buckets, P)``; ``(1, P)`` where there are none.
        buckets: 0 without n-grams.
        labels: L.
        terms: products of a step, 1 or 3.
    """

    table: Tensor
    h2h: Tensor
    h2o: Tensor
    bias: Tensor
    ngrams: Tensor
    buckets: int
    labels: int
    terms: int

    @property
    def gathers(self) -> bool:
        """Whether rows of ``table`` are gathered."""
        return self.table.dtype == torch.float32

    @staticmethod
    def can_be_of(network: CharRNN) -> bool:
        """Whether the kernels can be compiled, or interpreted, here, and run a network."""
        config = network.config
        return (
            triton is not None
            and type(network) is CharRNN  # a subclass may override forward
            and config.hidden_size in HIDDEN_SIZES
            and not (config.ngram_rank or config.label_groups)
            and config.outputs <= _MOST_LOGITS // 16
        )

    @classmethod
    @torch.inference_mode()
    def of(cls, network: CharRNN, terms: int = 0) -> Weights:
        """Lay out the weights of a network that the kernels can run; ``terms`` 0 takes three where
        they fit."""
        cell, H, L = network.forward_rnn.cell, network.config.hidden_size, network.config.outputs
        table = ((network.projected_symbols() + cell.h2h.bias) * _TO_LOG2).contiguous()
        if len(table) <= IDS:
            table = _halves(F.pad(table, (0, 0, 0, IDS - len(table))))
        P = max(16, 1 << (L - 1).bit_length())
        bias = F.pad(network.h2o.bias, (0, P - L), value=-torch.inf)
        ngrams, buckets = bias.new_zeros(1, P, dtype=torch.float16), 0
        if network.ngrams is not None:
            ngrams = F.pad(network.ngrams.weight.half(), (0, P - L))
            buckets = len(ngrams)
        return cls(
            table=table,
            h2h=_halves(cell.h2h.weight.T * _TO_LOG2),
            h2o=F.pad(network.h2o.weight.T, (0, P - L)).contiguous(),
            bias=bias,
            ngrams=ngrams.contiguous(),
            buckets=buckets,
            labels=L,
            terms=terms or (3 if H <= _EXACT_SIZE else 1),
        )


def _halves(x: Tensor) -> Tensor:
    """Return a float32 tensor as float16 and its remainder, stacked in front."""
    high = x.half()
    return torch.stack((high, (x - high.float()).half())).contiguous()


class Batch(NamedTuple):
    """N names on the device, of which n are run.

    Attributes:
        flat: uint8; the ids of all names, without boundaries, each name's side by side.
        starts: int32 ``(N,)``; where in ``flat`` a name begins.
        lengths: int32 ``(N,)``; its number of ids, 0 for an empty one.
        order: int64 ``(n,)``; the names to run, longest first.
        marks: ids of the begin and the end of a name, or None without boundaries.
    """

    flat: Tensor
    starts: Tensor
    lengths: Tensor
    order: Tensor
    marks: tuple[int, int] | None


def launch_recur(
    weights: Weights, names: Batch, states: Tensor, *, block: int = 0, warps: int = 0
) -> None:
    """Run the recurrence over n names.

    Args:
        states: float32 ``(n, H)``; receives the last state of each, in this order.
    """
    n, H = states.shape
    block = block or (128 if H > 128 and not weights.gathers else 64)
    begin, end = names.marks or (0, 0)
    _recur[(triton.cdiv(n, block),)](
        names.flat, names.starts, names.lengths, names.order,
        weights.table, weights.h2h, states, n, begin, end,
        H=H, V=0 if weights.gathers else IDS, TERMS=weights.terms,
        MARKS=0 if names.marks is None else 1, BLOCK=block,
        num_warps=warps or (8 if block == 128 else 4), num_stages=1,
    )  # fmt: skip


def launch_answer(
    weights: Weights,
    names: Batch,
    states: Tensor,
    *,
    temperature: float = 1.0,
    prior: Tensor | None = None,
    logits: Tensor | None = None,
    ranked: tuple[Tensor, Tensor] | None = None,
    uncorrected: tuple[Tensor, Tensor] | None = None,
    block: int = 0,
    warps: int = 0,
) -> None:
    """Turn last states into logits, or into the most likely labels. Every output has a row for each
    name in *its* place, not in that of ``order``.

    Args:
        prior: float32 ``(L,)``; multiplies the probabilities, which are then made to add up to 1.
        logits: float32 ``(N, L)``.
        ranked: label ids, int16, and probabilities, float32, ``(N, k)`` each: the k most likely
            labels, equal ones in the order of the labels.
        uncorrected: the most likely label and its probability before ``prior``, ``(N,)`` each.
    """
    n, H = states.shape
    P = weights.h2o.shape[1]
    block = block or max(16, min(64, _MOST_LOGITS // P // 4))
    begin, end = names.marks or (0, 0)
    nothing = weights.bias
    ids, confidence = ranked or (nothing, nothing)
    first_ids, first_confidence = uncorrected or (nothing, nothing)
    _answer[(triton.cdiv(n, block),)](
        names.flat, names.starts, names.lengths, names.order, states,
        weights.h2o, weights.bias, weights.ngrams,
        nothing if prior is None else F.pad(prior, (0, P - len(prior))),
        nothing if logits is None else logits,
        ids, confidence, first_ids, first_confidence,
        n, begin, end, weights.labels, 1.4426950408889634 / temperature, NgramTable.SCALE,
        H=H, P=P, BUCKETS=weights.buckets, HASH=NgramTable._MULTIPLIER,
        K=0 if ranked is None else ids.shape[1], LOGITS=logits is not None,
        PRIOR=prior is not None, MARKS=0 if names.marks is None else 1, BLOCK=block,
        CHUNK=max(16, min(64, H, 2**13 // P)), num_warps=warps or (4 if P <= 64 else 8),
        num_stages=2,
    )  # fmt: skip


@jit
def _symbol(flat, start, length, t, begin, end, MARKS: tl.constexpr):
    """Return the ids at step t of a block of names, int32; 0 behind their ends."""
    at = t - MARKS
    symbol = tl.load(flat + start + at, mask=(at >= 0) & (at < length), other=0).to(tl.int32)
    if MARKS:
        symbol = tl.where(at == length, end, symbol)
        symbol = tl.where(at < 0, begin, symbol)
    return symbol


@jit
def _names(starts, lengths, order, n, MARKS: tl.constexpr, BLOCK: tl.constexpr):
    """Return of a program's names: places in ``order``, names, starts, lengths and steps."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    name = tl.load(order + place, mask=place < n, other=0)
    start = tl.load(starts + name)
    length = tl.load(lengths + name)
    # Behind the last name nothing is to be done; an empty name is one step of padding.
    length = tl.where(place < n, length, 0)
    steps = tl.maximum(length + 2 * MARKS, 1)
    return place, name, start, length, steps


@jit
def _recur(
    flat, starts, lengths, order, table, h2h, states, n, begin, end,
    H: tl.constexpr, V: tl.constexpr, TERMS: tl.constexpr, MARKS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    place, _, start, length, steps = _names(starts, lengths, order, n, MARKS, BLOCK)
    unit = tl.arange(0, H)
    square = unit[:, None] * H + unit[None, :]
    if V:
        ids = tl.arange(0, V)
        symbols = ids[:, None] * H + unit[None, :]
        table_high = tl.load(table + symbols)
        table_low = tl.load(table + V * H + symbols)
    weight_high = tl.load(h2h + square)
    if TERMS == 3:
        weight_low = tl.load(h2h + H * H + square)
    longest = tl.max(steps)
    h = tl.zeros((BLOCK, H), tl.float32)
    t = 0
    while t < longest:  # Triton's interpreter makes no range of a tensor
        # Names end together. Until a name begins, nothing is added, which leaves its state at
        # tanh(0) = 0.
        own = t - (longest - steps)
        symbol = _symbol(flat, start, length, own, begin, end, MARKS)
        high = h.to(tl.float16)
        if V:
            symbol = tl.where(own < 0, -1, symbol)
            one_hot = (symbol[:, None] == ids[None, :]).to(tl.float16)
            z = tl.dot(one_hot, table_low)
            z = tl.dot(one_hot, table_high, z)
        else:
            row = table + symbol[:, None] * H + unit[None, :]
            z = tl.load(row, mask=(own >= 0)[:, None], other=0.0)
        if TERMS == 3:
            low = (h - high.to(tl.float32)).to(tl.float16)
            z = tl.dot(high, weight_low, z)
            z = tl.dot(low, weight_high, z)
        z = tl.dot(high, weight_high, z)
        h = 1.0 - 2.0 / (1.0 + tl.exp2(z))
        t += 1
    to = states + place.to(tl.int64)[:, None] * H + unit[None, :]
    tl.store(to, h, mask=(place < n)[:, None])


@jit
def _rows(
    ngrams, code, valid, label,
    N: tl.constexpr, P: tl.constexpr, BUCKETS: tl.constexpr, HASH: tl.constexpr,
):  # fmt: skip
    """Return the weights of one n-gram of order N of every name, float32 ``(BLOCK, P)``."""
    bucket = (((code + (N << (8 * N))) * HASH) >> 40) & (BUCKETS - 1)
    at = ngrams + bucket[:, None] * P + label[None, :]
    return tl.load(at, mask=valid[:, None], other=0.0).to(tl.float32)


@jit
def _first(p, label, P: tl.constexpr):
    """Return the largest of each row of ``(BLOCK, P)``, and where it is first, int16."""
    top = tl.max(p, axis=1)
    where = tl.where(p == top[:, None], label[None, :], P)
    return top, tl.min(where, axis=1).to(tl.int16)


@jit
def _answer(
    flat, starts, lengths, order, states, h2o, bias, ngrams, prior,
    logits, ranked, confidence, first_ranked, first_confidence,
    n, begin, end, labels, inverse_temperature, scale,
    H: tl.constexpr, P: tl.constexpr, BUCKETS: tl.constexpr, HASH: tl.constexpr, K: tl.constexpr,
    LOGITS: tl.constexpr, PRIOR: tl.constexpr, MARKS: tl.constexpr, BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
):  # fmt: skip
    place, name, start, length, steps = _names(starts, lengths, order, n, MARKS, BLOCK)
    label = tl.arange(0, P)
    inside = place < n
    z = tl.zeros((BLOCK, P), tl.float32) + tl.load(bias + label)[None, :]
    for k in range(0, H, CHUNK):
        unit = k + tl.arange(0, CHUNK)
        at = states + place.to(tl.int64)[:, None] * H + unit[None, :]
        state = tl.load(at, mask=inside[:, None], other=0.0)
        weight = tl.load(h2o + unit[:, None] * P + label[None, :])
        z = tl.dot(state, weight, z, input_precision="tf32x3")
    if BUCKETS:
        total = tl.zeros((BLOCK, P), tl.float32)
        a = tl.zeros((BLOCK,), tl.int64)  # the last symbols, the newest one last
        b = tl.zeros((BLOCK,), tl.int64)
        c = tl.zeros((BLOCK,), tl.int64)
        longest = tl.max(steps)
        t = 0
        while t < longest:
            d = _symbol(flat, start, length, t, begin, end, MARKS).to(tl.int64)
            here = t < steps
            two = c * 256 + d
            three = b * 65536 + two
            four = a * 16777216 + three
            total += _rows(ngrams, d, here, label, 1, P, BUCKETS, HASH)
            total += _rows(ngrams, two, here & (t >= 1), label, 2, P, BUCKETS, HASH)
            total += _rows(ngrams, three, here & (t >= 2), label, 3, P, BUCKETS, HASH)
            total += _rows(ngrams, four, here & (t >= 3), label, 4, P, BUCKETS, HASH)
            a = b
            b = c
            c = d
            t += 1
        count = steps + tl.maximum(steps - 1, 0) + tl.maximum(steps - 2, 0)
        count += tl.maximum(steps - 3, 0)
        z += total * (scale / tl.sqrt(count.to(tl.float32)))[:, None]
    known = label < labels
    if LOGITS:
        to = logits + name[:, None] * labels + label[None, :]
        tl.store(to, z, mask=inside[:, None] & known[None, :])
    if K:
        z = z * inverse_temperature
        p = tl.exp2(z - tl.max(z, axis=1)[:, None])
        p = p / tl.sum(p, axis=1)[:, None]
        if PRIOR:
            top, best = _first(p, label, P)
            tl.store(first_confidence + name, top, mask=inside)
            tl.store(first_ranked + name, best, mask=inside)
            weighted = p * tl.load(prior + label)[None, :]
            whole = tl.sum(weighted, axis=1)[:, None]
            p = tl.where(whole > 0, weighted / whole, p)  # nothing left: as it was
        p = tl.where(known[None, :], p, -1.0)
        for k in tl.static_range(K):
            top, best = _first(p, label, P)
            tl.store(confidence + name * K + k, top, mask=inside)
            tl.store(ranked + name * K + k, best, mask=inside)
            p = tl.where(label[None, :] == best[:, None], -1.0, p)
