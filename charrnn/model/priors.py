"""Other tables have other label shares: say which, or estimate them with a guard, and correct.

A classifier's probabilities carry the label shares of its training names. Where a table's shares
are known, ``p'(y|x) ∝ p(y|x) * share(y) / training_share(y)`` is exact (Saerens, Latinne &
Decaestecker 2002, "Adjusting the Outputs of a Classifier to New a Priori Probabilities"), as long
as only the shares differ and not what the names of one label look like.

Where they are not known they can be estimated, and an estimate can do harm: maximum likelihood
(the EM of Saerens et al.) chases the model's calibration errors in the rare labels and costs about
a point of accuracy on a table that needs no correction. So ``estimate_prior`` is a maximum a
posteriori estimate of ``theta``, where shares are ``training share * exp(theta)``, normalised. The
prior of theta is a Student t around 0: labels keep their relative shares unless the names say
otherwise, and one label, or a few, may move far. Its scale is chosen by marginal likelihood
(empirical Bayes, Laplace's approximation), which finds no freedom on a table like the training
names. Names count as ``1 / (1 / different names + 1 / validation names)``: no table, however long,
says more about shares than the validation names say about the model.

What is compared is the table with the validation names, not with the training shares: likelihoods
are ``p(y|x) / mean validation p(y)``, so that a label the model over-predicts everywhere is no sign
of a shift. Without that, the over-confident vanilla network loses 8-10 points on unshifted tables,
as a rare label takes over the label it is confused with. The estimate is then put as weights on the
training shares, which are the right base also for presets trained with a logit adjustment tau,
whose logits tend to ``shares ** (1 - tau)``: after calibration the default (tau 0.2) gives Russian
a mean validation probability of 0.508, at a training share of 0.521; ``shares ** 0.8`` has 0.406.
"""

from __future__ import annotations

__all__ = ["PriorEstimate", "corrected", "correction", "estimate_prior", "parse_prior"]

import csv
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from charrnn.errors import ConfigError, InputMissingError, did_you_mean
from charrnn.model.calibration import Floats, LabelIds, wilson_interval

MODES = ("train", "uniform", "estimate")
MIN_ROWS = 100
MIN_DISTINCT = 30  # effective number of different names
MIN_VALIDATION = 100
MAX_ROWS = 10_000  # beyond, the validation names are the limit; more rows only cost time
MIN_LOG_BAYES_FACTOR = 3.0
MAX_CONFIDENCE_GAP = 0.1
MAX_RESIDUAL = 0.2
BOOTSTRAPS = 100
INTERVAL = 0.9

_DEGREES = 2.0
_SCALES = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5)
_INTERVAL_SCALE = 1.5
_INTERVAL_Z = 1.644854  # of INTERVAL


@dataclass(frozen=True)
class PriorEstimate:
    """Estimated label shares of a table, or why there are none.

    Attributes:
        shares: L shares, summing to 1: the estimate, or the training shares where it is refused.
        low, high: L ends of bootstrapped 90 % intervals, ``low <= shares <= high``; 0 and 1 where
            nothing could be estimated.
        refused: empty where the shares are an estimate, else one sentence that says why not; it
            names no name.
        rows: names it was estimated from, duplicates counted (a sample of longer tables).
    """

    shares: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    refused: str
    rows: int

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def parse_prior(
    text: str, labels: Sequence[str]
) -> Literal["train", "uniform", "estimate"] | tuple[float, ...]:
    """Return what the option ``--prior TEXT`` asks for: a mode, or L shares read from a file.

    A file is CSV with the columns ``language`` and ``share`` (the header is required, others are
    ignored). Labels it leaves out get share 0; shares are normalised to sum to 1.

    Raises:
        InputMissingError: neither a mode nor a file.
        ConfigError: the file is not such a table; all of its problems are reported together.
    """
    if text in MODES:
        return text  # type: ignore[return-value]
    path = Path(text)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True, skipinitialspace=True)
            missing = {"language", "share"} - set(rows.fieldnames or ())
            if missing:
                raise ConfigError(
                    f"{path} lacks the column {' and '.join(sorted(missing))}; "
                    "its first line has to be language,share"
                )
            cells = [(rows.line_num, row["language"], row["share"]) for row in rows]
    except OSError as error:
        raise InputMissingError(
            f"prior {text!r} is neither {', '.join(MODES)} nor a file that can be read"
            f"{did_you_mean(text, MODES)}; a file is CSV with the columns language,share"
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} is not a UTF-8 CSV file: {error}") from error
    return _shares_of(path, cells, labels)


