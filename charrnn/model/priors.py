"""Label shift: correct probabilities for the label shares of a table, given or estimated.

A classifier's probabilities assume the label shares of its training names. Given a table's shares,
``p'(y|x) ∝ p(y|x) * share(y) / training_share(y)`` is exact (Saerens, Latinne & Decaestecker 2002,
"Adjusting the Outputs of a Classifier to New a Priori Probabilities"), provided that only the
shares differ and not the distribution of names within a label.

Maximum likelihood (the EM of Saerens et al.) fits the model's calibration errors in rare labels and
costs about a point of accuracy on a table without a shift. ``estimate_prior`` is therefore a
maximum a posteriori estimate of ``theta``, with shares ``training share * exp(theta)``, normalised.
The prior of theta is a Student t around 0, which favours no shift but allows a large one of a few
labels; its scale maximises the marginal likelihood (empirical Bayes, Laplace's approximation). The
likelihood counts as many names as ``1 / (1 / distinct names + 1 / validation names)``: a table,
however long, cannot be more certain about shares than the validation names are about the model.

Likelihoods are ``p(y|x) / mean validation p(y)``, so that a label the model always over-predicts is
not mistaken for a shift: else the over-confident seed network loses 8-10 points on tables without a
shift.
"""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from charrnn.errors import ConfigError, InputMissingError, did_you_mean
from charrnn.files import open_file
from charrnn.model.calibration import Floats, LabelIds, wilson_interval
from charrnn.model.labels import LANGUAGE, first_labels

MODES = ("train", "uniform", "estimate")
MIN_ROWS = 100  # names: fewer give intervals too wide to be of use
MIN_DISTINCT = 30  # effective number of distinct names: likewise
MIN_VALIDATION = 100  # names: likewise
MAX_ROWS = 10_000  # names: more cost time only, since the validation names limit the precision
MIN_LOG_BAYES_FACTOR = 3.0  # nats for a shift: 20 to 1, "strong" (Kass & Raftery 1995)
MAX_CONFIDENCE_GAP = 0.1  # of mean confidence below that of validation names of such labels
MAX_RESIDUAL = 0.2  # of the predictions, total variation distance from a mixture of the labels
BOOTSTRAPS = 100  # resamples: enough for the ends of a 90 % interval
INTERVAL = 0.9  # coverage of the intervals of the shares

_MAX_FILE_BYTES = 2**20  # of a file of label shares
_DEGREES = 2.0  # of freedom of the Student t: heavy tails, finite mean
_SCALES = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5)  # of theta in nats, tried in this order
_INTERVAL_SCALE = 1.5  # of theta: the loosest, so that intervals show what the names leave open
_INTERVAL_Z = 1.644854  # standard normal quantile of INTERVAL
_MAX_STEPS = 100  # Newton steps: a fit that has not converged by then ends
_MAX_STEP = 3.0  # nats: the largest change of theta in a step
_MIN_CURVATURE = 0.3  # keeps the step finite along flat directions
_MIN_GAIN = 1e-7  # nats: a fit has converged when a step gains less


@dataclass(frozen=True)
class PriorEstimate:
    """Estimated label shares of a table, or the reason why there is no estimate.

    Attributes:
        shares: L shares, summing to 1: the estimate, or the training shares when it is refused.
        low, high: ends of bootstrapped 90 % intervals, L each, ``low <= shares <= high``; 0 and 1
            when there are too few names.
        refused: reason for the refusal, one sentence that contains no name; empty when the shares
            are an estimate.
        rows: names used, duplicates included.
    """

    shares: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    refused: str
    rows: int


def parse_prior(
    text: str, labels: Sequence[str], label_name: str = LANGUAGE
) -> Literal["train", "uniform", "estimate"] | tuple[float, ...]:
    """Return ``text`` when it is a mode, else the L shares in the CSV file at the path ``text``.

    The file has the columns ``label_name`` and ``share`` (the header is required, other columns are
    ignored). Labels that are not in it get share 0; shares are normalised to sum to 1.

    Raises:
        InputMissingError: ``text`` is neither a mode nor a readable file.
        ConfigError: the file is not such a table; all of its problems are reported.
    """
    if text in MODES:
        return text  # type: ignore[return-value]
    path = Path(text)
    try:
        with open_file(path, links=True) as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        raise InputMissingError(
            f"prior must be {', '.join(MODES)} or a readable CSV file with the columns "
            f"{label_name},share, got {text[:200]!r}{did_you_mean(text[:200], MODES)}",
            option="prior",
        ) from error
    if len(content) > _MAX_FILE_BYTES:
        raise ConfigError(f"{path} is too large for a file of label shares", option="prior")
    try:
        rows = csv.DictReader(
            io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True, skipinitialspace=True
        )
        missing = {label_name, "share"} - set(rows.fieldnames or ())
        if missing:
            raise ConfigError(
                f"{path} lacks the column {' and '.join(sorted(missing))}; "
                f"its first line must be {label_name},share",
                option="prior",
            )
        cells = [(rows.line_num, row[label_name], row["share"]) for row in rows]
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not a UTF-8 CSV file", option="prior") from None
    except csv.Error as error:
        raise ConfigError(f"{path} is not a UTF-8 CSV file: {error}", option="prior") from None
    return _shares_of(path, cells, labels)


