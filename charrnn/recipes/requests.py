"""What each recipe is asked for: one frozen record per recipe, and nothing but records.

The command line and Prefect's form are generated from these classes: a field is an option, the
string below it or the ``doc`` of its type is its help, its type decides choices and bounds, and a
group of options (a record in a record) is flattened on the command line. Nothing heavy is imported
here, so that ``--help`` answers at once.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Interval, doc

from charrnn.errors import ConfigError, PathOrUri, check_fields, local_path
from charrnn.scoring.options import (
    ComputeOptions,
    DeliveryOptions,
    Device,
    NameOrder,
    PrivacyOptions,
    ScoreOptions,
)
from charrnn.tables.csv_format import CsvFormat

OUTPUTS = Path("outputs")
MODELS = Path("outputs/models")
PREDICTIONS = Path("outputs/predictions")
COMPARISONS = Path("outputs/comparisons")
SHARES = Path("outputs/shares")
REVIEWS = Path("outputs/review")
NAMES = Path("data/names.parquet")
TUTORIAL_URL = "https://download.pytorch.org/tutorial/data.zip"

# Types of options that several recipes have, with their help
CorpusSources = Annotated[
    tuple[str, ...],
    doc(
        "Where names come from, one or more: tutorial (its archive, downloaded); faker, mimesis, "
        "wordfreq, name2nat, gender-guesser, dacy, turkish-name-generator or ipadic (lists of the "
        "installed package); a folder of LABEL.txt files or a zip of one; "
        "or a labelled table: Parquet or CSV, a file, a folder, a glob or a URI (s3://, gs://)."
    ),
]
TableSource = Annotated[
    PathOrUri,
    doc(
        "Parquet (.parquet, .pq) or CSV (.csv, .tsv, also with .gz, .zst or .bz2): a file, a "
        "folder or a glob, or a URI of one on object storage (s3://, gs://)."
    ),
]
ModelsFolder = Annotated[Path, doc("Folder of the model versions.")]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What all requests share: values are checked against their types, and paths are settled.

    Raises:
        ConfigError: a value is not valid.
    """

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class ModelRequest(Request):
    """A request to a model."""

    model: str = "pretrained"
    """Model: pretrained, pretrained-tiny, an alias such as champion, or a version such as v0007."""
    models: ModelsFolder = MODELS


@dataclass(frozen=True, kw_only=True)
class TableRequest(ModelRequest):
    """A request to a model about names in tables."""

    csv: CsvFormat = field(default_factory=CsvFormat)
    """How CSV files are written."""
    compute: ComputeOptions = field(default_factory=ComputeOptions)
    """Where and how it is computed; a comparison on this machine only."""


@dataclass(frozen=True, kw_only=True)
class ScoringRequest(TableRequest):
    """A request to score names in tables."""

    scoring: ScoreOptions = field(default_factory=ScoreOptions)
    """What is asked of the model."""
    privacy: PrivacyOptions = field(default_factory=PrivacyOptions)
    """What becomes of the names."""
    stamp: bool = False
    """Add to every row the run's fingerprint, the model, and the row's number in the input."""


@dataclass(frozen=True, kw_only=True)
class ScoreRequest(ScoringRequest):
    """Score every name of a table and publish the predictions as one run folder.

    Every input row comes back exactly once, in order, with its own columns unchanged and
    language, confidence, status and reason added.
    """

    source: TableSource
    model: str = "pretrained"
    delivery: DeliveryOptions = field(default_factory=DeliveryOptions)
    """Where the rows go."""
    force: bool = False
    """Score again even where the same run is already published."""


@dataclass(frozen=True, kw_only=True)
class CompareRequest(TableRequest):
    """Score one table with two model versions in one pass and publish what would change.

    The comparison has a folder of its own; scoring runs stay as they are.
    """

    source: TableSource
    model: str = "champion"
    """The version in use: an alias such as champion, a version, or pretrained."""
    challenger: str = "candidate"
    """The version that may replace it."""
    name_column: str = "name"
    """The column that holds the names."""
    given_column: str = ""
    """The column of given names; replaces the name column, with or without a surname column."""
    surname_column: str = ""
    """The column of surnames; likewise."""
    name_order: NameOrder = "auto"
    """Order of a given name and a surname in one column: auto, given-surname, surname-given, comma
    (Surname, Given), or surname (there are only surnames)."""
    transliterate: bool = False
    """Write names in other scripts in Latin letters first."""
    sample: Annotated[int, Ge(0)] = 0
    """Compare about this many rows, evenly spread over the table; 0 compares all."""
    flips: bool = False
    """Also write the rows that change: their number (from 0), both labels and both confidences;
    no names."""
    output: PathOrUri = ""
    """Folder for the comparisons (default outputs/comparisons/NAME)."""
    private: bool = False
    """Make files that only their owner can read."""
    force: bool = False
    """Compare again even where the same comparison is already published."""


