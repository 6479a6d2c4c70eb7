"""The network: ids and lengths in, logits out.

``CharRNN`` is many-to-one: it reads a name character by character (x_t), carries a hidden state
(h_t) and projects the last state to one logit per label (h2o). Parameter names follow the seed
notebook. The input projection x2h is computed once per symbol and gathered per character. A name
keeps its last state through its padding, so a padded batch gives exactly the results of its names
alone.

State-dict names (H hidden, V vocabulary size, L labels):

    embedding.weight     (V + 1, E)   only with embedding_size; row 0 is padding
    forward_rnn.cell.x2h.weight  (H, E or V)        .bias (H,)
    forward_rnn.cell.h2h.weight  (H, H)             .bias (H,)
    h2o.weight           (K, H)                     .bias (K,); K outputs: L, or L + 1
    ngrams.weight        (buckets, K or R)  only with ngram_buckets
    n2o.weight           (K, R)       only with ngram_rank R
    places               (K,)         only with label_groups G; then h2o and n2o have G + G·S rows

With ``ngram_buckets`` the network is wide and deep (Cheng et al. 2016): a linear model of the
name's hashed 1- to 4-grams is trained jointly with the recurrence and its logits are added. The
table has several times as many rows as the training names have n-grams, so that an n-gram not in
the training names mostly hits a row of zeros. Files hold the nonzero rows only. With
``ngram_rank`` a row has R weights, whose sum one matrix, ``n2o``, makes logits of: for many labels,
whose table would be K / R times as large.

With ``label_groups`` the network answers in two steps, by a hierarchical softmax (Goodman 2001):
p(label) = p(group) · p(label | group). The first G rows of ``h2o`` and ``n2o`` are those of the
groups, the others those of a grid of G groups of S places, in which output i has place
``places[i]``; its logit is that of its group plus the log of p(label | group). For thousands of
labels a step of training, and the most probable labels, then take a small part of the rows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from annotated_types import Interval
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from charrnn.errors import ConfigError, check_fields
from charrnn.model.labels import MAX_LABELS

MAX_PARAMETERS = 150_000_000  # 600 MB in float32: the default's n-grams with 1,000 labels fit
_MAX_SIZE = 4096  # of a state or an embedding
Codes = TypeVar("Codes", Tensor, npt.NDArray[np.int64])


@dataclass(frozen=True)
class ModelConfig:
    """Architecture of a ``CharRNN``.

    Args:
        vocabulary_size: number of ids without padding, V.
        label_count: number of labels, L.
        none_output: whether there is one output more, behind those of the labels, for texts that
            are no name of any label (outlier exposure, Hendrycks et al. 2019).
        hidden_size: H.
        embedding_size: E; 0 feeds one-hot symbols, as the seed notebook does.
        ngram_buckets: rows of the n-gram table, a power of two up to 2^24; 0 for no table.
        ngram_bits: of a number of the n-gram table, as it is stored: 16 (half precision), or 8 (an
            integer, and a power of two for each row).
        ngram_rank: R, weights of a row of the n-gram table; 0 for one per output.
        label_groups: G, groups that the outputs are divided into; 0 for a logit from one matrix.
        dropout: probability of dropping a feature of the last state, in training.
        input_dropout: probability of dropping an embedding feature, for all characters of a name.
        ngram_dropout: probability of dropping an n-gram.

    Raises:
        ConfigError: a size is out of range, the network would have more than ``MAX_PARAMETERS``
            parameters, or a dropout is outside [0, 1).
    """

    vocabulary_size: Annotated[int, Interval(ge=1, le=255)]
    label_count: Annotated[int, Interval(ge=1, le=MAX_LABELS)]
    none_output: bool = False
    hidden_size: Annotated[int, Interval(ge=1, le=_MAX_SIZE)] = 128
    embedding_size: Annotated[int, Interval(ge=0, le=_MAX_SIZE)] = 0
    ngram_buckets: int = 0
    ngram_bits: Literal[8, 16] = 16
    ngram_rank: Annotated[int, Interval(ge=0, le=_MAX_SIZE)] = 0
    label_groups: Annotated[int, Interval(ge=0, le=_MAX_SIZE)] = 0
    dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    input_dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    ngram_dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0

    @property
    def outputs(self) -> int:
        """Number of logits, K: L, or L + 1 with ``none_output``."""
        return self.label_count + self.none_output

    @property
    def group_size(self) -> int:
        """Number of places of a group of labels, S."""
        return -(-self.outputs // max(1, self.label_groups))

    @property
    def rows(self) -> int:
        """Number of rows of ``h2o``, G + G·S with groups, else K."""
        groups = self.label_groups
        return groups + groups * self.group_size if groups else self.outputs

    @property
    def ngram_width(self) -> int:
        """Number of weights in a row of the n-gram table, R or K."""
        return self.ngram_rank or self.outputs

    def __post_init__(self) -> None:
        check_fields(self)
        B = self.ngram_buckets
        if not 0 <= B <= 2**24 or B & (B - 1):  # the hash has 24 bits
            raise ConfigError(f"ngram_buckets must be 0 or a power of two ≤ 2^24, got {B}")
        if self.label_groups > self.outputs or (self.label_groups and B and not self.ngram_rank):
            raise ConfigError(
                f"label_groups must be ≤ {self.outputs} outputs, and 0 for an n-gram table without "
                f"ngram_rank, got {self.label_groups}"
            )
        size = sum(t.numel() for t in blank_network(self).state_dict().values())
        if size > MAX_PARAMETERS:
            raise ConfigError(
                f"the network would have {size:,} parameters, at most {MAX_PARAMETERS:,} are "
                "allowed; choose a smaller hidden_size, embedding_size or ngram_buckets"
            )


class RNNCell(nn.Module):
    """One step of the recurrence: ``h_t = tanh(x2h(x_t) + h2h(h_{t-1}))`` (Elman 1990)."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.x2h = nn.Linear(input_size, hidden_size)
        self.h2h = nn.Linear(hidden_size, hidden_size)

    def forward(self, x_t: Tensor, state: Tensor) -> Tensor:
        """Return h_t, ``(B, H)``; ``x_t`` is the *projected* input x2h(x_t), ``(B, H)``."""
        return torch.tanh(x_t + self.h2h(state))