def _shares_of(
    path: Path, cells: list[tuple[int, str | None, str | None]], labels: Sequence[str]
) -> tuple[float, ...]:
    """Return normalised shares in the order of ``labels``; ``cells`` are ``(line, label,
    share)``. Raises ConfigError with all problems, by line; cells are not quoted, since the file
    may be another than was meant."""
    share_of: dict[str, float] = {}
    lines: dict[str, list[int]] = {"unknown": [], "twice": [], "share": []}
    for line, cell, share in cells:
        label = (cell or "").strip()
        try:
            value = float(share or "")
        except ValueError:
            value = math.nan
        if label not in labels:
            lines["unknown"].append(line)
        elif label in share_of:
            lines["twice"].append(line)
        elif not (math.isfinite(value) and value >= 0):
            lines["share"].append(line)
        share_of.setdefault(label, value)
    known = first_labels(labels)
    what = {
        "unknown": f"no label of the model; it has {known}",
        "twice": "a label that an earlier line has",
        "share": "a share that is not a number ≥ 0",
    }
    problems = [f"{_line_numbers(found)} {what[kind]}" for kind, found in lines.items() if found]
    if problems:
        raise ConfigError(f"{path}: {'; '.join(problems)}", option="prior")
    largest = max(share_of.values(), default=0.0)
    if largest == 0:
        raise ConfigError(
            f"{path} has no share above 0; at least one label needs one", option="prior"
        )
    shares = np.array([share_of.get(label, 0.0) for label in labels]) / largest
    return tuple((shares / shares.sum()).tolist())


def _line_numbers(lines: list[int]) -> str:
    """Return ``"line 2 has"`` or ``"3 lines (2, 3, 7) have"``; at most five numbers."""
    if len(lines) == 1:
        return f"line {lines[0]} has"
    more = ", …" if lines[5:] else ""
    return f"{len(lines)} lines ({', '.join(map(str, lines[:5]))}{more}) have"


def correction(shares: npt.ArrayLike, train_priors: npt.ArrayLike) -> Floats:
    """Return the weights that change probabilities under the training shares into probabilities
    under ``shares``: ``share / training share``, float64 ``(L,)``, scaled so that the largest is 1.
    Both arguments are ``(L,)``. A label with training share 0 was not learned and gets weight 0.

    Raises:
        ConfigError: lengths differ, a value is negative or not finite, or no weight is above 0.

    >>> correction([0.5, 0.5], train_priors=[0.8, 0.2]).tolist()
    [0.25, 1.0]
    """
    new, old = np.asarray(shares, np.float64), np.asarray(train_priors, np.float64)
    if new.shape != old.shape or new.ndim != 1:
        raise ConfigError(f"prior must have {old.size} shares, one per label, got {new.size}")
    for values in (new, old):
        invalid = values[~(np.isfinite(values) & (values >= 0))]
        if len(invalid):
            raise ConfigError(f"shares must be finite and ≥ 0, got {invalid[0]}")
    weights = np.divide(new, old, out=np.zeros_like(new), where=old > 0)
    largest = float(weights.max(initial=0.0))
    if largest <= 0:
        raise ConfigError("at least one label with training names must have a share above 0")
    scaled: Floats = weights / largest
    return scaled