@dataclass(frozen=True, kw_only=True)
class InboxRequest(ScoringRequest):
    """Score every new or changed file of a folder, one run each; published runs stay as they are.

    A file is a table (Parquet, CSV), or a folder of tables, which is one input. Names that begin
    with a dot or an underscore are passed over; other kinds are named. A file that cannot be
    scored does not stop the others; at the end it makes this run fail.
    """

    folder: Path = Path("data/inbox")
    """Where the files arrive."""
    model: str = "champion"
    output: Path = PREDICTIONS
    """The runs of people.csv go to the folder people in here, those of people.parquet to
    people~parquet."""
    settle_seconds: Annotated[float, Interval(ge=0, le=86_400)] = 10.0
    """A file whose size or time changes within this many seconds is still being written; it is
    left for the next run."""
    on_drift: Literal["ignore", "warn", "fail"] = "warn"
    """What to do when the names are not like those of the last runs: ignore, warn, or fail
    (the file counts as failed; its run is published in any case)."""


@dataclass(frozen=True, kw_only=True)
class MonitorRequest(Request):
    """Draw one page of all runs in a folder, with their history, comparisons, models and shares.

    The page is FOLDER/index.html: self-contained, with links to the reports beside it.
    """

    folder: Path = OUTPUTS
    """A folder of destinations, such as outputs, or one, such as outputs/predictions/people."""
    last: Annotated[int, Ge(1)] = 100
    """How many runs of each destination to show, the newest ones."""


@dataclass(frozen=True, kw_only=True)
class SharesRequest(Request):
    """Estimate the shares of the labels in a run, by groups of its rows, with 95 % intervals.

    Counts are corrected for what the model is known to confuse, by the shares of each group
    (docs/shares.md). The tables and the page show the values of the grouping columns, no name, and
    nothing of groups under ten rows.
    """

    run: Path
    """Folder of a run, or of a destination, such as outputs/predictions/people, for its newest
    run."""
    by: tuple[str, ...] = ()
    """Columns to group by, such as country; give it again for another. One of dates, or called
    month, is read by month, and the changes from month to month are estimated as well."""
    weight: str = ""
    """A column of numbers that say how often a row counts."""
    against: Path | None = None
    """Another run of the same model, such as last month's: the changes since are estimated."""
    models: ModelsFolder = MODELS
    device: str = "auto"
    """Device: auto, cpu, cuda or cuda:N."""
    output: Path = SHARES
    """The shares of outputs/predictions/people go to the folder people in here: shares.parquet,
    changes.parquet, shares.html."""


