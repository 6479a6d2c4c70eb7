"""Options of scoring, in the groups that every recipe which scores shares; statuses and reasons.

Each field's docstring is its help on the command line and its description in Prefect's form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import ge, gt, le, lt
from typing import Annotated, Literal, get_args, get_type_hints

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
_COMPARISONS = {"ge": ("≥", ge), "gt": (">", gt), "le": ("≤", le), "lt": ("<", lt)}


def check_bounds(options: object) -> None:
    """Compare the numbers of a record with the bounds that the annotations of its fields give.

    Raises:
        ConfigError: a number is out of bounds.
    """
    for name, limits in _bounds_of(type(options)).items():
        value = getattr(options, name)
        fits = (_COMPARISONS[key][1](value, limit) for key, limit in limits.items())
        if isinstance(value, int | float) and not all(fits):
            bounds = " and ".join(f"{_COMPARISONS[key][0]} {v}" for key, v in limits.items())
            raise ConfigError(f"{name} must be {bounds}, got {value}", option=name)


def _bounds_of(record: type) -> dict[str, dict[str, float]]:
    """Return field → comparison (``ge``, ``lt`` …) → limit."""
    bounds: dict[str, dict[str, float]] = {}
    for name, kind in get_type_hints(record, include_extras=True).items():
        for option in (kind, *get_args(kind)):  # of a union such as ``int ≥ 1 | None`` each
            for annotation in getattr(option, "__metadata__", ()):
                limits = {key: getattr(annotation, key, None) for key in _COMPARISONS}
                bounds[name] = {key: v for key, v in limits.items() if v is not None}
    return bounds


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
        check_bounds(self)

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
    """Partitions scored at a time; by default one per processor, on a CPU at most 8; with Ray
    one per GPU or processor of the cluster."""
    batch_size: Annotated[int, Ge(1)] | Literal["auto"] = "auto"
    """Names per forward pass, or auto: what suits the device."""
    partition_rows: Annotated[int, Ge(1)] = PARTITION_ROWS
    """Rows per unit of work and per output file, at most."""

    def __post_init__(self) -> None:
        check_bounds(self)

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