class RNN(nn.Module):
    """A cell unrolled over time, up to the last id of each name."""

    def __init__(self, cell: RNNCell) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor, lengths: Tensor | None, every_state: bool) -> Tensor:
        """Return h_1 … h_T, ``(B, T, H)``, the last state repeated through the padding; without
        ``every_state`` the last state, ``(B, 1, H)``. ``x`` is x2h(x_t), ``(B, T, H)``; ``lengths``
        is int64 ``(B,)``, None when all are T."""
        state = x.new_zeros(len(x), x.shape[2])
        hidden = []
        for t, x_t in enumerate(x.unbind(1)):  # one gradient for all steps, not one for each
            following = self.cell(x_t, state)
            if lengths is not None:
                following = torch.where((t < lengths)[:, None], following, state)
            state = following
            if every_state:
                hidden.append(state)
        return torch.stack(hidden, dim=1) if every_state else state[:, None]


class NgramTable(nn.Module):
    """A linear model of hashed 1- to 4-grams: one row of K weights per bucket, summed over the
    name's n-grams and divided by the root of their number, so that the scale of the logits does not
    grow with the length of the name."""

    ORDERS = (1, 2, 3, 4)
    SCALE = 4.0  # about the root of the number of n-grams of a short name: keeps logits near 1
    _MULTIPLIER = 0x1E3779B97F4A7C15  # odd, from the golden ratio (Knuth's multiplicative hashing)

    def __init__(self, buckets: int, width: int, dropout: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(buckets, width))
        self.dropout = dropout
        # In training, may read other weights than the table: those of a batch's rows alone.
        self.read: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None

    @classmethod
    def bucket(cls, code: Codes, n: int, buckets: int) -> Codes:
        """Return the buckets of n-grams of order ``n``, 0 to ``buckets`` - 1, a power of two;
        int64 of the shape of ``code``, which holds their ids as n digits in base 256."""
        # The int64 product overflows on purpose; its upper bits depend on all ids.
        return (((code + (n << 8 * n)) * cls._MULTIPLIER) >> 40) & (buckets - 1)

    def buckets(self, ids: Tensor) -> list[Tensor]:
        """Return the buckets of all n-grams of int64 ids ``(B, T)``, in order: int64
        ``(B, T - n + 1)`` for each order n up to T."""
        T, buckets = ids.shape[1], []
        for n in self.ORDERS[:T]:
            code = ids.new_zeros(len(ids), T - n + 1)
            for i in range(n):
                code = code * 256 + ids[:, i : T - n + 1 + i]
            buckets.append(self.bucket(code, n, len(self.weight)))
        return buckets

    def forward(self, ids: Tensor, lengths: Tensor | None) -> Tensor:
        """Return the n-grams' sums, ``(B, K)`` or ``(B, R)``, for int64 ids ``(B, T)`` and lengths
        ``(B,)`` (None: all are T)."""
        rows = torch.cat(self.buckets(ids), dim=1)  # (B, number of n-grams)
        if lengths is None:
            scale = self.weight.new_full(rows.shape, self.SCALE / rows.shape[1] ** 0.5)
        else:
            T = ids.shape[1]
            ends = [torch.arange(n, T + 1, device=ids.device) for n in self.ORDERS[:T]]
            scale = (torch.cat(ends) <= lengths[:, None]).to(self.weight.dtype)
            scale = scale * (self.SCALE / scale.sum(dim=1, keepdim=True).clamp(min=1).sqrt())
        scale = F.dropout(scale, self.dropout, self.training)
        weight: Tensor = self.weight
        if self.read is not None and self.training:
            weight, rows = self.read(rows)
        return F.embedding_bag(rows, weight, per_sample_weights=scale, mode="sum")