@dataclass(frozen=True, kw_only=True)
class ReviewRequest(Request):
    """Write the names of a run that a person should look at as CSV, or read their labels back.

    Fill in the last column, called language or what the model calls its labels, where you know it,
    and give the file to ``apply``: it becomes a labelled table that evaluate, ingest and so train
    take. The file holds names.
    """

    run: Path | None = None
    """Folder of a run, or of a destination, such as outputs/predictions/people, for its newest
    run."""
    rows: Annotated[int, Interval(ge=1, le=100_000)] = 200
    """How many names to write, at most."""
    apply: Path | None = None
    """A file that was filled in, CSV or Parquet, instead of a run."""
    csv: CsvFormat = field(default_factory=CsvFormat)
    """How that file is written."""
    output: Path = REVIEWS
    """Names of outputs/predictions/people go to people.csv in here; labels of people.csv to
    people.labels.parquet."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.run is None) == (self.apply is None):
            raise ConfigError(
                "review needs a run to write names of, or a filled in file to apply, not both",
                option="apply",
            )


@dataclass(frozen=True, kw_only=True)
class VerifyRequest(Request):
    """Prove a published run again from its bytes: digests, page checksums, row counts."""

    run: PathOrUri
    """Folder of a run, or of a destination such as outputs/predictions/people for its newest run;
    or the URI of an uploaded run, or of the prefix that it was uploaded to."""


@dataclass(frozen=True, kw_only=True)
class PurgeRequest(Request):
    """Remove published runs that are older than some days, and left-overs of unfinished ones. The
    newest run of each destination stays."""

    folder: Path = PREDICTIONS
    """A destination, or a folder of destinations."""
    older_than: Annotated[float, Interval(ge=0, le=36_525)]
    """Days."""
    newest: bool = False
    """Remove the newest run of a destination as well, if it is that old."""
    yes: bool = False
    """Remove them; without it they are only listed."""


@dataclass(frozen=True, kw_only=True)
class DoctorRequest(ModelRequest):
    """Check what a run needs on this machine: Python, torch, a GPU, the destination's disk and
    locks, Prefect, the model. Each is a line: ok, or the problem and its fix."""

    output: Path = PREDICTIONS
    """The destination to check, or a folder of destinations."""


@dataclass(frozen=True, kw_only=True)
class IngestRequest(Request):
    """Turn names with labels into one table with folds, a report of its counts and a data card.

    A list is UTF-8 text; its name is the label, and every line is a name, and a row. Rows of a
    labelled table that have the same name and label become one row, whose weight is their number.
    """

    sources: CorpusSources = ("tutorial",)
    name_column: str = "name"
    """The column of a labelled table that holds the names."""
    given_column: str = ""
    """A column of given names, instead of a column of names: the model then knows given names."""
    surname_column: str = ""
    """A column of surnames, likewise; a row of both columns is two names."""
    label_column: str = "language"
    """The column that holds the labels: text, or whole numbers."""
    weight_column: str = ""
    """A column of numbers that say how often a row counts."""
    split_column: str = ""
    """A column of train, validation (or val, dev) and test that says what a row is for; without
    it, folds are a hash of the name."""
    csv: CsvFormat = field(default_factory=CsvFormat)
    """How CSV files are written."""
    target: Path = NAMES
    """The table to write, a folder of parts if it is large; an equal one is left as it is."""
    url: str = TUTORIAL_URL
    """Where the tutorial's archive is downloaded from (https)."""
    digest: str = ""
    """Content digest the lists must have; without it, the tutorial's, which is known, is checked
    after a download from its own address."""

    def __post_init__(self) -> None:
        super().__post_init__()
        settled = tuple(local_path(source, "sources", uri=True) for source in self.sources)
        object.__setattr__(self, "sources", settled or ("tutorial",))


@dataclass(frozen=True, kw_only=True)
class TrainRequest(Request):
    """Fit a preset under both protocols and publish it as a new model version."""

    preset: Literal["seed", "default", "tiny", "tutorial"] = "default"
    """Preset: seed (the notebook's recipe), default (the best small one), tiny (the fastest), or
    tutorial (for the tutorial's lists: Latin letters without accents, labels as frequent as in the
    lists)."""
    data: Path = NAMES
    """The table that ingest wrote."""
    script: Literal["auto", "preset"] | None = None
    """Characters and text rules: auto (the symbols that cover 99.9 % of the characters, at most
    255; case and accents where they tell labels apart) or preset (the preset's). Default: auto for
    labelled tables, but for presets of Latin letters."""
    outside: Path | None = None
    """A table of names of other lists, made by ingest as well: half of them calibrate the model,
    every label counting alike, the others are reported on."""
    models: ModelsFolder = MODELS
    device: Device = "auto"
    """Device: auto, cpu, cuda or cuda:N."""
    seed: Annotated[int, Ge(0)] = 0
    """Seed of the version's weights, and the first of the seed protocol's."""
    seeds: Annotated[int, Ge(0)] = 1
    """How many runs of the seed protocol to do; 0 leaves it out."""
    epochs: Annotated[int, Ge(1)] | None = None
    """Instead of the preset's, and instead of its teacher's."""
    batch_size: Annotated[int, Ge(1)] | None = None
    """Instead of the preset's."""
    learning_rate: Annotated[float, Interval(gt=0, le=100)] | None = None
    """Instead of the preset's."""
    baselines: bool = True
    """Also measure the majority label and character n-grams."""
    resume: bool = False
    """Go on from the checkpoints of an interrupted training of the same data and recipe."""
    promote: Literal["gate", "always", "never"] = "gate"
    """Let champion point at the new version: gate (unless it is worse on the test fold, or cannot
    be believed: see ``promote``), always or never."""
    mlflow: PathOrUri = ""
    """An MLflow tracking server (URI) at which to log and register the version as well."""