def corrected(probabilities: npt.ArrayLike, weights: npt.ArrayLike) -> Floats:
    """Return ``probabilities`` ``(N, L)`` times ``weights`` ``(L,)``, rows summing to 1, float64.

    A row whose products are all 0 keeps its uncorrected probabilities.

    >>> corrected([[0.8, 0.2]], weights=[0.25, 1.0]).tolist()
    [[0.5, 0.5]]
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
    """Estimate the label shares of a table from its calibrated probabilities, or refuse to.

    Reasons to refuse, in this order: too few names; no evidence that the shares differ from the
    training shares (log Bayes factor below ``MIN_LOG_BAYES_FACTOR``); predictions that no mixture
    of the labels' validation names explains, so names unlike the training names; a correction that
    loses accuracy on the validation names when they are weighted to the estimated shares.

    Args:
        probabilities: ``(N, L)``, rows summing to 1, uncorrected; N may be 0. More than
            ``MAX_ROWS`` rows are sampled.
        validation_probabilities: ``(M, L)``, of the same model and temperature.
        validation_label_ids: int64 ``(M,)``.
        train_priors: L label shares of the training names. A label with share 0 keeps it.
        seed: of the sample and the bootstrap; equal inputs and seeds give equal results.
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
    if refused := _too_few(rows, effective, len(held_out)):
        L = len(train)
        return PriorEstimate(tuple(train.tolist()), (0.0,) * L, (1.0,) * L, refused, rows)
    evidence = 1 / (1 / effective + 1 / len(held_out))
    table = _ShareModel(distinct, counts, evidence, _base(held_out, train))
    theta, log_bayes_factor = table.empirical_bayes()
    shares = _shifted(train, theta)
    low, high = _intervals(distinct, counts, evidence, held_out, train, theta, rng)
    if log_bayes_factor < MIN_LOG_BAYES_FACTOR:
        refused = "there is no evidence that the label shares differ from the training names'"
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


def _too_few(rows: int, effective: float, validation: int) -> str:
    """Return which number of names is too small for an estimate, or ""."""
    if rows < MIN_ROWS:
        return f"estimating label shares needs ≥ {MIN_ROWS} names, got {rows}"
    if effective < MIN_DISTINCT:
        return (
            f"estimating label shares needs an effective number of ≥ {MIN_DISTINCT} distinct "
            f"names, got {effective:.0f}"
        )
    if validation < MIN_VALIDATION:
        return (
            f"estimating label shares needs a model with ≥ {MIN_VALIDATION} validation names, "
            f"got {validation}"
        )
    return ""


def _distinct(probabilities: Floats) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Return the U distinct rows of ``(N, L)``, and how often each occurs, int64 ``(U,)``: a name
    repeated a hundred times is one piece of evidence about the model."""
    # Equal rows have equal random projections, and one column sorts much faster than L.
    keys = probabilities @ np.random.default_rng(0).random(probabilities.shape[1])
    _, first, counts = np.unique(keys, return_index=True, return_counts=True)
    return probabilities[first], counts.astype(np.int64)


class _ShareModel:
    """The posterior of theta given the distinct rows of a table; see the top of this module."""

    def __init__(
        self, distinct: Floats, counts: npt.NDArray[np.int64], evidence: float, base: Floats
    ) -> None:
        self.distinct, self.weights = distinct, counts / counts.sum()  # (U, L), (U,)
        self.evidence = evidence  # number of names that the likelihood counts
        self.base = base  # shares at theta = 0, (L,)

    def empirical_bayes(self) -> tuple[Floats, float]:
        """Return theta ``(L,)`` at the scale with the largest marginal likelihood, and the log of
        the ratio of that to the likelihood of no shift (the log Bayes factor)."""
        theta = np.zeros(len(self.base))
        best, best_theta = -math.inf, theta
        for scale in _SCALES:
            theta, value, curvature = self.fit(theta, scale)
            # Laplace's approximation: the log-determinant of posterior over prior precision.
            spread = np.linalg.eigvalsh(curvature).clip(min=0) * scale**2
            log_marginal = value - 0.5 * float(np.log1p(spread).sum())
            if log_marginal > best:
                best, best_theta = log_marginal, theta
        return best_theta, best

    def fit(self, start: Floats, scale: float) -> tuple[Floats, float, Floats]:
        """Return the maximum a posteriori theta, found from ``start`` by modified Newton steps.

        Returns:
            theta ``(L,)``; its log-posterior relative to no shift; and the outer-product
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
        for _ in range(_MAX_STEPS):
            shares = _shifted(self.base, theta)
            posterior = ratios * shares  # (U, L), p(y|x) under these shares
            posterior /= posterior.sum(axis=1, keepdims=True)
            mean = self.weights @ posterior
            outer = (posterior * self.weights[:, None]).T @ posterior
            information = self.evidence * (outer - np.outer(shares, shares))
            pull = (_DEGREES + 1) / (_DEGREES * scale**2 + theta**2)
            gradient = self.evidence * (mean - shares) - pull * theta
            curvature = self.evidence * (
                np.diag(shares - mean) + outer - np.outer(shares, shares)
            ) + np.diag(pull)
            # Far from the maximum the curvature may be negative: its size still scales the step.
            values, axes = np.linalg.eigh(curvature)
            step = axes @ ((axes.T @ gradient) / np.maximum(np.abs(values), _MIN_CURVATURE))
            length = min(1.0, _MAX_STEP / max(float(np.abs(step).max()), 1e-12))
            while (reached := log_posterior(theta + length * step)) < value and length > 1e-4:
                length /= 2
            if reached < value + _MIN_GAIN:
                break
            theta, value = theta + length * step, reached
        return theta, value, information


