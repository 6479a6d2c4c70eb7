"""Compare the profile of a run with that of the model's validation names and of earlier runs.

The model's validation names are lists, and tables of people differ from them from the first run on;
so that difference is information, and an alarm is a difference from earlier runs. The one of the
last ``LAST_RUNS`` that differs least from the others stands for them, their *medoid* (Kaufman and
Rousseeuw 1987, "Clustering by means of medoids"): one odd run moves it little.

Distributions are compared by the population stability index, PSI = Σ (p - q) ln(p / q), with the
usual limits of 0.1 (moderate) and 0.25 (large). Two samples of one population, of n and m names,
have by chance a PSI of about (1/n + 1/m) χ² with one degree of freedom less than bins (Yurdakul and
Naranjo 2020, "Statistical properties of the population stability index", Journal of Risk Model
Validation 14(4)). Rates are compared by their difference. A difference counts as drift only beyond
its limit and beyond what chance exceeds once in a thousand; n and m are numbers of distinct names,
since equal names are not independent.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from charrnn.errors import percent
from charrnn.model.facts import Profile
from charrnn.model.labels import LANGUAGE, plural
from charrnn.scoring.options import REASONS

_FEWEST = 5  # expected names per bin; bins with fewer are merged
_PAIR_SHARE = 0.1  # difference of shares of names of two parts from which on these do not compare
_OF_PARTS = ("confidence", "mean confidence", "length")
_RARE = 3.2905  # standard deviations: two-sided tail probability of 0.001

LAST_RUNS = 7  # whose medoid a run is compared with

# Limits (moderate, large): PSI of distributions, absolute differences of rates.
LIMITS = {
    "labels": (0.1, 0.25),
    "confidence": (0.1, 0.25),
    "length": (0.1, 0.25),
    "mean confidence": (0.02, 0.05),
    "unknown characters": (0.01, 0.03),
    "unscored": (0.02, 0.05),
    "duplicates": (0.05, 0.10),
}


@dataclass(frozen=True)
class Stability:
    """A PSI with its mean and its 99.9th percentile for two samples of one population."""

    value: float
    chance: float
    chance_high: float


def population_stability(
    now: npt.ArrayLike, before: npt.ArrayLike, names_now: int, names_before: int
) -> Stability:
    """Return the population stability index of two histograms over the same bins.

    Bins with fewer than 5 expected names in either are merged, and half a name is added to every
    bin, so that an empty bin does not make the index infinite.

    Args:
        now, before: counts ``(B,)``, not all 0.
        names_now, names_before: numbers of independent observations in them, above 0.
    """
    n, m = names_now, names_before
    p, q = (np.asarray(counts, np.float64) / np.sum(counts) for counts in (now, before))
    rare = (p * n + q * m) / (n + m) * min(n, m) < _FEWEST
    p, q = (np.append(share[~rare], share[rare].sum()) for share in (p, q))
    used = p + q > 0
    p, q = p[used], q[used]
    B = len(p)
    p, q = (p * n + 0.5) / (n + 0.5 * B), (q * m + 0.5) / (m + 0.5 * B)
    noise = 1 / n + 1 / m
    value = float(np.sum((p - q) * np.log(p / q)))
    return Stability(value, noise * (B - 1), noise * _rare_chi_square(B - 1))


def _rare_chi_square(freedom: int) -> float:
    """Return the 99.9th percentile of χ² (Wilson and Hilferty 1931)."""
    if not freedom:
        return 0.0
    spread = 2 / (9 * freedom)
    return float(freedom * (1 - spread + 3.0902 * spread**0.5) ** 3)


@dataclass(frozen=True)
class Measure:
    """One compared distribution or rate.

    Attributes:
        value: a PSI, or the difference of the rates ``now`` and ``before``.
        chance: mean of the value, in size, if nothing changed.
        chance_high: size of the value that chance exceeds once in a thousand, if nothing changed.
        moderate, large: limits.
    """

    name: str
    kind: Literal["psi", "difference"]
    value: float
    now: float | None
    before: float | None
    chance: float
    chance_high: float
    moderate: float
    large: float

    @property
    def level(self) -> Literal["steady", "moderate", "large"]:
        """The level of the difference; steady where it may be chance."""
        size = abs(self.value)
        if size <= self.chance_high or size < self.moderate:
            return "steady"
        return "large" if size >= self.large else "moderate"

    def to_json(self) -> dict[str, Any]:
        """Return the fields and the level as plain JSON values."""
        return {**asdict(self), "level": self.level}


def compare(
    now: Profile, before: Profile, *, answers: bool, gaps: bool, label_name: str = LANGUAGE
) -> list[Measure]:
    """Compare two profiles; a measure that either lacks is left out, and so are length and
    confidence where names have other parts (see ``_other_parts``).

    Args:
        answers: also compare what depends on the model and its text rules: labels, confidences,
            unknown characters, unreadable names.
        gaps: also compare missing names and duplicates.
        label_name: what the labels are: the measure of their shares is called its plural.
    """
    profiles = (now, before)
    answered = (now.answered_distinct, before.answered_distinct)
    distinct = (now.distinct, before.distinct)
    measures = [_distribution("length", now.lengths, before.lengths, distinct)]
    if answers:
        labels = sorted({*now.labels, *before.labels})
        by_label = [[p.labels.get(label, 0) for label in labels] for p in profiles]
        confidence = [(p.confidence_sum, p.answered) for p in profiles]
        characters = [(p.unknown, p.characters) for p in profiles]
        measures = [
            _distribution(plural(label_name), by_label[0], by_label[1], answered, "labels"),
            _distribution("confidence", now.confidences, before.confidences, answered),
            _rate("mean confidence", confidence, answered),
            *measures,
            _rate("unknown characters", characters, distinct),
        ]
    for reason in (r for r in REASONS[1:] if r in now.unscored or r in before.unscored):
        if gaps if reason in ("null_name", "empty_name") else answers:
            unscored = [(p.unscored.get(reason, 0), p.rows) for p in profiles]
            n, m = (p.distinct + p.rows - p.names for p in profiles)  # each null counts
            measures.append(_rate(f"unscored: {reason}", unscored, (n, m)))
    if gaps:
        duplicates = [(p.names - p.distinct, p.names) for p in profiles]
        measures.append(_rate("duplicates", duplicates, distinct))
    left_out = _OF_PARTS if _other_parts(now, before) else ()
    return [m for m in measures if m is not None and m.name not in left_out]


def _other_parts(now: Profile, before: Profile) -> bool:
    """Whether names of two parts, which are longer and get more confidence, are clearly more
    frequent in one of the profiles."""
    shares = [profile.pairs / max(1, profile.answered) for profile in (now, before)]
    return abs(shares[0] - shares[1]) > _PAIR_SHARE


def _distribution(
    name: str, now: Sequence[int], before: Sequence[int], names: tuple[int, int], kind: str = ""
) -> Measure | None:
    """Compare two histograms of so many distinct names; None where one is empty. ``kind`` finds the
    limits, by default the name."""
    if not (all(names) and any(now) and any(before)):
        return None
    psi, limits = population_stability(now, before, *names), LIMITS[kind or name]
    return Measure(name, "psi", psi.value, None, None, psi.chance, psi.chance_high, *limits)


def _rate(
    name: str, parts: Sequence[tuple[float, float]], names: tuple[int, int]
) -> Measure | None:
    """Compare two rates (numerator, denominator) over so many distinct names; None where one has
    no names. The variance is that of a binomial rate, an upper bound for other means of 0 to 1."""
    if not (all(names) and all(whole for _, whole in parts)):
        return None
    now, before = (min(1.0, part / whole) for part, whole in parts)  # rounding may exceed 1
    n, m = names
    pooled = (now * n + before * m) / (n + m)
    # The larger one: the pooled variance is too small for rare events in few names, the sum of both
    # variances is 0 where both rates are 0 or 1.
    pooled_variance = pooled * (1 - pooled) * (1 / n + 1 / m)
    error = max(pooled_variance, now * (1 - now) / n + before * (1 - before) / m) ** 0.5
    average = error * (2 / math.pi) ** 0.5  # mean absolute value of a normal deviate
    limits = LIMITS[name.split(":")[0]]
    return Measure(name, "difference", now - before, now, before, average, _RARE * error, *limits)


def medoid(profiles: Sequence[Profile], *, answers: bool) -> int:
    """Return the index of the profile that differs least from the others, the last one of equals:
    differences are sums of measures, each in units of its large limit.

    Args:
        profiles: 1 or more.
        answers: see ``compare``.
    """

    def differs(i: int) -> float:
        others = (compare(profiles[i], other, answers=answers, gaps=True) for other in profiles)
        return sum(abs(measure.value) / measure.large for found in others for measure in found)

    return min(reversed(range(len(profiles))), key=lambda i: round(differs(i), 9))


@dataclass(frozen=True)
class ProfileComparison:
    """A run's profile compared with one reference: the model's validation names or another run.

    Attributes:
        against: name of the model or the run.
        class_shares: the reference's share of each label, 0 to 1.
        skipped: what could not be compared, and why.
        standing: measures that were large in the run before already, from which this one does not
            differ much: reported, but no alarm.
    """

    against: str
    class_shares: dict[str, float]
    measures: tuple[Measure, ...]
    skipped: tuple[str, ...] = ()
    standing: tuple[str, ...] = ()

    @property
    def large(self) -> list[str]:
        """The names of the measures beyond their large limit."""
        return [measure.name for measure in self.measures if measure.level == "large"]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return {**asdict(self), "measures": [measure.to_json() for measure in self.measures]}


@dataclass(frozen=True)
class Drift:
    """A run compared with the model's validation names, and with the medoid of the last runs, if
    there are any."""

    model: ProfileComparison
    previous: ProfileComparison | None = None

    def alarms(self) -> list[str]:
        """Return a sentence if the run differs from the last ones beyond a large limit, standing
        differences left out."""
        if self.previous is None:
            return []
        new = set(self.previous.large) - set(self.previous.standing)
        return _sentences(self.previous, new, "the last runs, of which the median is")

    def first_differences(self) -> list[str]:
        """Return a sentence if this is a first run, and its names differ from the model's."""
        if self.previous is not None:
            return []
        return _sentences(self.model, set(self.model.large), "the names of the model")

    def to_json(self) -> dict[str, Any]:
        """Return the comparisons as plain JSON values."""
        previous = None if self.previous is None else self.previous.to_json()
        return {"model": self.model.to_json(), "previous": previous}