@dataclass(frozen=True, kw_only=True)
class ExplainRequest(ModelRequest):
    """Show what speaks for the answer to one name: n-grams, characters, the rest.

    The name and its parts are printed, and drawn in the figure, and nothing is kept or logged.
    """

    name: str
    """The name; in quotes if it has a space."""
    part: Literal["surname", "given"] = "surname"
    """Whether it is a surname or a given name."""
    top_k: Annotated[int, Ge(1)] = 3
    """How many labels to give, most probable first; at least two."""
    figure: Path | None = None
    """Also draw it into this file, an SVG."""


@dataclass(frozen=True, kw_only=True)
class ListRequest(Request):
    """List every version with its preset, metrics on the honest test fold and aliases."""

    models: ModelsFolder = MODELS


@dataclass(frozen=True, kw_only=True)
class LabelledRequest(Request):
    """A request to measure versions on labelled names."""

    on: PathOrUri = ""
    """A labelled table, Parquet or CSV: a file, a folder, a glob or a URI (s3://)."""
    name_column: str = "name"
    """The column of that table that holds the names."""
    given_column: str = ""
    """A column of given names, instead of a column of names."""
    surname_column: str = ""
    """A column of surnames, instead of a column of names."""
    label_column: str = ""
    """The column that holds the labels; by default it is called what the version calls them."""
    data: Path = NAMES
    """The training table, whose honest folds are used where ``on`` is not given."""
    models: ModelsFolder = MODELS
    csv: CsvFormat = field(default_factory=CsvFormat)
    """How CSV files are written."""


@dataclass(frozen=True, kw_only=True)
class EvaluateRequest(LabelledRequest):
    """Measure a version on the honest folds of the training table, or on a labelled table."""

    version: str
    """A version or an alias."""


@dataclass(frozen=True, kw_only=True)
class CompareVersionsRequest(LabelledRequest):
    """Compare two versions on the same labelled names, those of the honest test fold of the
    training table or of a labelled table: metrics, the paired difference with its interval, and the
    labels that change from the first to the second."""

    one: str
    """A version or an alias."""
    other: str
    """Another."""


@dataclass(frozen=True, kw_only=True)
class PromoteRequest(Request):
    """Point the alias champion at a version, unless it is worse than the present champion, or
    cannot be believed. A champion of other data is measured on the candidate's test fold.

    Believed is a version with two labels of 20 test names each, of whose test names scoring answers
    nine in ten, and which is more accurate than the most frequent label and no worse than the other
    baselines, where they were measured.
    """

    version: str = "candidate"
    """A version or an alias, such as candidate."""
    models: ModelsFolder = MODELS
    data: Path = NAMES
    """The training table of the version, read where the champion was trained on another."""
    force: bool = False
    """Promote it in spite of that."""


@dataclass(frozen=True, kw_only=True)
class RollbackRequest(Request):
    """Point an alias at the version it named before."""

    alias: str = "champion"
    """Champion, or another alias."""
    models: ModelsFolder = MODELS


@dataclass(frozen=True, kw_only=True)
class RegisterRequest(Request):
    """Log a version at an MLflow tracking server and register it with the aliases that it has here.

    A version that is registered already is not logged again; only its aliases are moved.
    """

    version: str = "champion"
    """A version or an alias."""
    mlflow: PathOrUri
    """URI of the server, such as http://127.0.0.1:5000 or sqlite:///mlflow.db."""
    models: ModelsFolder = MODELS
    name: str = "charrnn"
    """Name of the experiment and of the registered model."""


@dataclass(frozen=True, kw_only=True)
class PipelineRequest(Request):
    """Make the training table, train on it, promote the model if it is not worse, and score."""

    names: PathOrUri
    """The table to score: a file, a folder or a glob."""
    sources: CorpusSources = ("tutorial",)
    name_column: str = "name"
    """The column that holds the names to score."""
    data: Path = NAMES
    """Where the training table is written."""
    models: ModelsFolder = MODELS
    output: PathOrUri = ""
    """Folder for the runs (default outputs/predictions/NAME); or a Parquet or CSV file (with the
    suffixes of inputs), or a URI on object storage, that receives all rows as well."""
    preset: Literal["seed", "default", "tiny", "tutorial"] = "default"
    """Preset of the model."""
    epochs: Annotated[int, Ge(1)] | None = None
    """Instead of the preset's."""
    device: Device = "auto"
    """Device: auto, cpu, cuda or cuda:N."""