def _shifted(base: Floats, theta: Floats) -> Floats:
    """Return ``base * exp(theta)``, normalised, ``(L,)``."""
    return _normalised(base * np.exp(theta - theta.max()))


def _normalised(values: Floats) -> Floats:
    """Return ``values`` divided by their sum."""
    shares: Floats = values / values.sum()
    return shares


def _base(held_out: Floats, train: Floats) -> Floats:
    """Return the mean validation probability ``(L,)``, smoothed with half a name of the training
    shares and half a name of uniform shares, so that no label is at 0."""
    return _normalised(held_out.sum(axis=0) + train / 2 + 0.5 / len(train))


def _intervals(
    distinct: Floats,
    counts: npt.NDArray[np.int64],
    evidence: float,
    held_out: Floats,
    train: Floats,
    theta: Floats,
    rng: np.random.Generator,
) -> tuple[Floats, Floats]:
    """Return the ends of the intervals of the shares, ``(L,)`` each.

    Bootstrap over names and validation names, with the loose prior ``_INTERVAL_SCALE``. An interval
    is at least Wilson's for ``evidence`` names.
    """
    draws = np.empty((BOOTSTRAPS, len(theta)))
    U, M = len(counts), len(held_out)
    for draw in draws:
        base = _base(held_out[rng.integers(0, M, M)], train)
        resampled = counts * np.bincount(rng.integers(0, U, U), minlength=U)
        drawn = resampled > 0
        table = _ShareModel(distinct[drawn], resampled[drawn], evidence, base)
        draw[:] = _shifted(train, table.fit(theta, _INTERVAL_SCALE)[0])
    tail = (1 - INTERVAL) / 2
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
    names = max(1, round(evidence))
    shares = _shifted(train, theta).tolist()
    wilson = np.array([wilson_interval(round(s * names), names, _INTERVAL_Z) for s in shares])
    low, high = np.minimum(low, wilson[:, 0]), np.maximum(high, wilson[:, 1])
    # Rounding errors next to 0 and 1 are removed.
    return np.where(low < 1e-9, 0.0, low), np.where(high > 1 - 1e-9, 1.0, high)


def _unexplained(table: _ShareModel, held_out: Floats, label_ids: LabelIds, shares: Floats) -> str:
    """Return how the table's predictions differ from those of any mixture of the labels, or ""."""
    weights = _importance(label_ids, shares)
    mean, expected_mean = table.weights @ table.distinct, weights @ held_out
    residual = float(np.abs(mean - expected_mean).sum() / 2)
    confidence = float(table.weights @ table.distinct.max(axis=1))
    expected = float(weights @ held_out.max(axis=1))
    if expected - confidence > MAX_CONFIDENCE_GAP or residual > MAX_RESIDUAL:
        return (
            f"the names are unlike the training names: mean confidence {confidence:.2f}, expected "
            f"{expected:.2f} for such labels; {residual:.0%} of the predictions are unexplained"
        )
    return ""


def _harmful(held_out: Floats, label_ids: LabelIds, shares: Floats, train: Floats) -> str:
    """Return the accuracy that the correction loses under the estimated shares, or ""."""
    weights = _importance(label_ids, shares)
    before = held_out.argmax(axis=1) == label_ids
    after = corrected(held_out, correction(shares, train)).argmax(axis=1) == label_ids
    gain = float(weights @ (after.astype(float) - before))
    if gain < 0:
        return (
            f"the correction loses {-100 * gain:.1f} points of accuracy on validation names "
            "weighted to the estimated label shares"
        )
    return ""


def _importance(label_ids: LabelIds, shares: Floats) -> Floats:
    """Return weights ``(M,)``, summing to 1, that give the validation names these label shares."""
    counts = np.bincount(label_ids, minlength=len(shares))
    return _normalised((shares / np.maximum(counts, 1))[label_ids])