class CharRNN(nn.Module):
    """Character RNN, many-to-one: ids ``(B, T)`` and lengths ``(B,)`` in, logits ``(B, L)`` out."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        V, E, H = config.vocabulary_size, config.embedding_size, config.hidden_size
        self.embedding = nn.Embedding(V + 1, E, padding_idx=0) if E else None
        self.forward_rnn = RNN(RNNCell(E or V, H))
        self.h2o = nn.Linear(H, config.rows)
        self.ngrams = (
            NgramTable(config.ngram_buckets, config.ngram_width, config.ngram_dropout)
            if config.ngram_buckets
            else None
        )
        has_rank = self.ngrams is not None and config.ngram_rank > 0
        self.n2o = nn.Linear(config.ngram_rank, config.rows, bias=False) if has_rank else None
        if config.label_groups:
            self.places: Tensor  # as floats, like all that is stored
            self.register_buffer("places", torch.arange(config.outputs, dtype=torch.float32))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, ids: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return logits, float ``(B, L)``, of integer ids ``(B, T)``, T ≥ 1, ``PAD`` (0) behind
        each name's end. ``lengths`` is int64 ``(B,)``, None when all are T; an empty name is one
        step of padding."""
        return self.states_and_logits(ids, lengths, every_state=False)[1]

    def states_and_logits(
        self, ids: Tensor, lengths: Tensor | None = None, *, every_state: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Return the states h_1 … h_T, ``(B, T, H)``, and the logits, ``(B, L)``. A name's last
        state is repeated through its padding; ``every_state=False`` returns the last states,
        ``(B, 1, H)``."""
        lengths = None if lengths is None else lengths.clamp(min=1)
        ids = ids.long()
        hidden, features = self._recur(ids, lengths, every_state)
        logits = self.h2o(features)
        if self.ngrams is not None:
            sums = self.ngrams(ids, lengths)
            logits = logits + (sums if self.n2o is None else self.n2o(sums))
        return hidden, self.label_logits(logits)

    def label_logits(self, rows: Tensor) -> Tensor:
        """Return the logits, ``(B, K)``, that the rows of ``h2o`` and ``n2o`` add up to,
        ``(B, G + G·S)`` with groups of labels, else ``(B, K)``."""
        if not (G := self.config.label_groups):
            return rows
        within = in_use = rows[:, G:].view(len(rows), G, -1)
        if (places := rows.shape[1] - G) > self.config.outputs:  # of the last, some have no output
            free = torch.arange(places, device=rows.device) >= self.config.outputs
            in_use = within.masked_fill(free.view(G, -1), -torch.inf)
        offset = rows[:, :G] - in_use.logsumexp(dim=2)
        return (within + offset[:, :, None]).flatten(1).index_select(1, self.places.long())

    def label_losses(self, ids: Tensor, lengths: Tensor | None, targets: Tensor) -> Tensor:
        """Return the cross-entropy of each of B names, ``(B,)``, of a network with groups of
        labels, for ids ``(B, T)``, lengths and label ids ``(B,)``: of the group, and of the label
        among those of its group."""
        G, S = self.config.label_groups, self.config.group_size
        ids = ids.long()
        read = [(self._recur(ids, lengths)[1], self.h2o.weight)]
        if self.ngrams is not None and self.n2o is not None:
            read.append((self.ngrams(ids, lengths), self.n2o.weight))
        place = self.places.long()[targets]
        group, slot = place // S, place % S
        order, counts = group.argsort(stable=True), group.bincount(minlength=G)
        rank = (
            torch.arange(len(group), device=group.device)
            - (counts.cumsum(0) - counts)[group[order]]
        )
        most = int(counts.max())  # names of one group: they are a matrix, of zeros behind the names
        cells = torch.empty_like(group).index_copy(0, order, group[order] * most + rank)
        bias = self.h2o.bias
        of_group, within = bias[:G], bias[G:].view(G, 1, S)
        for features, weight in read:
            of_group = of_group + F.linear(features, weight[:G])
            padded = features.new_zeros(G * most, features.shape[1]).index_copy(0, cells, features)
            grid = weight[G:].view(G, S, -1).transpose(1, 2)
            within = within + torch.bmm(padded.view(G, most, -1), grid)
        own = within.reshape(G * most, S).index_select(0, cells)
        free = group[:, None] * S + torch.arange(S, device=group.device) >= self.config.outputs
        loss_within = F.cross_entropy(own.masked_fill(free, -torch.inf), slot, reduction="none")
        return F.cross_entropy(of_group, group, reduction="none") + loss_within

    @torch.no_grad()
    def sharpen(self, temperature: float) -> None:
        """Divide what the rows of ``h2o`` and ``n2o`` give by a temperature, for good."""
        for layer in filter(None, (self.h2o, self.n2o)):
            for parameter in layer.parameters():
                parameter.div_(temperature)

    def _recur(
        self, ids: Tensor, lengths: Tensor | None, every_state: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return the states as ``states_and_logits`` does, and what ``h2o`` reads, ``(B, H)``."""
        hidden = self.forward_rnn(self._inputs(ids), lengths, every_state)
        return hidden, self.dropout(hidden[:, -1])

    def projected_symbols(self) -> Tensor:
        """Return x2h(x) for padding and every symbol, ``(V + 1, H)``."""
        x2h = self.forward_rnn.cell.x2h
        if self.embedding is not None:
            return x2h(self.embedding.weight)  # type: ignore[no-any-return]
        return F.pad(x2h.weight.T, (0, 0, 1, 0)) + x2h.bias  # row 0 is padding

    def _inputs(self, ids: Tensor) -> Tensor:
        """Return x2h(x_t) for every character, ``(B, T, H)``."""
        x2h = self.forward_rnn.cell.x2h
        if self.embedding is not None and self.training and self.config.input_dropout:
            mask = self.embedding.weight.new_ones(len(ids), 1, self.config.embedding_size)
            mask = F.dropout(mask, self.config.input_dropout)  # one per name
            projected: Tensor = x2h(self.embedding(ids) * mask)
            return projected
        return F.embedding(ids, self.projected_symbols())


def to_stored(weights: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Return a state dict as it is stored: the n-gram table, most of a model's bytes, is reduced to
    its nonzero rows and their numbers ``ngrams.rows``, int32 ``(rows,)``; these in half precision,
    or with 8 bits as int8 times 2 to the power ``ngrams.exponents``, int8 ``(rows,)``."""
    stored = {name: tensor.contiguous() for name, tensor in weights.items()}
    if "ngrams.weight" in stored:
        table = stored["ngrams.weight"].half()
        rows = table.any(dim=1).nonzero()[:, 0]
        values = table[rows]
        if config.ngram_bits == 8:
            # The largest number of a row becomes 64 to 127, so storing twice changes nothing.
            exponents = (values.float().abs().amax(dim=1) / 127).log2().ceil()
            values = (values.float() / exponents.exp2()[:, None]).round().to(torch.int8)
            stored["ngrams.exponents"] = exponents.to(torch.int8)
        stored |= {"ngrams.weight": values, "ngrams.rows": rows.int()}
    return stored


def from_stored(stored: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Return the state dict in float32: the inverse of ``to_stored`` but for its rounding."""
    sparse = {"ngrams.weight", "ngrams.rows", "ngrams.exponents"}
    weights = {name: tensor.float() for name, tensor in stored.items() if name not in sparse}
    if "ngrams.rows" in stored:
        values, rows = stored["ngrams.weight"], stored["ngrams.rows"].long()
        scales = stored.get("ngrams.exponents", torch.zeros(len(rows))).float().exp2()
        table = torch.zeros(config.ngram_buckets, config.ngram_width)
        weights["ngrams.weight"] = table
        for first in range(0, len(rows), 2**14):  # in parts: with many labels a copy is large
            part = slice(first, first + 2**14)
            table[rows[part]] = values[part].float() * scales[part, None]
    return weights


def blank_network(config: ModelConfig) -> CharRNN:
    """Return a network without storage (on the ``meta`` device), to assign weights to; the global
    random generator is not used."""
    with torch.device("meta"), _NoInitialWeights():
        return CharRNN(config)


class _NoInitialWeights(TorchFunctionMode):
    """Skips ``nn.init``: on the ``meta`` device it draws nothing, and costs torch a second of
    imports."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return named["tensor"] if "tensor" in named else args[0]
        return func(*args, **named)