def _shares_of(
    path: Path, cells: list[tuple[int, str | None, str | None]], labels: Sequence[str]
) -> tuple[float, ...]:
    """Return normalised shares in the order of ``labels``, refusing all problems at once."""
    found: dict[str, float] = {}
    problems = []
    for line, language, share in cells:
        label = (language or "").strip()
        try:
            value = float(share or "")
        except ValueError:
            value = math.nan
        if label not in labels:
            problems.append(
                f"line {line}: {label!r} is not a label of the model{did_you_mean(label, labels)}"
            )
        elif label in found:
            problems.append(f"line {line}: {label!r} appears twice")
        elif not (math.isfinite(value) and value >= 0):
            problems.append(f"line {line}: share {share!r} of {label!r} is not a number from 0 up")
        found.setdefault(label, value)
    if problems:
        raise ConfigError(f"{path}: {'; '.join(problems)}")
    largest = max(found.values(), default=0.0)
    if largest == 0:
        raise ConfigError(f"{path} has no share above 0; give at least one language a share")
    shares = np.array([found.get(label, 0.0) for label in labels]) / largest
    return tuple((shares / shares.sum()).tolist())


def correction(shares: npt.ArrayLike, train_priors: npt.ArrayLike) -> Floats:
    """Return the weights that turn probabilities under the training shares into probabilities
    under ``shares``: ``w_y = share_y / train_prior_y``, float64 ``(L,)``, the largest scaled to 1.

    A label with training share 0 was never learned and gets weight 0.

    Raises:
        ConfigError: lengths differ, a value is negative or not finite, or no weight is above 0.
    """
    new, old = np.asarray(shares, np.float64), np.asarray(train_priors, np.float64)
    if new.shape != old.shape or new.ndim != 1:
        raise ConfigError(f"{new.size} shares do not fit {old.size} training shares")
    for values in (new, old):
        if not (np.isfinite(values).all() and (values >= 0).all()):
            raise ConfigError("shares have to be finite and not negative")
    weights = np.divide(new, old, out=np.zeros_like(new), where=old > 0)
    largest = float(weights.max(initial=0.0))
    if largest <= 0:
        raise ConfigError("no label has both a share above 0 and training names")
    scaled: Floats = weights / largest
    return scaled


def corrected(probabilities: npt.ArrayLike, weights: npt.ArrayLike) -> Floats:
    """Return ``probabilities`` ``(N, L)`` times ``weights`` ``(L,)``, rows summing to 1, float64.

    A row with no probability left under the weights keeps its uncorrected probabilities.
    """
    before = np.asarray(probabilities, np.float64)
    after = before * np.asarray(weights, np.float64)
    totals = after.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled: Floats = np.where(totals > 0, after / totals, before)
    return scaled


def estimate_prior(
    probabilities: npt.ArrayLike,
    validation_probabilities: npt.ArrayLike,
    validation_label_ids: LabelIds,
    train_priors: npt.ArrayLike,
    *,
    seed: int = 0,
) -> PriorEstimate:
    """Estimate the label shares of a table from its calibrated probabilities, or refuse.

    Refused, in this order: too few names; no evidence that the shares differ from the training
    shares (log Bayes factor below ``MIN_LOG_BAYES_FACTOR``); names unlike the training names, whose
    predictions no mixture of the validation names of the labels explains; a correction that loses
    accuracy on the validation names when they are weighted to the estimated shares.

    Args:
        probabilities: ``(N, L)``, rows summing to 1, uncorrected; N may be 0. Of more than
            ``MAX_ROWS`` rows a sample is used.
        validation_probabilities: ``(M, L)``, of the same model and temperature.
        validation_label_ids: int64 ``(M,)``.
        train_priors: L label shares of the training names. A label with share 0 keeps it.
        seed: decides the sample and the bootstrap; the same inputs and seed give the same result.
    """
    rng = np.random.default_rng(seed)
    train = np.asarray(train_priors, np.float64)
    held_out = np.asarray(validation_probabilities, np.float64)
    sample = np.asarray(probabilities, np.float64)
    if len(sample) > MAX_ROWS:
        sample = sample[np.sort(rng.choice(len(sample), MAX_ROWS, replace=False))]
    rows = len(sample)
    distinct, counts = _distinct(sample)
    effective = rows**2 / max(1, int((counts**2).sum()))
    if refused := _too_little(rows, effective, len(held_out)):
        nothing = tuple(np.zeros(len(train)).tolist()), tuple(np.ones(len(train)).tolist())
        return PriorEstimate(tuple(train.tolist()), *nothing, refused, rows)
    evidence = 1 / (1 / effective + 1 / len(held_out))
    table = _Table(distinct, counts, evidence, _base(held_out, train))
    theta, log_bayes_factor = table.empirical_bayes()
    shares = _shifted(train, theta)
    low, high = _intervals(distinct, counts, evidence, held_out, train, theta, rng)
    if log_bayes_factor < MIN_LOG_BAYES_FACTOR:
        refused = "the names do not show label shares other than those of the training names"
    else:
        refused = _unexplained(table, held_out, validation_label_ids, shares) or _harmful(
            held_out, validation_label_ids, shares, train
        )
    used = train if refused else shares
    return PriorEstimate(
        shares=tuple(used.tolist()),
        low=tuple(np.minimum(low, used).tolist()),
        high=tuple(np.maximum(high, used).tolist()),
        refused=refused,
        rows=rows,
    )


