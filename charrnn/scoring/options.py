"""Options of scoring, in the groups that every recipe which scores shares; statuses and reasons.

Each field's docstring is its help on the command line and its description in Prefect's form.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Interval

from charrnn.errors import ConfigError, PathOrUri, TextPattern, check_fields
from charrnn.model.labels import LANGUAGE
from charrnn.tables.csv_format import DOCSTRINGS

NamePolicy = Literal["keep", "hash", "omit"]
NameOrder = Literal["auto", "given-surname", "surname-given", "comma", "surname"]
Device = Annotated[str, TextPattern(r"^(auto|cpu|cuda(:[0-9]+)?)$")]

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
    "unfamiliar",
)
ABSTENTIONS = ("low_confidence", "unfamiliar")  # reasons of status abstained
SCORED, ABSTAINED, UNSCORED = range(3)
NAME_PARTS = ("given+surname", "surname", "given")  # what of a name was scored


@dataclass(frozen=True)
class _Options:
    """What all groups of options share: values are checked against their types, and paths are
    settled."""

    __pydantic_config__ = DOCSTRINGS

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class ScoreOptions(_Options):
    """What to predict; all fields are part of a run's fingerprint.

    Raises:
        ConfigError: a value is out of range.
    """

    name_column: str = "name"
    """The column that holds the names."""
    given_column: str = ""
    """The column of given names; replaces the name column, with or without a surname column."""
    surname_column: str = ""
    """The column of surnames; likewise."""
    name_order: NameOrder = "auto"
    """Order of a given name and a surname in one column: auto, given-surname, surname-given, comma
    (Surname, Given), or surname (there are only surnames)."""
    top_k: Annotated[int, Ge(1)] = 3
    """How many labels to give per name, most probable first."""
    probabilities: bool = False
    """Add one probability column per label."""
    prefix: str = ""
    """Put before the name of every column that scoring adds."""
    label_as: str = ""
    """Name of the label's column, such as country; by default that of the label column that the
    model was trained on, or language."""
    min_confidence: Annotated[float, Interval(ge=0, le=1)] = 0.0
    """Give no label below this confidence (status abstained)."""
    max_unfamiliarity: Annotated[float, Interval(ge=0, le=1)] | None = None
    """Give no label above this unfamiliarity (status abstained); 1 answers all. By default 0.96
    for a model that knows words that are no names, as pretrained does, else 1."""
    prior: PathOrUri | tuple[float, ...] = "train"
    """Label shares of the table: train, uniform, estimate, or a CSV file with the label's
    column, such as language, and share. (From Python also the shares themselves, one per label.)"""
    coverage_target: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Add prediction sets that hold the true label for this share of names, such as 0.9."""
    families: bool = False
    """Add the language family, such as Slavic or Scandinavian, and its confidence."""
    details: bool = False
    """Add whether a name is ambiguous and how unfamiliar it is."""
    transliterate: bool = False
    """Write names in other scripts in Latin letters first."""
    max_length: Annotated[int, Ge(1)] = 256
    """Longest name that is scored, in characters (longer: reason too_long)."""
    max_unknown: Annotated[float, Interval(ge=0, le=1)] = 0.3
    """Largest share of characters outside the model's vocabulary in a name that is scored (larger:
    reason unknown_script)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.label_as.isprintable() or self.label_as != self.label_as.strip():
            raise ConfigError(
                "label_as must be visible text, without white space at its ends", option="label_as"
            )
        parts = [f for f in ("given_column", "surname_column") if getattr(self, f)]
        if not parts:
            return
        if self.name_column != "name":
            raise ConfigError(
                f"name_column and {parts[0]} are both given; the names are in one column or in "
                "columns of their parts, leave one out",
                option=parts[0],
            )
        if self.name_order != "auto":
            raise ConfigError(
                f"name_order is about one column of names; leave it out with {parts[0]}",
                option="name_order",
            )
        if self.given_column == self.surname_column:
            raise ConfigError(
                "given_column and surname_column are the same column; name two, or use name_column",
                option="given_column",
            )

    @property
    def name_fields(self) -> dict[str, str]:
        """The columns that hold the names, by field: one, or one for each part, surnames first."""
        fields = {f: getattr(self, f) for f in ("surname_column", "given_column")}
        return {f: c for f, c in fields.items() if c} or {"name_column": self.name_column}

    @property
    def label_name(self) -> str:
        """The name of the label's column, without the prefix."""
        return self.label_as or LANGUAGE

    @property
    def names_parts(self) -> bool:
        """Whether a column says which parts of a name were scored."""
        return self.details or "name_column" not in self.name_fields


@dataclass(frozen=True)
class ComputeOptions(_Options):
    """Where and how a run is computed. Only ``partition_rows``, the size of the parts, changes the
    output.

    Raises:
        ConfigError: a value is out of range.
    """

    engine: Literal["local", "ray"] = "local"
    """Executor: local (this machine) or ray (the cluster that RAY_ADDRESS names; input and output
    must lie on a file system that all its machines mount at the same place)."""
    device: Device = "auto"
    """Device: auto, cpu, cuda or cuda:N."""
    workers: Annotated[int, Ge(1)] | None = None
    """Partitions scored at a time; by default one per processor, on a CPU at most 8; with Ray
    one per GPU or processor of the cluster."""
    batch_size: Annotated[int, Ge(1)] | Literal["auto"] = "auto"
    """Names per forward pass, or auto: by the device."""
    partition_rows: Annotated[int, Ge(1)] = 2**20
    """Rows per unit of work and per output file, at most."""

    @property
    def names_per_pass(self) -> int | None:
        """``batch_size``, None for auto."""
        return None if self.batch_size == "auto" else self.batch_size


@dataclass(frozen=True)
class DeliveryOptions(_Options):
    """Where the rows are copied besides the run's folder, and what happens on drift.

    Raises:
        ConfigError: a value is not valid.
    """

    output: PathOrUri = ""
    """Folder for the runs (default outputs/predictions/NAME); or a Parquet or CSV file (with the
    suffixes of inputs), or a URI on object storage, that receives all rows as well."""
    delta: PathOrUri = ""
    """A Delta table (folder or URI) to which the rows are appended as well, once."""
    keep_formulas: bool = False
    """Do not escape cells of a CSV output that a spreadsheet would run as a formula; otherwise they
    get a leading apostrophe."""
    on_drift: Literal["ignore", "warn", "fail"] = "warn"
    """What to do if the names have drifted from those of the last runs: ignore, warn, or
    fail with exit code 79; the run is published in any case."""


@dataclass(frozen=True)
class PrivacyOptions(_Options):
    """What happens to the names in the output, and who can read the files."""

    names: NamePolicy = "keep"
    """What happens to the names in the output: keep, hash (with the secret in the environment
    variable CHARRNN_NAME_KEY) or omit."""
    private: bool = False
    """Make files that only their owner can read."""
