"""What a model version records about itself: how it was trained, on what, and how good it is.

``ModelFacts`` is the ``facts`` of a version's ``model.json``. The records below have the fields of
the JSON; no name is in any of them. Rates are 0 to 1, intervals 95 %.

The bounds of the types hold for what is read from a file (``msgspec`` checks them): they admit all
that training can write, and nothing that a report or a comparison cannot work with.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from msgspec import Meta

CONFIDENCE_BINS = 20  # of a profile, of equal width, 0 to 1
LENGTH_BINS = 13  # of a profile; see ``monitoring.profile.LENGTHS``
MOST_CONFUSED = 1000  # labels whose confusion matrix is kept: that of more is most of a version
MIN_TEST_NAMES = 20  # of a label: fewer say little about it

_ROUNDED_ONE = 1 + 1e-6  # a mean of ones may round to more than 1
Count = Annotated[int, Meta(ge=0, le=2**53)]  # whole in a float64 as well
Rate = Annotated[float, Meta(ge=0, le=_ROUNDED_ONE)]
Difference = Annotated[float, Meta(ge=-_ROUNDED_ONE, le=_ROUNDED_ONE)]
Nats = Annotated[float, Meta(ge=0, le=1e9)]
# Printable text: no controls, no halves of surrogate pairs, no line or paragraph separators.
Text = Annotated[
    str, Meta(max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]*\Z")
]
Share = Annotated[str, Meta(pattern=r"^(0\.[0-9]{1,9}|1)\Z")]  # a share as the key of a record
Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]  # SHA-256


@dataclass(frozen=True)
class EpochRecord:
    """Figures of one epoch: mean training loss of the labels in nats, and the validation figures
    (None without validation examples)."""

    epoch: Count
    loss: Nats
    validation_nll: Nats | None
    validation_accuracy: Rate | None


@dataclass(frozen=True)
class LabelMetrics:
    """Quality on the names of one label; the interval is Wilson's."""

    label: Text
    count: Count
    precision: Rate
    recall: Rate
    recall_low: Rate
    recall_high: Rate
    f1: Rate


@dataclass(frozen=True)
class Metrics:
    """Quality of predictions for ``count`` names; ``nll`` in nats per name.

    ``refused`` of the names are such that scoring gives no label (an unknown script, too long):
    they count as not right in accuracy, top-3 and recall; the other figures leave them out.

    ``macro_f1`` and ``balanced_accuracy`` average over the labels that occur in the truth;
    ``selective`` maps a coverage such as ``"0.9"`` to the accuracy on that most confident share.
    """

    count: Count
    accuracy: Rate
    accuracy_low: Rate
    accuracy_high: Rate
    macro_f1: Rate
    balanced_accuracy: Rate
    top3: Rate
    nll: Nats
    ece: Rate
    brier: Annotated[float, Meta(ge=0, le=2 * _ROUNDED_ONE)]
    selective: dict[Share, Rate]
    labels: tuple[LabelMetrics, ...]
    refused: Count = 0

    @property
    def answered(self) -> int:
        """The names that scoring gives a label."""
        return self.count - self.refused

    @property
    def too_small(self) -> list[str]:
        """Labels with fewer than ``MIN_TEST_NAMES`` names: too few to judge."""
        return [m.label for m in self.labels if m.count < MIN_TEST_NAMES]


@dataclass(frozen=True)
class HonestMetrics:
    """Metrics of the honest protocol, on the validation fold and on the test fold."""

    validation: Metrics
    test: Metrics


@dataclass(frozen=True)
class ProtocolMetrics:
    """Metrics under both protocols; ``seed`` has one entry per run of the seed protocol."""

    honest: HonestMetrics
    seed: tuple[Metrics, ...]


@dataclass(frozen=True)
class PairedDifference:
    """Metrics of model a minus those of model b on the same names: (difference, low, high)."""

    accuracy: tuple[Difference, Difference, Difference]
    macro_f1: tuple[Difference, Difference, Difference]


@dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy in B bins of equal width from 0 to 1: rows, mean confidence and
    accuracy of each bin, the last two None where it is empty. Where rows have weights,
    ``effective`` is how many rows of equal weight would say as much (Kish 1965); else empty."""

    count: tuple[Count, ...]
    confidence: tuple[Rate | None, ...]
    accuracy: tuple[Rate | None, ...]
    effective: tuple[Count, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= len(self.count) == len(self.confidence) == len(self.accuracy):
            raise ValueError("count, confidence and accuracy must have one value per bin")
        if self.effective and len(self.effective) != len(self.count):
            raise ValueError("effective must be empty or have one value per bin")


@dataclass(frozen=True)
class RiskCoverage:
    """Accuracy on the most confident share (coverage) of the rows, and the lowest confidence in
    that share; ascending coverage."""

    coverage: tuple[Rate, ...]
    accuracy: tuple[Rate, ...]
    confidence: tuple[Rate, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.coverage) == len(self.accuracy) == len(self.confidence):
            raise ValueError("coverage, accuracy and confidence must have one value per point")


@dataclass(frozen=True)
class SetShare:
    """How many of ``count`` names have their true label in their prediction set; ``name`` is a
    label or a group of labels. The interval (low, high) is Wilson's."""

    name: Text
    count: Count
    coverage: Rate
    low: Rate
    high: Rate
    mean_size: Annotated[float, Meta(ge=0, le=1e6)]


