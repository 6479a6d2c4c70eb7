"""``manifest.json`` of published runs and comparisons: ``RunManifest`` and ``ComparisonManifest``.

A manifest is checked against the types and bounds of its record when it is read, and its counts
against each other; no other module looks up keys. Anyone who can write to a folder of runs can put
a folder there that looks like one, so nothing in a manifest leads out of its folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from charrnn.errors import CharrnnError, DataError, InputMissingError, StorageError
from charrnn.files import is_transient, open_file
from charrnn.model.facts import Count, Digest, Profile, Rate
from charrnn.model.labels import LANGUAGE
from charrnn.model.version import ModelVersion
from charrnn.monitoring.drift import Drift
from charrnn.runs.folders import ROWS, named_runs, parse_run_name
from charrnn.scoring.options import NamePolicy, ScoreOptions
from charrnn.tables.csv_format import CsvFormat
from charrnn.tables.discovery import Skipped

SCHEMA_VERSION = 1  # of the output columns and of the manifest
NO_RUN = "is a comparison of two models; it has no scored rows"
_MOST_BYTES = 2**26  # of a manifest, in which a part takes about 200
_MOST_OPTION_BYTES = 2**20
_PART_NAME = re.compile(rf"{ROWS}/part-[0-9]{{5,9}}\.parquet")
Created = Annotated[str, Meta(pattern=r"^[0-9]{8}T[0-9]{6}Z\Z")]
Seconds = Annotated[float, Meta(ge=0, le=1e12)]


@dataclass(frozen=True)
class ModelRef:
    """A model version by name and digest; of a comparison both, separated by a space."""

    name: str
    digest: str

    @classmethod
    def of(cls, version: ModelVersion) -> ModelRef:
        """Return name and digest of one version."""
        return cls(version.name, version.digest)


@dataclass(frozen=True)
class InputRecord:
    """An input file: its path below the folder that was given (see ``FoundFile``), bytes, SHA-256
    and, of a run, its rows."""

    name: str
    size: Count
    sha256: Digest
    rows: Count | None = None


@dataclass(frozen=True)
class PartRecord:
    """A part of a run: path below its folder, the input rows that it holds, bytes and SHA-256."""

    name: str
    first_row: Count
    rows: Count
    size: Count
    sha256: Digest


@dataclass(frozen=True)
class FetchedRecord:
    """An object copied from object storage: its URI, bytes, and ETag, generation or time when it
    was listed."""

    uri: str
    size: Count
    state: str


@dataclass(frozen=True)
class ConfidenceChanges:
    """How many ``rows`` change their confidence by how much; bins between ``edges``, one more than
    bins, from -1 to 1."""

    edges: tuple[float, ...]
    rows: tuple[int, ...]


@dataclass(frozen=True)
class PriorRecord:
    """The prior of a run. ``shares``, ``low`` and ``high`` are by label; ``names`` is the number
    of rows that an estimate rests on, ``refused`` why none was made."""

    kind: Literal["train", "given", "estimate"]
    refused: str | None = None
    names: int | None = None
    shares: dict[str, float] | None = None
    low: dict[str, float] | None = None
    high: dict[str, float] | None = None


@dataclass(frozen=True)
class RunOptions:
    """Everything besides input and model that decides the bytes of a run.

    Attributes:
        partition_rows: rows of a partition, at most.
        names: what becomes of the name column in the output.
        name_key: a digest of the key that names are hashed with; "" without one.
        stamp: add columns that say which run made a row, by which model, and the row's number.
    """

    scoring: ScoreOptions
    csv: CsvFormat
    partition_rows: int
    names: NamePolicy = "keep"
    name_key: str = ""
    stamp: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the options side by side, as plain JSON values."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "scoring"}
        scoring = asdict(self.scoring)
        if self.scoring.label_name == LANGUAGE:  # as runs before there were other labels
            del scoring["label_as"]
        return _plain({**scoring, **own, "csv": self.csv.to_json()})


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """How a run was made: time (UTC, as in its folder's name), duration in seconds, the device,
    whether Prefect recorded it, and versions of the libraries."""

    created: Created
    seconds: Seconds
    device: str
    tracked: bool
    libraries: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class PublishedFacts(RunFacts):
    """What is known of all that is published, by runs and by comparisons of two models.

    Attributes:
        input_counts: facts about the bytes of CSV inputs, such as blank lines.
        rows: of the input, without rejected ones.
        skipped: what lay beside the input files and was not read.
    """

    schema_version: int
    fingerprint: str
    options: RunOptions
    inputs: tuple[InputRecord, ...]
    input_counts: dict[str, Count]
    rows: Count
    parts: tuple[PartRecord, ...]
    skipped: Skipped = field(default_factory=Skipped)


@dataclass(frozen=True, kw_only=True)
class RunManifest(PublishedFacts):
    """What is known of a published run; counts only, no name.

    Attributes:
        rejected: rows left out, by reason; statuses, reasons, labels: rows by each of them.
        mean_confidence: of scored rows; None where there is none.
        reused_rows: of the parts that an earlier try had finished.
        drift: None only before the run is compared.
        fetched: objects that were copied from object storage.
    """

    prior: PriorRecord
    model: ModelRef
    rejected: dict[str, Count]
    statuses: dict[str, Count]
    reasons: dict[str, Count]
    labels: dict[str, Count]
    mean_confidence: Rate | None
    profile: Profile
    reused_rows: Count = 0
    drift: Drift | None = None
    fetched: tuple[FetchedRecord, ...] = ()

    def check(self) -> None:
        """Raise ValueError unless the counts fit each other."""
        self.profile.check()
        sums = (sum(self.statuses.values()), sum(part.rows for part in self.parts))
        if {self.rows, self.profile.rows, *sums} != {self.rows}:
            raise ValueError("rows, statuses, parts and profile do not fit each other")
        if self.statuses.keys() != {"scored", "abstained", "unscored"}:
            raise ValueError("statuses are not those of rows")

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as plain JSON values."""
        document = asdict(self) | {
            "prior": {k: v for k, v in asdict(self.prior).items() if v is not None},
            "options": self.options.to_json(),
            "drift": self.drift and self.drift.to_json(),
            "profile": {**self.profile.to_json(), "expected_accuracy": self.mean_confidence},
        }
        if not self.fetched:
            del document["fetched"]
        return _plain(document)


@dataclass(frozen=True, kw_only=True)
class ComparisonManifest(PublishedFacts):
    """What is known of a published comparison of two models on one table; see ``comparison``.

    Attributes:
        sample: rows to compare, about; 0 means all.
        compared: rows compared.
        agreement: share of the rows with a label from both that have the same; None without
            such rows.
        mean_confidence: the champion's and the challenger's on these rows.
        flips: (champion's label, challenger's label, rows), most rows first.
        class_rows: (label, champion's rows, challenger's rows).
    """

    kind: Literal["comparison"] = "comparison"
    champion: ModelRef
    challenger: ModelRef
    sample: Count
    flips_written: bool
    compared: Count
    distinct: Count
    answered_by_both: Count
    agreed: Count
    agreement: Rate | None
    changed: Count
    mean_confidence: tuple[Rate, Rate] | None
    confidence_changes: ConfidenceChanges
    flips: tuple[tuple[str, str, Count], ...]
    class_rows: tuple[tuple[str, Count, Count], ...]

    def check(self) -> None:
        """Raise ValueError unless the counts fit each other."""
        ascending = (self.agreed, self.answered_by_both, self.compared, self.rows)
        if list(ascending) != sorted(ascending) or max(self.distinct, self.changed) > self.compared:
            raise ValueError("the counts of rows do not fit each other")

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as plain JSON values."""
        return _plain(asdict(self) | {"options": self.options.to_json()})


Manifest = RunManifest | ComparisonManifest


def read_manifest(run: Path) -> Manifest:
    """Return the manifest of a published run or comparison.

    Raises:
        InputMissingError: ``run`` is not a run folder.
        DataError: its manifest is damaged, or written by a newer release.
    """
    path = run / "manifest.json"
    content = _read(path)
    try:
        document = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
        version = msgspec.json.decode(document.get("schema_version", b"null"), type=int)
        if version <= SCHEMA_VERSION:
            manifest = _decode(document)
            names = [part.name for part in manifest.parts]
            if not all(map(_PART_NAME.fullmatch, names)) or len({*names}) < len(names):
                raise ValueError("a part has no name of one")
            manifest.check()
            return manifest
    except (msgspec.MsgspecError, ArithmeticError, RecursionError, TypeError, ValueError,
            CharrnnError) as error:  # fmt: skip
        raise DataError(f"{path} is damaged ({_reason(error)}); score the input again") from None
    raise DataError(
        f"{run} has manifest schema {version}, this release reads 1 to {SCHEMA_VERSION}; "
        "install a newer release"
    )


def _decode(document: dict[str, msgspec.Raw]) -> Manifest:
    """Return the record of a manifest. Every field is decoded as its type, none as any value: what
    the content can make of memory stays near its size."""
    kind = msgspec.json.decode(document.get("kind", b"null"), type=str | None)
    record: type[Manifest] = ComparisonManifest if kind == "comparison" else RunManifest
    options = document.get("options", msgspec.Raw(b"{}"))
    if len(options) > _MOST_OPTION_BYTES:
        raise ValueError("the options are too long")
    flat = msgspec.json.decode(options, type=dict[str, Any])
    nested = msgspec.json.encode({**flat, "scoring": flat})
    content = msgspec.json.encode({**document, "options": msgspec.Raw(nested)})
    return msgspec.json.decode(content, type=record)


def _read(path: Path) -> bytes:
    """Return the content of a manifest: of a regular file of a size that a manifest can have."""
    try:
        with open_file(path) as file:
            content = file.read(_MOST_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise InputMissingError(f"{path.parent} is not a run: it has no manifest.json") from None
    except OSError as error:
        kind = StorageError if is_transient(error) else DataError
        raise kind(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > _MOST_BYTES:
        raise DataError(f"{path} has over {_MOST_BYTES:,} bytes; no manifest has")
    return content


def read_run(run: Path) -> RunManifest:
    """Return the manifest of a run; raises as ``read_manifest``, and DataError for a comparison."""
    manifest = read_manifest(run)
    if isinstance(manifest, ComparisonManifest):
        raise DataError(f"{run} {NO_RUN}")
    return manifest


def read_comparison(run: Path) -> ComparisonManifest:
    """Return the manifest of a comparison; raises as ``read_manifest``, and DataError for a run."""
    manifest = read_manifest(run)
    if isinstance(manifest, RunManifest):
        raise DataError(f"{run} is a scoring run, not a comparison of two models")
    return manifest


def own_manifest(run: Path) -> Manifest:
    """Return the manifest of a run or comparison that is where it was published: its name is its
    time and fingerprint. Raises as ``read_manifest``, and DataError where it is not."""
    manifest = read_manifest(run)
    name = parse_run_name(run.name)
    if not name or (manifest.created, manifest.fingerprint[:8]) != (name.created, name.fingerprint):
        raise DataError(f"{run} holds the run of another folder")
    return manifest


def newest_first(destination: Path, passed_over: list[str]) -> Iterator[tuple[Path, Manifest]]:
    """Yield the published runs and comparisons of a destination with their manifests, the newest
    first.

    Args:
        passed_over: gets a sentence for each entry among them that is none, as it is met.
    """
    try:
        named = named_runs(destination, passed_over)
    except StorageError as error:
        named = {}
        passed_over.append(str(error))
    for _, run in sorted(named.items(), reverse=True):
        try:
            yield run, own_manifest(run)
        except CharrnnError as error:
            passed_over.append(str(error))


def _plain(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document with lists in place of tuples, as JSON has it."""
    return msgspec.json.decode(msgspec.json.encode(document), type=dict[str, Any])


def _reason(error: Exception) -> str:
    """Return what msgspec says of a document: the type expected, and the field's path; no value."""
    ours = isinstance(error, msgspec.ValidationError) or type(error) is ValueError
    return str(error) if ours else type(error).__name__