def drift(
    now: Profile,
    reference: tuple[str, Profile],
    previous: tuple[str, Profile] | None,
    *,
    same_rules: bool,
    same_cut: bool,
    standing: Sequence[str] = (),
    label_name: str = LANGUAGE,
) -> Drift:
    """Compare a run with the model's validation names and with an earlier run.

    Args:
        reference: the model's name and profile.
        previous: name and profile of the medoid of the last runs; None where there is none.
        same_rules: whether that run had the same model and text options; without them only the
            names are compared, not the answers.
        same_cut: whether its partitions had about as many rows; without, duplicates, which are
            counted within partitions, are not compared.
        standing: measures in which the run before was as different already.
        label_name: see ``compare``.
    """

    def compared(
        reference: tuple[str, Profile], answers: bool, gaps: bool, skipped: Sequence[str]
    ) -> ProfileComparison:
        name, before = reference
        measures = compare(now, before, answers=answers, gaps=gaps, label_name=label_name)
        if not same_cut:
            measures = [measure for measure in measures if measure.name != "duplicates"]
        if _other_parts(now, before):
            skipped = ["length and confidence: other parts of names", *skipped]
        return ProfileComparison(name, before.class_shares, tuple(measures), tuple(skipped))

    model = compared(reference, answers=True, gaps=False, skipped=())
    if previous is None:
        return Drift(model)
    skipped = []
    if not same_rules:
        skipped.append("answers: that run had another model or text options")
    if not same_cut:
        skipped.append("duplicates: that run's partitions had another size")
    of_runs = compared(previous, answers=same_rules, gaps=True, skipped=skipped)
    return Drift(model, replace(of_runs, standing=tuple(standing)))


def _sentences(compared: ProfileComparison, names: set[str], reference: str) -> list[str]:
    changes = ", ".join(_change(m) for m in compared.measures if m.name in names)
    return [f"{changes} against {reference} {compared.against}"] if changes else []


def _change(measure: Measure) -> str:
    if measure.before is None or measure.now is None:
        return f"{measure.name} PSI {measure.value:.2f}"
    return f"{measure.name} {percent(measure.before)} → {percent(measure.now)}"
