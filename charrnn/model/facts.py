"""What a model version records about itself: how it was trained, on what, and how good it is.

``ModelFacts`` is the ``facts`` of a version's ``model.json``. The records below have the fields of
the JSON; no name is in any of them. Rates are 0 to 1, intervals 95 %.
"""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class EpochRecord:
    """Figures of one epoch: mean training loss of the labels in nats, and the validation figures
    (None without validation examples)."""

    epoch: int
    loss: float
    validation_nll: float | None
    validation_accuracy: float | None


@dataclass(frozen=True)
class LabelMetrics:
    """Quality on the names of one label; the interval is Wilson's."""

    label: str
    count: int
    precision: float
    recall: float
    recall_low: float
    recall_high: float
    f1: float


@dataclass(frozen=True)
class Metrics:
    """Quality of predictions for ``count`` names; ``nll`` in nats per name.

    ``macro_f1`` and ``balanced_accuracy`` average over the labels that occur in the truth;
    ``selective`` maps a coverage such as ``"0.9"`` to the accuracy on that most confident share.
    """

    count: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    macro_f1: float
    balanced_accuracy: float
    top3: float
    nll: float
    ece: float
    brier: float
    selective: dict[str, float]
    labels: tuple[LabelMetrics, ...]


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

    accuracy: tuple[float, float, float]
    macro_f1: tuple[float, float, float]


@dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy in B bins of equal width from 0 to 1: rows, mean confidence and
    accuracy of each bin, the last two None where it is empty."""

    count: tuple[int, ...]
    confidence: tuple[float | None, ...]
    accuracy: tuple[float | None, ...]


@dataclass(frozen=True)
class RiskCoverage:
    """Accuracy on the most confident share (coverage) of the rows, and the lowest confidence in
    that share; ascending coverage."""

    coverage: tuple[float, ...]
    accuracy: tuple[float, ...]
    confidence: tuple[float, ...]


@dataclass(frozen=True)
class SetShare:
    """How many of ``count`` names have their true label in their prediction set; ``name`` is a
    label or a group of labels. The interval (low, high) is Wilson's."""

    name: str
    count: int
    coverage: float
    low: float
    high: float
    mean_size: float


@dataclass(frozen=True)
class SetCoverage:
    """Prediction sets at a threshold against the truth.

    ``single`` is the share of sets with one label; ``groups`` are the labels with 100 names or
    more, with 20 to 99, and with fewer, counted on the measured names.
    """

    threshold: float
    overall: SetShare
    single: float
    labels: tuple[SetShare, ...]
    groups: tuple[SetShare, ...]


@dataclass(frozen=True)
class CalibrationNoise:
    """Calibration error (ECE) that chance alone gives a perfectly calibrated model on as many
    names: the mean, and the 95th percentile."""

    mean: float
    percentile_95: float


@dataclass(frozen=True)
class ReportData:
    """What the model report draws about the test names.

    Attributes:
        confusion: names by true label (row) and predicted label (column), ``(L, L)``.
        expected_accuracy: mean confidence.
        sets: requested coverage, such as ``"0.9"`` → prediction sets of it.
        unfamiliar: threshold, such as ``"0.99"`` → share of the names above it.
        ece_noise: what the ECE has to be compared with.
        ambiguous: training names that occur under several labels.
    """

    confusion: tuple[tuple[int, ...], ...]
    reliability: Reliability
    risk_coverage: RiskCoverage
    expected_accuracy: float
    sets: dict[str, SetCoverage]
    unfamiliar: dict[str, float]
    ece_noise: CalibrationNoise
    ambiguous: int


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
    """

    rows: int
    names: int
    distinct: int
    answered: int
    answered_distinct: int
    labels: dict[str, int]
    confidences: list[int]
    confidence_sum: float
    lengths: list[int]
    characters: int
    unknown: int
    unscored: dict[str, int]

    @property
    def class_shares(self) -> dict[str, float]:
        """Share of each label among the answered rows, 0 to 1."""
        return {label: n / self.answered for label, n in self.labels.items()}

    def to_json(self) -> dict[str, Any]:
        """Return the counts, and the shares and means that follow from them (null where there is
        nothing to divide by), as plain JSON values."""
        return {
            **asdict(self),
            "class_shares": self.class_shares,
            "mean_confidence": _ratio(self.confidence_sum, self.answered),
            "unknown_character_rate": _ratio(self.unknown, self.characters),
            "duplicate_share": _ratio(self.names - self.distinct, self.names),
            "unscored_shares": {k: n / self.rows for k, n in self.unscored.items()},
        }


@dataclass(frozen=True)
class Provenance:
    """When and with what a version was trained: UTC time, torch device, threads, versions."""

    created: str
    device: str
    threads: int
    libraries: dict[str, str]


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
    """

    preset: str
    train: dict[str, Any]
    data_digest: str
    examples: int
    history: tuple[EpochRecord, ...]
    best_epoch: int
    metrics: ProtocolMetrics
    baselines: dict[str, dict[str, Metrics]]
    paired: dict[str, PairedDifference]
    report_data: ReportData
    profile: Profile
    provenance: Provenance


def _ratio(part: float, whole: int) -> float | None:
    return part / whole if whole else None
