"""``manifest.json`` of published runs and comparisons: ``RunManifest`` and ``ComparisonManifest``.

A manifest is checked against the types of its record when it is read; no other module looks up
keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import msgspec

from charrnn.errors import CharrnnError, DataError, InputMissingError
from charrnn.files import read_file
from charrnn.model.facts import Profile
from charrnn.model.version import ModelVersion
from charrnn.monitoring.drift import Drift
from charrnn.runs.folders import RunName, parse_run_name, runs_folder
from charrnn.scoring.options import NamePolicy, ScoreOptions
from charrnn.tables.csv_format import CsvFormat

SCHEMA_VERSION = 1  # of the output columns and of the manifest


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
    """An input file: name, bytes, SHA-256 and, of a run, its rows."""

    name: str
    size: int
    sha256: str
    rows: int | None = None


@dataclass(frozen=True)
class PartRecord:
    """A part of a run: file name, the input rows that it holds, bytes and SHA-256."""

    name: str
    first_row: int
    rows: int
    size: int
    sha256: str


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
    """

    scoring: ScoreOptions
    csv: CsvFormat
    partition_rows: int
    names: NamePolicy = "keep"
    name_key: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the options side by side, as plain JSON values."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "scoring"}
        return _plain({**asdict(self.scoring), **own, "csv": self.csv.to_json()})

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> RunOptions:
        """Rebuild what ``to_json`` returned; raises ``msgspec.ValidationError``."""
        return msgspec.convert({**document, "scoring": document}, cls)


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """How a run was made: time (UTC, as in its folder's name), duration in seconds, the device,
    whether Prefect recorded it, and versions of the libraries."""

    created: str
    seconds: float
    device: str
    tracked: bool
    libraries: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class RunManifest(RunFacts):
    """What is known of a published run; counts only, no name.

    Attributes:
        input_counts: facts about the bytes of CSV inputs, such as blank lines.
        rows: of the input and of the parts, without rejected ones.
        rejected: rows left out, by reason; statuses, reasons, labels: rows by each of them.
        mean_confidence: of scored rows; None where there is none.
        drift: None only before the run is compared.
        fetched: objects that were copied from object storage.
    """

    schema_version: int
    fingerprint: str
    prior: PriorRecord
    model: ModelRef
    options: RunOptions
    inputs: tuple[InputRecord, ...]
    input_counts: dict[str, int]
    rows: int
    rejected: dict[str, int]
    statuses: dict[str, int]
    reasons: dict[str, int]
    labels: dict[str, int]
    mean_confidence: float | None
    profile: Profile
    parts: tuple[PartRecord, ...]
    drift: Drift | None = None
    fetched: tuple[dict[str, Any], ...] = ()

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
class ComparisonManifest(RunFacts):
    """What is known of a published comparison of two models on one table; see ``comparison``.

    Attributes:
        sample: rows to compare, about; 0 means all.
        compared: rows compared; rows: of the whole input.
        agreement: share of the rows with a language from both that have the same; None without
            such rows.
        mean_confidence: the champion's and the challenger's on these rows.
        flips: (champion's label, challenger's label, rows), most rows first.
        class_rows: (label, champion's rows, challenger's rows).
        parts: of the rows that change, where they were asked for.
    """

    kind: Literal["comparison"] = "comparison"
    schema_version: int
    fingerprint: str
    champion: ModelRef
    challenger: ModelRef
    options: RunOptions
    sample: int
    flips_written: bool
    inputs: tuple[InputRecord, ...]
    input_counts: dict[str, int]
    rows: int
    compared: int
    distinct: int
    answered_by_both: int
    agreed: int
    agreement: float | None
    changed: int
    mean_confidence: tuple[float, float] | None
    confidence_changes: ConfidenceChanges
    flips: tuple[tuple[str, str, int], ...]
    class_rows: tuple[tuple[str, int, int], ...]
    parts: tuple[PartRecord, ...]

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
    try:
        content = read_file(path)
    except OSError:
        raise InputMissingError(f"{run} is not a run: it has no manifest.json") from None
    try:
        document: dict[str, Any] = msgspec.json.decode(content, type=dict[str, Any])
        version = msgspec.convert(document.get("schema_version"), int)
        if version <= SCHEMA_VERSION:
            comparison = document.get("kind") == "comparison"
            record: type[Manifest] = ComparisonManifest if comparison else RunManifest
            options = RunOptions.from_json(document.get("options", {}))
            manifest: Manifest = msgspec.convert({**document, "options": options}, record)
            return manifest
    except (msgspec.MsgspecError, RecursionError, TypeError, ValueError, CharrnnError) as error:
        raise DataError(f"{path} is damaged ({_reason(error)}); score the input again") from None
    raise DataError(
        f"{run} has manifest schema {version}, this release reads 1 to {SCHEMA_VERSION}; "
        "install a newer release"
    )


def read_run(run: Path) -> RunManifest:
    """Return the manifest of a run; raises as ``read_manifest``, and DataError for a comparison."""
    manifest = read_manifest(run)
    if isinstance(manifest, ComparisonManifest):
        raise DataError(f"{run} is a comparison of two models; it has no scored rows")
    return manifest


def read_comparison(run: Path) -> ComparisonManifest:
    """Return the manifest of a comparison; raises as ``read_manifest``, and DataError for a run."""
    manifest = read_manifest(run)
    if isinstance(manifest, RunManifest):
        raise DataError(f"{run} is a scoring run, not a comparison of two models")
    return manifest


def newest_first(destination: Path) -> Iterator[tuple[Path, RunManifest]]:
    """Yield the published runs of a destination with their manifests, the newest first; runs whose
    manifest cannot be read are passed over."""
    folder = runs_folder(destination)
    runs = folder.iterdir() if folder.is_dir() else ()
    named = [run for run in runs if parse_run_name(run.name)]
    for run in sorted(named, key=_order, reverse=True):
        with suppress(CharrnnError):
            yield run, read_run(run)


def _order(run: Path) -> RunName:
    name = parse_run_name(run.name)
    assert name is not None
    return name


def _plain(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document with lists in place of tuples, as JSON has it."""
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(document))
    return plain


def _reason(error: Exception) -> str:
    """Return what msgspec says of a document: the type expected, and the field's path; no value."""
    return str(error) if isinstance(error, msgspec.ValidationError) else type(error).__name__