@dataclass(frozen=True)
class SetCoverage:
    """Prediction sets at a threshold against the truth.

    ``single`` is the share of sets with one label; ``groups`` are the labels with 100 names or
    more, with 20 to 99, and with fewer, counted on the measured names.
    """

    threshold: Rate
    overall: SetShare
    single: Rate
    labels: tuple[SetShare, ...]
    groups: tuple[SetShare, ...]


@dataclass(frozen=True)
class CalibrationNoise:
    """Calibration error (ECE) that chance alone gives a perfectly calibrated model on as many
    names: the mean, and the 95th percentile."""

    mean: Rate
    percentile_95: Rate


@dataclass(frozen=True)
class ReportData:
    """What the model report draws about the test names.

    Attributes:
        confusion: names by true label (row) and predicted label (column), ``(L, L)``; empty for
            more than ``MOST_CONFUSED`` labels.
        expected_accuracy: mean confidence.
        sets: requested coverage, such as ``"0.9"`` → prediction sets of it.
        unfamiliar: threshold, such as ``"0.99"`` → share of the names above it.
        ece_noise: what the ECE has to be compared with.
        ambiguous: training names that occur under several labels.
    """

    confusion: tuple[tuple[Count, ...], ...]
    reliability: Reliability
    risk_coverage: RiskCoverage
    expected_accuracy: Rate
    sets: dict[Share, SetCoverage]
    unfamiliar: dict[Share, Rate]
    ece_noise: CalibrationNoise
    ambiguous: Count


@dataclass(frozen=True)
class Profile:
    """Counts of what a run, a part of it, or a model's validation saw. Counts are of rows unless
    they say distinct; distinct names are counted within each partition and summed.

    Attributes:
        names, distinct: rows whose name is not null, and their distinct names.
        answered, answered_distinct: the same of rows with a language or abstained from.
        labels: answered rows by most probable label, before prior and abstention.
        confidences: answered rows by confidence, in ``CONFIDENCE_BINS`` of ``monitoring.profile``.
        lengths: rows by length after normalising, in the bins ``LENGTHS`` of
            ``monitoring.profile``; empty names left out.
        characters, unknown: characters of all names after normalising, and those of them not in
            the vocabulary.
        unscored: rows without an answer, by reason.
        pairs: answered rows of which a surname and a given name were scored.
    """

    rows: Count
    names: Count
    distinct: Count
    answered: Count
    answered_distinct: Count
    labels: dict[Text, Count]
    confidences: Annotated[
        list[Count], Meta(min_length=CONFIDENCE_BINS, max_length=CONFIDENCE_BINS)
    ]
    confidence_sum: Annotated[float, Meta(ge=0, le=2**53)]
    lengths: Annotated[list[Count], Meta(min_length=LENGTH_BINS, max_length=LENGTH_BINS)]
    characters: Count
    unknown: Count
    unscored: dict[Text, Count]
    pairs: Count = 0

    def check(self) -> None:
        """Raise ValueError unless the counts fit each other."""
        sums = {
            "labels": (sum(self.labels.values()), self.answered),
            "confidences": (sum(self.confidences), self.answered),
            "answered and unscored": (self.answered + sum(self.unscored.values()), self.rows),
        }
        wrong = [name for name, (total, expected) in sums.items() if total != expected]
        ascending = {
            "answered_distinct": (self.answered_distinct, self.answered, self.names, self.rows),
            "distinct": (self.answered_distinct, self.distinct, self.names),
            "lengths": (sum(self.lengths), self.names),
            "unknown": (self.unknown, self.characters),
            "pairs": (self.pairs, self.answered),
            "confidence_sum": (self.confidence_sum, self.answered * _ROUNDED_ONE),
            "answered": (min(self.answered, 1), self.answered_distinct),
        }
        wrong += [name for name, counts in ascending.items() if list(counts) != sorted(counts)]
        if wrong:
            raise ValueError(f"facts.profile: {', '.join(wrong)} do not fit the other counts")

    @property
    def class_shares(self) -> dict[str, float]:
        """Share of each label among the answered rows, 0 to 1."""
        return {label: n / max(self.answered, 1) for label, n in self.labels.items()}

    def to_json(self) -> dict[str, Any]:
        """Return the counts, and the shares and means that follow from them (null where there is
        nothing to divide by), as plain JSON values."""
        return {
            **asdict(self),
            "class_shares": self.class_shares,
            "mean_confidence": _ratio(self.confidence_sum, self.answered),
            "unknown_character_rate": _ratio(self.unknown, self.characters),
            "duplicate_share": _ratio(self.names - self.distinct, self.names),
            "unscored_shares": {k: n / max(self.rows, 1) for k, n in self.unscored.items()},
        }