def _too_little(rows: int, effective: float, validation: int) -> str:
    if rows < MIN_ROWS:
        return f"{rows} names are too few to estimate label shares from; {MIN_ROWS} are needed"
    if effective < MIN_DISTINCT:
        return (
            f"the names repeat so much that they count as {effective:.0f} different ones; "
            f"{MIN_DISTINCT} are needed to estimate label shares"
        )
    if validation < MIN_VALIDATION:
        return (
            f"the model version has {validation} validation names; estimating label shares needs "
            f"{MIN_VALIDATION}"
        )
    return ""


def _distinct(probabilities: Floats) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Return the different rows and how often each occurs: a name that comes a hundred times is
    one piece of evidence about the model, not a hundred."""
    # One random projection orders rows as well as all columns do, and sorts far faster.
    keys = probabilities @ np.random.default_rng(0).random(probabilities.shape[1])
    _, first, counts = np.unique(keys, return_index=True, return_counts=True)
    return probabilities[first], counts.astype(np.int64)


class _Table:
    """The different rows of a table, and fits of its label shares."""

    def __init__(
        self, distinct: Floats, counts: npt.NDArray[np.int64], evidence: float, base: Floats
    ) -> None:
        self.distinct, self.weights = distinct, counts / counts.sum()  # (U, L), (U,)
        self.evidence = evidence  # names that the log-likelihood counts as
        self.base = base  # what theta = 0 stands for, (L,)

    def empirical_bayes(self) -> tuple[Floats, float]:
        """Return theta at the scale with the largest marginal likelihood, and the log of how much
        larger that is than the likelihood of no shift."""
        theta = np.zeros(len(self.base))
        best, best_theta = -math.inf, theta
        for scale in _SCALES:
            theta, value, curvature = self.fit(theta, scale)
            # Laplace: the log-determinant of posterior over prior precision.
            spread = np.linalg.eigvalsh(curvature).clip(min=0) * scale**2
            log_marginal = value - 0.5 * float(np.log1p(spread).sum())
            if log_marginal > best:
                best, best_theta = log_marginal, theta
        return best_theta, best

    def fit(self, start: Floats, scale: float) -> tuple[Floats, float, Floats]:
        """Climb to the maximum a posteriori theta from ``start`` with modified Newton steps.

        Returns:
            theta ``(L,)``; its log-posterior, 0 being that of no shift; and the outer-product
            information about theta in the names, ``(L, L)``.
        """
        ratios = self.distinct / self.base  # (U, L), p(x|y) up to a factor for each row

        def log_posterior(theta: Floats) -> float:
            likelihood = self.evidence * float(
                self.weights @ np.log(ratios @ _shifted(self.base, theta))
            )
            spread = float(np.log1p(theta**2 / (_DEGREES * scale**2)).sum())
            return likelihood - (_DEGREES + 1) / 2 * spread

        theta, value = start, log_posterior(start)
        information = np.zeros((len(theta), len(theta)))
        for _ in range(100):
            shares = _shifted(self.base, theta)
            belief = ratios * shares  # (U, L), p(y|x) under these shares
            belief /= belief.sum(axis=1, keepdims=True)
            mean, outer = self.weights @ belief, (belief * self.weights[:, None]).T @ belief
            information = self.evidence * (outer - np.outer(shares, shares))
            pull = (_DEGREES + 1) / (_DEGREES * scale**2 + theta**2)
            gradient = self.evidence * (mean - shares) - pull * theta
            curvature = self.evidence * (
                np.diag(shares - mean) + outer - np.outer(shares, shares)
            ) + np.diag(pull)
            # Far from the top the curvature may be negative: its size still sets the step.
            values, axes = np.linalg.eigh(curvature)
            step = axes @ ((axes.T @ gradient) / np.maximum(np.abs(values), 0.3))
            length = min(1.0, 3 / max(float(np.abs(step).max()), 1e-12))
            while (reached := log_posterior(theta + length * step)) < value and length > 1e-4:
                length /= 2
            if reached < value + 1e-7:
                break
            theta, value = theta + length * step, reached
        return theta, value, information


def _shifted(base: Floats, theta: Floats) -> Floats:
    """Return ``base * exp(theta)``, normalised, ``(L,)``."""
    shares = base * np.exp(theta - theta.max())
    normalised: Floats = shares / shares.sum()
    return normalised


def _base(held_out: Floats, train: Floats) -> Floats:
    """Return the mean validation probability ``(L,)``; one name's worth of the training shares and
    of the uniform keeps a label above 0 that validation names do not show."""
    total = held_out.sum(axis=0) + train / 2 + 0.5 / len(train)
    normalised: Floats = total / total.sum()
    return normalised


def _intervals(
    distinct: Floats,
    counts: npt.NDArray[np.int64],
    evidence: float,
    held_out: Floats,
    train: Floats,
    theta: Floats,
    rng: np.random.Generator,
) -> tuple[Floats, Floats]:
    """Return the ends of the intervals ``(L,)``: names and validation names are both resampled,
    and the prior is loose, since a tight one would hide what the names do not say. Wilson's
    interval for as many names as the evidence counts as is the least width."""
    draws = np.empty((BOOTSTRAPS, len(theta)))
    U, M = len(counts), len(held_out)
    for draw in draws:
        base = _base(held_out[rng.integers(0, M, M)], train)
        again = counts * np.bincount(rng.integers(0, U, U), minlength=U)
        kept = again > 0
        table = _Table(distinct[kept], again[kept], evidence, base)
        draw[:] = _shifted(train, table.fit(theta, _INTERVAL_SCALE)[0])
    tail = (1 - INTERVAL) / 2
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
    names = max(1, round(evidence))
    found = _shifted(train, theta).tolist()
    least = np.array([wilson_interval(round(s * names), names, _INTERVAL_Z) for s in found])
    low, high = np.minimum(low, least[:, 0]), np.maximum(high, least[:, 1])
    # Ends that are 0 and 1 but for rounding errors.
    return np.where(low < 1e-9, 0.0, low), np.where(high > 1 - 1e-9, 1.0, high)


def _unexplained(table: _Table, held_out: Floats, label_ids: LabelIds, shares: Floats) -> str:
    """Return why the table's predictions are not those of a mixture of the labels, or ""."""
    weights = _importance(label_ids, shares)
    seen, expected = table.weights @ table.distinct, weights @ held_out
    residual = float(np.abs(seen - expected).sum() / 2)
    sure = float(table.weights @ table.distinct.max(axis=1))
    gap = float(weights @ held_out.max(axis=1)) - sure
    if gap > MAX_CONFIDENCE_GAP or residual > MAX_RESIDUAL:
        return (
            f"the names are unlike the training names: mean confidence {sure:.2f} where such "
            f"labels have {sure + gap:.2f}, and {residual:.0%} of the predictions unexplained"
        )
    return ""


def _harmful(held_out: Floats, label_ids: LabelIds, shares: Floats, train: Floats) -> str:
    """Return why the correction would lose accuracy under the shares it is made for, or ""."""
    weights = _importance(label_ids, shares)
    before = held_out.argmax(axis=1) == label_ids
    after = corrected(held_out, correction(shares, train)).argmax(axis=1) == label_ids
    gain = float(weights @ (after.astype(float) - before))
    if gain < 0:
        return (
            f"validation names weighted to the estimated label shares lose {-100 * gain:.1f} "
            "points of accuracy by the correction"
        )
    return ""


def _importance(label_ids: LabelIds, shares: Floats) -> Floats:
    """Return weights ``(M,)``, summing to 1, that give validation names these label shares."""
    counts = np.bincount(label_ids, minlength=len(shares))
    weights = (shares / np.maximum(counts, 1))[label_ids]
    normalised: Floats = weights / weights.sum()
    return normalised
