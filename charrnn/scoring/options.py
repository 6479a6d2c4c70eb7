"""Options of scoring, in the groups that every recipe which scores shares; statuses and reasons.

Each field's docstring is its help on the command line and its description in Prefect's form.
"""

from __future__ import annotations

__all__ = [
    "ABSTAINED",
    "PARTITION_ROWS",
    "REASONS",
    "SCORED",
    "STATUSES",
    "UNSCORED",
    "ComputeOptions",
    "DeliveryOptions",
    "NamePolicy",
    "PrivacyOptions",
    "ScoreOptions",
]

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from annotated_types import Ge, Interval

from charrnn.errors import ConfigError
from charrnn.tables.csv_format import DOCSTRINGS

NamePolicy = Literal["keep", "hash", "omit"]
PARTITION_ROWS = 2**20

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
    """What is asked of the model; all of it is part of a run's fingerprint.

    Raises:
        ConfigError: a value is out of range.
    """

    __pydantic_config__ = DOCSTRINGS

    name_column: str = "name"
    """The column that holds the names."""
    top_k: Annotated[int, Ge(1)] = 3
    """How many languages to give per name, most probable first."""
    probabilities: bool = False
    """Add one probability column per language."""
    prefix: str = ""
    """Put before the name of every column that scoring adds."""
    min_confidence: Annotated[float, Interval(ge=0, le=1)] = 0.0
    """Give no language below this confidence (status abstained)."""
    prior: str | tuple[float, ...] = "train"
    """Label shares of the table: train, uniform, estimate, or a CSV file with the columns language
    and share. (From Python also the shares themselves, one per label.)"""
    coverage_target: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Add prediction sets that hold the true language for this share of names, such as 0.9."""
    details: bool = False
    """Add whether a name is ambiguous and how unfamiliar it is."""
    transliterate: bool = False
    """Write names in other scripts in Latin letters first."""
    max_length: Annotated[int, Ge(1)] = 256
    """Score no name that is longer, in characters (reason too_long)."""
    max_unknown: Annotated[float, Interval(ge=0, le=1)] = 0.3
    """Score no name with a larger share of characters outside the model's vocabulary (reason
    unknown_script)."""

    def __post_init__(self) -> None:
        for name in ("top_k", "max_length"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be ≥ 1, got {getattr(self, name)}", option=name)
        for name in ("min_confidence", "max_unknown"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(
                    f"{name} must be between 0 and 1, got {getattr(self, name)}", option=name
                )
        if not 0 <= self.coverage_target < 1:
            raise ConfigError(
                f"coverage_target must be ≥ 0 and below 1, got {self.coverage_target}",
                option="coverage_target",
            )

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


@dataclass(frozen=True)
class ComputeOptions:
    """Where and how a run is computed; decides no answer but for ``partition_rows``, the cut.

    Raises:
        ConfigError: a value is out of range.
    """

    __pydantic_config__ = DOCSTRINGS

    engine: Literal["local", "ray"] = "local"
    """Executor: local (this machine) or ray (the cluster that RAY_ADDRESS names; input and output
    must lie on a file system that all its machines mount at the same place)."""
    device: str = "auto"
    """Device: auto, cpu, cuda or cuda:N."""
    workers: Annotated[int, Ge(1)] | None = None
    """Partitions scored at a time; by default one per processor, at most 8; with Ray one per GPU
    or processor of the cluster."""
    batch_size: Annotated[int, Ge(1)] | Literal["auto"] = "auto"
    """Names per forward pass, or auto: what suits the device."""
    partition_rows: Annotated[int, Ge(1)] = PARTITION_ROWS
    """Rows per unit of work and per output file, at most."""

    def __post_init__(self) -> None:
        for name in ("workers", "batch_size", "partition_rows"):
            value = getattr(self, name)
            if isinstance(value, int) and value < 1:
                raise ConfigError(f"{name} must be ≥ 1, got {value}", option=name)

    @property
    def names_per_pass(self) -> int | None:
        """``batch_size``, None for auto."""
        return None if self.batch_size == "auto" else self.batch_size


@dataclass(frozen=True)
class DeliveryOptions:
    """Where the rows go besides the run's folder, and what is done about drift."""

    __pydantic_config__ = DOCSTRINGS

    output: str = ""
    """Folder for the runs (default outputs/predictions/NAME); or a .parquet or .csv file, or a URI
    on object storage, that receives all rows as well."""
    delta: str = ""
    """A Delta table (folder or URI) that receives all rows as well, once."""
    keep_formulas: bool = False
    """Leave cells as they are that a spreadsheet would run as a formula, in a CSV output;
    otherwise they get a leading apostrophe."""
    on_drift: Literal["ignore", "warn", "fail"] = "warn"
    """What to do when the names are not like the model's or the last run's: ignore, warn, or fail,
    with exit code 79; the run is published in any case."""


@dataclass(frozen=True)
class PrivacyOptions:
    """What becomes of the names, and who can read the files."""

    __pydantic_config__ = DOCSTRINGS

    names: NamePolicy = "keep"
    """What becomes of the names in the output: keep, hash (with the secret in the environment
    variable CHARRNN_NAME_KEY) or omit."""
    private: bool = False
    """Make files that only their owner can read."""

    def __post_init__(self) -> None:
        if self.names not in get_args(NamePolicy):
            raise ConfigError(
                f"names must be keep, hash or omit, got {self.names!r}", option="names"
            )
