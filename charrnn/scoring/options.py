"""What scoring is asked for, and the statuses and reasons of a row."""

from __future__ import annotations

__all__ = ["ABSTAINED", "REASONS", "SCORED", "STATUSES", "UNSCORED", "ScoreOptions"]

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from charrnn.errors import ConfigError

STATUSES = ("scored", "abstained", "unscored")
# Why a name was not scored; None (index 0) means it was.
REASONS = (
    None,
    "null_name",
    "empty_name",
    "too_long",
    "unknown_script",
    "no_letters",
    "low_confidence",
)
SCORED, ABSTAINED, UNSCORED = range(3)


@dataclass(frozen=True)
class ScoreOptions:
    """What is asked of the engine; all of it is part of a run's fingerprint.

    Args:
        name_column: the input column that holds the names.
        top_k: how many labels to give per name, most likely first, at least 1.
        probabilities: also give one column per label.
        prefix: put before every column of ours.
        min_confidence: abstain below this confidence, 0 to 1; 0 never abstains.
        prior: label shares of the table to be scored: ``train`` (as the model was calibrated),
            ``uniform``, ``estimate`` (from the table itself), or the L shares.
        coverage_target: also give the set of labels that holds the true one for this share of
            names, such as 0.9; 0 gives no set.
        details: also say whether the name is ambiguous and how unfamiliar it is.
        transliterate: write names in other scripts in Latin letters first.
        max_length: longest name that is scored, in characters.
        max_unknown: largest share of characters outside the model's vocabulary, 0 to 1.

    Raises:
        ConfigError: a value is out of range.
    """

    name_column: str = "name"
    top_k: int = 3
    probabilities: bool = False
    prefix: str = ""
    min_confidence: float = 0.0
    prior: str | tuple[float, ...] = "train"
    coverage_target: float = 0.0
    details: bool = False
    transliterate: bool = False
    max_length: int = 256
    max_unknown: float = 0.3

    def __post_init__(self) -> None:
        if self.top_k < 1 or self.max_length < 1:
            raise ConfigError("top_k and max_length must be at least 1")
        if not (0 <= self.min_confidence <= 1 and 0 <= self.max_unknown <= 1):
            raise ConfigError("min_confidence and max_unknown must be between 0 and 1")
        if not 0 <= self.coverage_target < 1:
            raise ConfigError("coverage_target must be at least 0 and below 1")
        if isinstance(self.prior, str) and self.prior not in ("train", "uniform", "estimate"):
            raise ConfigError(f"prior {self.prior!r} is not train, uniform, estimate or shares")

    def columns(self, labels: Sequence[str]) -> list[str]:
        """Return the names of the columns that scoring adds, in order."""
        names: list[str] = []
        for rank in range(1, min(self.top_k, len(labels)) + 1):
            suffix = "" if rank == 1 else f"_{rank}"
            names += [f"language{suffix}", f"confidence{suffix}"]
        if self.prior != "train":
            names += ["language_uncorrected", "confidence_uncorrected"]
        if self.coverage_target:
            names += ["languages_set", "set_size"]
        if self.details:
            names += ["ambiguous", "unfamiliarity"]
        names += ["status", "reason"]
        if self.probabilities:
            names += [f"probability_{label}" for label in labels]
        return [self.prefix + name for name in names]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        fields = asdict(self)
        return {**fields, "prior": self.prior if isinstance(self.prior, str) else list(self.prior)}
