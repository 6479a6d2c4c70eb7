"""Why a name got its answer.

The answer is compared with the runner-up, the label that is second: their *log-odds* are ln(p / q)
of the calibrated probabilities p and q, that is, the difference of their logits over the
temperature, in nats. The network's logits are a sum of one term per n-gram, the recurrence's, and a
bias, so the terms below add up to the log-odds exactly. What is inside the recurrence does not add
up; each character is left out in turn instead, and the whole network answers again. A known name
has one term more, by which the training names change what the network says.
"""

from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor

from charrnn.model.network import CharRNN, NgramTable
from charrnn.model.novelty import name_hashes
from charrnn.model.version import ModelVersion
from charrnn.model.vocabulary import Encoded


@dataclass(frozen=True)
class Term:
    """What the occurrences of an n-gram add to the log-odds."""

    ngram: str
    log_odds: float


@dataclass(frozen=True)
class LeftOut:
    """The network's answer to the name without one character: how much its log-odds of the original
    answer against the original runner-up fall, and what is most probable then."""

    symbol: str
    fall: float
    label: str
    probability: float


@dataclass(frozen=True)
class Explanation:
    """Why a name got its answer; ``log_odds`` are those of the answer against the runner-up.

    Attributes:
        symbols: the name as the network reads it: normalised, between ``^`` and ``$`` where the
            vocabulary marks its ends; ``»`` marks a given name, ``␣`` is a space.
        ranked: the most probable labels and their probabilities, the answer and the runner-up
            first.
        ngrams: the terms of the n-grams, the largest first; empty without an n-gram table.
        recurrence, bias, lists: the other terms, ``lists`` that of the training names, 0 unless the
            name is known; all terms add up to ``log_odds``.
        characters: the name without one character each, in order.
    """

    symbols: str
    ranked: tuple[tuple[str, float], ...]
    log_odds: float
    ngrams: tuple[Term, ...]
    recurrence: float
    bias: float
    lists: float
    characters: tuple[LeftOut, ...]


@torch.inference_mode()
def logit_terms(network: CharRNN, ids: Tensor) -> tuple[list[tuple[int, int]], Tensor]:
    """Return the terms of one name's logits: the first position and the order of each of its G
    n-grams, and the terms of these, of the recurrence and of the bias, float ``(G + 2, K)``.

    Args:
        ids: int64 ``(T,)``, boundaries included, on the network's device.
    """
    table, bias = network.ngrams, network.h2o.bias[None]
    states, _ = network.states_and_logits(ids[None], every_state=False)
    rest = torch.cat((network.h2o(states[:, 0]) - bias, bias))
    if table is None:
        return [], rest
    buckets = [row[0] for row in table.buckets(ids[None])]
    places = [(i, n) for n, row in enumerate(buckets, start=1) for i in range(len(row))]
    ngrams = table.weight[torch.cat(buckets)] * (NgramTable.SCALE / len(places) ** 0.5)
    ngrams = ngrams if network.n2o is None else network.n2o(ngrams)
    return places, torch.cat((ngrams, rest))


@torch.inference_mode()
def explanation_of(
    version: ModelVersion, network: CharRNN, encoded: Encoded, top_k: int
) -> Explanation:
    """Explain the answer to the one name in ``encoded``; ``network`` is that of the version, on
    its device."""
    vocabulary, temperature = version.vocabulary, float(version.temperatures(encoded.given)[0, 0])
    ids = torch.from_numpy(encoded.padded()[0][0]).to(network.h2o.weight.device).long()  # (T,)
    marks = {vocabulary.begin: "^", vocabulary.end: "$", vocabulary.given: "»"}
    symbols = [marks.get(i) or vocabulary.symbols[i - 1].replace(" ", "␣") for i in ids.tolist()]
    L = len(version.labels)  # a further output, of words that are no names, takes no part
    logits = network(ids[None])[:, :L]
    log_p = torch.log_softmax(logits.double() / temperature, dim=1)
    answered = version.known_names.mix_into(log_p.clone(), name_hashes(encoded))[0]
    probabilities = answered.exp()
    order = torch.argsort(probabilities, descending=True, stable=True).tolist()
    by_lists = (answered - log_p[0])[order[:2]].tolist()

    def log_odds(logits: Tensor) -> list[float]:
        """Return the log-odds that logits, ``(N, L)``, stand for."""
        pairs = logits[:, order[:2]].double() / temperature
        odds: list[float] = (pairs[:, 0] - pairs[:, 1]).tolist()
        return odds

    [of_network] = log_odds(logits)
    lists = by_lists[0] - by_lists[1]
    places, terms = logit_terms(network, ids)
    *ngrams, recurrence, bias = log_odds(terms)
    of_ngram = defaultdict[str, float](float)
    for (start, n), odds in zip(places, ngrams, strict=True):
        of_ngram["".join(symbols[start : start + n])] += odds
    at = [i for i, symbol in enumerate(ids.tolist()) if symbol not in marks]  # C characters
    shorter = torch.stack([torch.cat((ids[:i], ids[i + 1 :])) for i in at])  # (C, T - 1)
    without = network(shorter if len(ids) > 1 else shorter.new_zeros(1, 1))[:, :L]  # (C, L)
    best = torch.softmax(without / temperature, dim=1).max(dim=1)
    answers = zip(at, log_odds(without), best.indices.tolist(), best.values.tolist(), strict=True)
    return Explanation(
        symbols="".join(symbols),
        ranked=tuple((version.labels[i], float(probabilities[i])) for i in order[: max(2, top_k)]),
        log_odds=of_network + lists,
        ngrams=tuple(Term(*t) for t in sorted(of_ngram.items(), key=lambda t: -abs(t[1]))),
        recurrence=recurrence,
        bias=bias,
        lists=lists,
        characters=tuple(
            LeftOut(symbols[i], of_network - odds, version.labels[label], p)
            for i, odds, label, p in answers
        ),
    )
