"""Label shares of a group of names, with intervals: quantification under prior shift.

EM finds the shares under which the probabilities are most likely; an adjusted count removes what
these still confuse on held-out names; both are repeated ``DRAWS`` times, with what is not known
drawn anew. The share is the mean of the draws, the interval their central 95 %, at least Wilson's.
docs/shares.md has the method and its sources, and shows how often intervals held the truth.

``model.priors`` estimates shares to correct answers by: it shrinks towards no shift, since a wrong
correction costs accuracy; these do not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from charrnn.model.calibration import Floats, LabelIds, fit_temperature, wilson_interval
from charrnn.model.priors import MAX_CONFIDENCE_GAP

DRAWS = 200  # of shares: enough for the ends of a 95 % interval
BIAS = 0.4  # nats, standard deviation of a label's log-odds between lists of names
MIN_NAMES = 30  # distinct names: fewer give intervals too wide to be of use
MIN_HELD_OUT = 100  # names: likewise
MAX_NAMES = 2000  # distinct names: more are sampled, since other errors are larger
ALIKE = 0.38  # mean probability of the other one of two labels: 0.5 where they are the same
LOOKS_LIKE = 0.3  # of the mean probability that own names give the better known of the two
ALIKE_SHARE = 0.05  # of two labels together, from which on it matters that they are alike

_MOST_LABELS = 60  # with the largest mean probability: others have no share
_SHARPEST = 1.4  # of the temperature that fits the held-out names: names that were learned
_SHARPNESS = 4  # values of it
_EM_STEPS, _COUNT_STEPS = 150, 300  # at most


@dataclass(frozen=True)
class Group:
    """N distinct names of a group; of many, a sample: see ``sampled``.

    Attributes:
        probabilities: of the model, calibrated, uncorrected, float64 ``(N, L)``.
        rows: how many rows have each name, or their weight, float64 ``(N,)``.
        pairs: whether a surname and a given name were scored, bool ``(N,)``.
    """

    probabilities: Floats
    rows: Floats
    pairs: npt.NDArray[np.bool_]


def sampled(rows: Floats, seed: int = 0) -> tuple[npt.NDArray[np.int64], Floats]:
    """Return the positions of at most ``MAX_NAMES`` of N distinct names and the rows that they
    stand for, by the ``rows`` ``(N,)`` of each: half of them the most frequent, the others drawn
    from the rest."""
    order, half = np.argsort(-rows, kind="stable"), MAX_NAMES // 2
    if len(rows) <= MAX_NAMES:
        return order, rows[order]
    rest = np.random.default_rng(seed).choice(order[half:], half, replace=False)
    scale = rows[order[half:]].sum() / max(rows[rest].sum(), 1e-300)
    chosen = np.concatenate((order[:half], rest))
    return chosen, np.concatenate((rows[order[:half]], rows[rest] * scale))


@dataclass(frozen=True)
class Shares:
    """Estimated label shares of a group.

    Attributes:
        share, low, high: ``(L,)`` each, ``low <= share <= high``; shares sum to 1.
        expected: mean probability of each label, uncorrected, ``(L,)``.
        draws: shares ``(DRAWS, L)``; those of two groups belong together draw by draw.
        alike: of each label, the labels that it cannot be told apart from in this group.
        refused: why the data cannot say, one sentence; "" where they can.
    """

    share: Floats
    low: Floats
    high: Floats
    expected: Floats
    draws: Floats
    alike: Sequence[Sequence[int]]
    refused: str = ""


class Quantifier:
    """Estimates the label shares of groups of names from one model.

    Args:
        probabilities: calibrated, of M held-out names, ``(M, L)``.
        label_ids: their labels, int64 ``(M,)``.
        assumed: the label shares that the probabilities assume, ``(L,)``.
        pair_exponent: see ``ModelDescription``.
        seed: equal seeds and groups give equal shares.
    """

    def __init__(
        self,
        probabilities: Floats,
        label_ids: LabelIds,
        assumed: Floats,
        pair_exponent: float = 1.0,
        seed: int = 0,
    ) -> None:
        self.label_ids, self.assumed, self.seed = label_ids, np.maximum(assumed, 1e-9), seed
        rng = np.random.default_rng(seed)
        partner = np.empty(len(label_ids), np.int64)  # another name of the same label
        for label in np.unique(label_ids):
            rows = np.flatnonzero(label_ids == label)
            partner[rows] = rng.permutation(rows)
        log_p = np.log(np.maximum(probabilities, 1e-12))
        joint = pair_exponent * (log_p + log_p[partner] - np.log(self.assumed))
        self.log_p = log_p, joint - np.log(np.exp(joint).sum(axis=1, keepdims=True))  # (M, L)
        L, M = len(assumed), len(label_ids)
        self.corrected = rng.random(DRAWS)  # how far confusions are corrected
        self.bias = rng.normal(0, BIAS, (DRAWS, L))
        self.weights = rng.exponential(size=(DRAWS, M))  # of the held-out names

    @cached_property
    def sharpness(self) -> tuple[Floats, Floats]:
        """The exponents of the probabilities of names of one part and of two, ascending."""
        best = (1 / fit_temperature(log_p, self.label_ids) for log_p in self.log_p)
        one, two = (np.linspace(1, max(1.0, _SHARPEST * top), _SHARPNESS) for top in best)
        return one, two

    @cached_property
    def overlaps(self) -> tuple[Floats, Floats]:
        """How alike two labels are, ``(L, L)``, for names of one part and of two: the mean
        probability of the other one, of the two, for their held-out names. 0 where names of the
        less known one do not look like the other's: of a label that the model hardly ever gives,
        every other one is the more probable."""
        one, two = (self._overlap(log_p) for log_p in self.log_p)
        return one, two

    def _overlap(self, log_p: Floats) -> Floats:
        L = log_p.shape[1]
        overlap, mean = np.zeros((L, L)), np.zeros((L, L))
        for label in np.unique(self.label_ids):
            p = np.exp(log_p[self.label_ids == label])
            overlap[label] = (p / (p + p[:, [label]])).mean(axis=0)
            mean[label] = p.mean(axis=0)
        own = mean.diagonal()
        looks = mean / np.maximum(own, 1e-12)  # names of the row, like those of the column
        looks = np.where(own[:, None] <= own, looks, looks.T)
        both: Floats = np.where(looks >= LOOKS_LIKE, (overlap + overlap.T) / 2, 0)
        np.fill_diagonal(both, 0)
        return both

    def shares(self, group: Group, seed: int = 0) -> Shares:
        """Estimate the shares of a group; ``seed`` is that of its names' bootstrap. Where there are
        too few names, the intervals are 0 to 1, and there are no draws."""
        L, total = len(self.assumed), max(float(group.rows.sum()), 1e-300)
        expected = group.rows @ group.probabilities / total
        if refused := self._too_few(len(group.rows)):
            nothing = np.zeros((0, L))
            return Shares(expected, np.zeros(L), np.ones(L), expected, nothing, [()] * L, refused)
        labels = np.sort(np.argsort(-expected, kind="stable")[:_MOST_LABELS])
        draws = np.zeros((DRAWS, L))
        draws[:, labels] = self._draws(group, labels, (self.seed, seed))
        share = draws.mean(axis=0)
        low, high = np.quantile(draws, [0.025, 0.975], axis=0)
        effective = max(1, round(total**2 / np.square(group.rows).sum()))
        wilson = np.array([wilson_interval(round(s * effective), effective) for s in share])
        low = np.minimum(np.minimum(low, wilson[:, 0]), share)
        return Shares(
            share=share,
            low=np.where(low < 1e-9, 0.0, low),  # a rounding error
            high=np.maximum(np.maximum(high, wilson[:, 1]), share),
            expected=expected,
            draws=draws,
            alike=self._alike(share, float(group.rows @ group.pairs) / total),
            refused=self._unlike(group, share),
        )

    def _too_few(self, names: int) -> str:
        """Return which number of names is too small for an estimate, or ""."""
        if names < MIN_NAMES:
            return f"shares need ≥ {MIN_NAMES} distinct names, got {names}"
        if len(self.label_ids) < MIN_HELD_OUT:
            return (
                f"shares need a model with ≥ {MIN_HELD_OUT} held-out names, got "
                f"{len(self.label_ids)}"
            )
        return ""

    def _draws(self, names: Group, labels: npt.NDArray[np.int64], seed: tuple[int, int]) -> Floats:
        """Return draws of the shares of K labels, ``(DRAWS, K)``."""
        rng, K = np.random.default_rng(seed), len(labels)
        log_p = np.log(np.maximum(names.probabilities[:, labels], 1e-12))
        drawn = names.rows * rng.exponential(size=(DRAWS, len(names.rows)))  # (DRAWS, N)
        drawn /= drawn.sum(axis=1, keepdims=True)
        paired = drawn @ names.pairs  # share of names of two parts, (DRAWS,)
        assumed, start = self.assumed[labels], np.full((1, K), 1 / K)
        shares = np.empty((DRAWS, K))
        for level in range(_SHARPNESS):
            rows = np.arange(level, DRAWS, _SHARPNESS)
            exponents = [sharpness[level] for sharpness in self.sharpness]
            exponent = np.where(names.pairs, exponents[1], exponents[0])[:, None]
            likelihood = np.exp(exponent * log_p) / assumed
            all_rows = names.rows[None] / names.rows.sum()
            start = _mixed(mixture_shares(likelihood, all_rows, start, _EM_STEPS), 1e-4)
            pilot = np.repeat(start, len(rows), 0)
            shifted = mixture_shares(likelihood, drawn[rows], pilot, _EM_STEPS)
            confusion = self._confusion(labels, exponents, rows, start[0], paired[rows])
            part = self.corrected[rows, None, None]
            confusion = part * confusion + (1 - part) * np.eye(K)
            found = mixture_shares(confusion, shifted, _mixed(shifted, 1e-3), _COUNT_STEPS)
            shares[rows] = found * np.exp(self.bias[rows][:, labels])
        normalised: Floats = shares / shares.sum(axis=1, keepdims=True)
        return normalised

    def _confusion(
        self, labels: LabelIds, exponents: Sequence[float], rows: LabelIds, shares: Floats,
        paired: Floats,
    ) -> Floats:  # fmt: skip
        """Return the mean probabilities of the held-out names of each of K labels (row) under
        ``shares`` ``(K,)``, by the weights of the B draws ``rows``, ``(B, K, K)``; ``paired`` is
        the share of names of two parts, ``(B,)``."""
        K = len(labels)
        confusion = np.tile(np.eye(K), (len(rows), 1, 1))  # a label without names is not confused
        for k, label in enumerate(labels):
            names = np.flatnonzero(self.label_ids == label)
            if not len(names):
                continue
            weights = self.weights[np.ix_(rows, names)]
            weights /= weights.sum(axis=1, keepdims=True)
            one, two = (
                weights @ _posterior(np.exp(exponent * log_p[np.ix_(names, labels)])
                                     / self.assumed[labels], shares)
                for exponent, log_p in zip(exponents, self.log_p, strict=True)
            )  # fmt: skip
            confusion[:, k] = (1 - paired[:, None]) * one + paired[:, None] * two
        return confusion

    def _unlike(self, group: Group, share: Floats) -> str:
        """Return how much less sure the answers are than those of held-out names of such labels, or
        "" where they are not."""
        exponents = [sharpness[1] for sharpness in self.sharpness]
        rows = group.rows / group.rows.sum()
        held_out = np.bincount(self.label_ids, minlength=len(share))
        confidence = expected = 0.0
        for pairs, exponent, log_p in zip((False, True), exponents, self.log_p, strict=True):
            of_kind = group.pairs == pairs
            if not of_kind.any():
                continue
            p, q = (
                _posterior(values**exponent / self.assumed, share + 1e-6).max(axis=1)
                for values in (group.probabilities[of_kind] + 1e-12, np.exp(log_p))
            )
            confidence += float(rows[of_kind] @ p)
            of_label = np.bincount(self.label_ids, q, len(share)) / np.maximum(held_out, 1)
            expected += float(rows[of_kind].sum() * (share @ of_label) / share[held_out > 0].sum())
        if expected - confidence <= MAX_CONFIDENCE_GAP:
            return ""
        return (
            f"the names are unlike the model's: mean confidence {confidence:.2f}, expected "
            f"{expected:.2f} for such labels"
        )

    def _alike(self, share: Floats, paired: float) -> list[list[int]]:
        """Return the labels that each label cannot be told apart from, where it matters."""
        one, two = self.overlaps
        alike = ((1 - paired) * one + paired * two) >= ALIKE
        alike &= share[:, None] + share >= ALIKE_SHARE
        return [np.flatnonzero(row).tolist() for row in alike]


def _mixed(shares: Floats, part: float) -> Floats:
    """Return shares ``(B, K)`` with ``part`` more of each label, so that none is 0."""
    mixed: Floats = (shares + part) / (1 + part * shares.shape[1])
    return mixed


def _posterior(likelihood: Floats, shares: Floats) -> Floats:
    """Return the probabilities ``(N, K)`` of likelihoods ``(N, K)`` under shares ``(K,)``."""
    joint = likelihood * shares
    posterior: Floats = joint / joint.sum(axis=1, keepdims=True)
    return posterior


def mixture_shares(
    likelihood: Floats, weights: Floats, start: Floats, steps: int, least_change: float = 1e-3
) -> Floats:
    """Return the shares ``(B, K)`` of largest likelihood of B mixtures, by EM.

    Args:
        likelihood: of N observations, ``(N, K)``, or of each mixture, ``(B, K, N)``.
        weights: of the observations, ``(B, N)``, summing to 1.
        start: ``(B, K)``, positive.
        steps: at most.
        least_change: of the shares, summed: the end is a step of less.
    """
    shares, own = start, likelihood.ndim == 3
    for _ in range(steps):
        density = (shares[:, None] @ likelihood)[:, 0] if own else shares @ likelihood.T
        ratio = weights / np.maximum(density, 1e-300)
        gain = (likelihood @ ratio[..., None])[..., 0] if own else ratio @ likelihood
        new = shares * gain
        new /= new.sum(axis=1, keepdims=True)
        change = float(np.abs(new - shares).sum(axis=1).max())
        shares = new
        if change < least_change:
            break
    return shares