@dataclass(frozen=True)
class Provenance:
    """When and with what a version was trained: UTC time, torch device, threads, versions."""

    created: Text
    device: Text
    threads: Count
    libraries: dict[Text, Text]


@dataclass(frozen=True)
class BalancedMetrics:
    """Quality on ``count`` names, every label that occurs counting alike; ``recall`` of each.
    ``reliability`` is None in versions of before it was recorded."""

    count: Count
    macro_recall: Rate
    ece: Rate
    mean_confidence: Rate
    recall: dict[Text, Rate]
    reliability: Reliability | None = None


@dataclass(frozen=True)
class OutsideMetrics:
    """Quality on names of other lists than the training's (``training.outside``).

    Attributes:
        digest: content digest of the outside table.
        calibration: names of the half that the temperature was fitted to; the others are measured.
        surnames, given, full: surnames, given names, and full names made of both; ``plain`` are the
            surnames without accents. None where there are none.
        known, known_given: surnames and given names that the training names have, too.
        outliers: words that are no names; ``outliers_answered``: share of them that get a label.
        names_refused: share of the surnames that get none, every label counting alike.
    """

    digest: Digest
    calibration: Count
    surnames: BalancedMetrics | None
    plain: BalancedMetrics | None
    given: BalancedMetrics | None
    full: BalancedMetrics | None
    outliers: Count
    outliers_answered: Rate
    names_refused: Rate
    known: BalancedMetrics | None
    known_given: BalancedMetrics | None


@dataclass(frozen=True)
class TextChoice:
    """Whether text rules keep what they could drop: the cross-validated accuracy of naive Bayes on
    n-grams on ``names`` names, with it and without."""

    kept: bool
    accuracy_with: Rate
    accuracy_without: Rate
    names: Count


@dataclass(frozen=True)
class TextRules:
    """How the vocabulary was chosen of the names (``training.text_rules``).

    Attributes:
        symbols: number of characters in the vocabulary.
        coverage: share of the characters of the names that it knows.
        accents, case: whether they are kept; None where the names have none that could be dropped.
    """

    symbols: Count
    coverage: Rate
    accents: TextChoice | None
    case: TextChoice | None

    @property
    def text(self) -> str:
        """What was chosen, and by which figures, as one line."""
        parts = [f"{self.symbols} symbols cover {self.coverage:.2%} of the characters"]
        choices = {"accents": self.accents, "case": self.case}
        for what, choice in choices.items():
            if choice:
                parts.append(
                    f"{what} {'kept' if choice.kept else 'dropped'} (n-grams alone: accuracy "
                    f"{choice.accuracy_with:.4f} with, {choice.accuracy_without:.4f} without, "
                    f"{choice.names} names)"
                )
        return "; ".join(parts)


@dataclass(frozen=True)
class ModelFacts:
    """All that a version records about itself.

    Attributes:
        train: fields of the preset's ``TrainConfig``.
        data_digest: content digest of the corpus.
        examples: number of training names.
        best_epoch: the epoch whose weights the version has.
        baselines: protocol → baseline → metrics on the same names; empty where not measured.
        paired: baseline → this model minus the baseline on the honest test names.
        profile: of the validation names; later runs are compared with it.
        outside: None where the version was trained without outside names.
        text_rules: None where the preset has a vocabulary or text rules of its own.
    """

    preset: Text
    train: dict[Text, bool | int | float | Text | None]
    data_digest: Digest
    examples: Count
    history: tuple[EpochRecord, ...]
    best_epoch: Count
    metrics: ProtocolMetrics
    baselines: dict[Text, dict[Text, Metrics]]
    paired: dict[Text, PairedDifference]
    report_data: ReportData
    profile: Profile
    provenance: Provenance
    outside: OutsideMetrics | None = None
    text_rules: TextRules | None = None

    def check(self, labels: Sequence[str]) -> None:
        """Raise ValueError unless the facts are those of a model with ``labels``."""
        measured = [self.metrics.honest.validation, self.metrics.honest.test, *self.metrics.seed]
        measured += [m for named in self.baselines.values() for m in named.values()]
        if any(tuple(m.label for m in metrics.labels) != tuple(labels) for metrics in measured):
            raise ValueError("facts.metrics and facts.baselines must list the model's labels")
        confusion, L = self.report_data.confusion, len(labels)
        if {len(confusion), *map(len, confusion)} != {L if L <= MOST_CONFUSED else 0}:
            raise ValueError("facts.report_data.confusion must have a row and a column per label")
        self.profile.check()
        if not self.profile.labels.keys() <= set(labels):
            raise ValueError("facts.profile.labels must be labels of the model")
        if self.paired.keys() != self.baselines.get("honest", {}).keys():
            raise ValueError("facts.paired must compare with the baselines of the honest protocol")


def _ratio(part: float, whole: int) -> float | None:
    return part / whole if whole else None
