"""Scoring runs: the parts, their receipts, and the one rename that publishes them.

    outputs/predictions/people/.lock                      held while a run is written
                              /.staging-1f3a9c…/          parts of an unfinished run
                              /20261124T020000Z-1f3a9c/   a run: part-00000.parquet …,
                                                          manifest.json, report.html, SHA256SUMS
                              /latest                     link to the run asked for last

A *fingerprint* stands for the bytes of the inputs, the model and the options. It names the staging
folder, so a part found there with a valid receipt is finished work and is reused. Nothing that has
been published is ever modified.
"""

from __future__ import annotations

__all__ = [
    "RUN_NAME",
    "SCHEMA_VERSION",
    "Receipt",
    "RunPlan",
    "count_values",
    "fingerprint",
    "finished_run",
    "hold_destination",
    "newest_first",
    "parquet_options",
    "point_latest_at",
    "publish",
    "read_manifest",
    "read_receipt",
    "staging_folder",
    "verify_run",
    "write_part",
]

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import charrnn
from charrnn.errors import CharrnnError, DataError, InputMissingError, StorageError
from charrnn.files import (
    SUMS,
    check_sums,
    hold,
    json_bytes,
    publish_folder,
    remove_file,
    remove_tree,
    sha256_of,
    swap_link,
    write_bytes,
    write_sums,
    writing_parquet,
    writing_to,
)
from charrnn.monitoring import CONFIDENCE_BINS, Profile, confidence_histogram, total
from charrnn.partitions import Partition
from charrnn.tables import InputFile, Source, as_large_string, check_unchanged

SCHEMA_VERSION = 2  # of the output columns and of the manifest; 1 had no profile, and is read
RUN_NAME = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}(-\d+)?")


@dataclass(frozen=True)
class Receipt:
    """What is known of one finished part; written beside it once the part is durable.

    ``statuses``, ``reasons`` and ``labels`` count rows; ``confidence_sum`` adds up the confidence
    of the scored ones; ``profile`` holds the counts of a ``monitoring.Profile``.
    """

    index: int
    first_row: int
    rows: int
    size: int
    sha256: str
    statuses: dict[str, int]
    reasons: dict[str, int]
    labels: dict[str, int]
    confidence_sum: float
    profile: dict[str, Any]


@dataclass(frozen=True)
class RunPlan:
    """What is to be done: everything a worker needs besides the model. ``name_key`` is the secret
    that names are hashed with (see ``privacy.name_key``); it is neither shown nor written."""

    destination: Path
    fingerprint: str
    source: Source
    partitions: tuple[Partition, ...]
    model: dict[str, str]
    options: dict[str, Any]
    name_key: bytes = field(default=b"", repr=False)

    @property
    def staging(self) -> Path:
        """Folder of the unfinished run."""
        return staging_folder(self.destination, self.fingerprint)


def fingerprint(files: Sequence[InputFile], model_digest: str, options: Mapping[str, Any]) -> str:
    """Return the SHA-256 that decides whether two runs are the same work. File names count, their
    folders and times do not."""
    content = {
        "charrnn": charrnn.__version__,
        "schema_version": SCHEMA_VERSION,
        "inputs": [[file.path.name, file.size, file.sha256] for file in files],
        "model": model_digest,
        "options": dict(sorted(options.items())),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def staging_folder(destination: Path, digest: str) -> Path:
    """Return where the parts of an unfinished run lie."""
    return destination / f".staging-{digest[:16]}"


def finished_run(destination: Path, digest: str) -> Path | None:
    """Return the newest published run with this fingerprint that has all its parts, or None."""
    if not destination.is_dir():
        return None
    for run in sorted(destination.glob(f"*-{digest[:8]}*"), reverse=True):
        if RUN_NAME.fullmatch(run.name) and _is_finished(run, digest):
            return run
    return None


def _is_finished(run: Path, digest: str) -> bool:
    try:
        manifest = read_manifest(run)
        sizes = [(run / part["name"]).stat().st_size == part["size"] for part in manifest["parts"]]
    except (CharrnnError, OSError, KeyError, TypeError):
        return False  # damaged: score again, beside it
    return manifest["fingerprint"] == digest and all(sizes)


@contextmanager
def hold_destination(destination: Path, holder: str) -> Iterator[None]:
    """Hold a destination while a run is written to it (see ``files.hold``). Where that fails before
    a part is finished, no copy of the input stays, and no destination that was not there before."""
    with hold(destination / ".lock", holder):
        try:
            yield
        except BaseException:
            for staging in destination.glob(".staging-*"):
                if not any(staging.glob("part-*.json")):
                    remove_tree(staging)
            raise


def write_part(table: pa.Table, path: Path, plan: RunPlan, partition: Partition) -> str:
    """Write one part atomically and return its SHA-256; its footer says which rows of which run it
    holds.

    Raises:
        StorageError: what is on the disk is not what was written.
    """
    ours = {
        "charrnn.fingerprint": plan.fingerprint,
        "charrnn.part": str(partition.index),
        "charrnn.first_row": str(partition.first_row),
    }
    metadata = {
        **(table.schema.metadata or {}),
        **{k.encode(): v.encode() for k, v in ours.items()},
    }
    with writing_to(path) as temporary:
        pq.write_table(
            table.replace_schema_metadata(metadata),
            temporary,
            **parquet_options(table, plan.source.schema.names),
        )
        try:
            whole = pq.read_metadata(temporary).num_rows == table.num_rows
        except pa.ArrowException:
            whole = False
        if not whole:
            raise StorageError(f"{path} could not be read back; check the disk and run this again")
        return sha256_of(temporary)


def parquet_options(table: pa.Table, given: Sequence[str]) -> dict[str, Any]:
    """Return how parts are written, as options of ``pyarrow.parquet.write_table``; ``given`` are
    the columns of the input.

    Pages carry checksums. Floats are split by byte, which packs probabilities best. A dictionary is
    left out where values hardly repeat, statistics where no one would skip rows by them: in the
    columns that scoring adds.
    """
    floats = [f.name for f in table.schema if pa.types.is_float32(f.type)]
    return {
        "compression": "zstd",
        "compression_level": 1,
        "write_page_checksum": True,
        "write_statistics": list(given),
        "use_dictionary": [
            name for name in table.column_names if name not in floats and _repeats(table[name])
        ],
        "use_byte_stream_split": floats or False,
    }


def _repeats(column: pa.ChunkedArray) -> bool:
    """Whether values repeat often enough for a dictionary, going by the first few thousand."""
    first = column.slice(0, 2**12)
    try:
        return bool(pc.count_distinct(first).as_py() <= len(first) / 2)
    except pa.ArrowNotImplementedError:  # dictionaries, for one, and lists
        return True


def part_path(folder: Path, index: int) -> Path:
    """Return the path of a part."""
    return folder / f"part-{index:05d}.parquet"


def write_receipt(folder: Path, receipt: Receipt) -> None:
    """Record that a part is finished; the part itself must be durable by now."""
    write_bytes(_receipt_path(folder, receipt.index), json_bytes(asdict(receipt)))


def read_receipt(plan: RunPlan, partition: Partition) -> Receipt | None:
    """Return the receipt of a part that is finished and unchanged since, or None: do it again."""
    try:
        document = json.loads(_receipt_path(plan.staging, partition.index).read_bytes())
        receipt = Receipt(**document)
        part = part_path(plan.staging, partition.index)
        whole = part.stat().st_size == receipt.size and sha256_of(part) == receipt.sha256
    except (OSError, ValueError, TypeError):
        return None
    same_rows = receipt.first_row == partition.first_row
    return receipt if whole and same_rows and receipt.rows == partition.rows else None


def manifest_of(
    plan: RunPlan, receipts: Sequence[Receipt], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the manifest of a finished run. ``facts`` adds what only the caller knows: the time,
    durations, library versions, device.

    Raises:
        CharrnnError: the parts do not account for every row of the input.
    """
    statuses, reasons, labels = Counter[str](), Counter[str](), Counter[str]()
    for receipt in receipts:
        statuses.update(receipt.statuses)
        reasons.update(receipt.reasons)
        labels.update(receipt.labels)
    rows_out = sum(receipt.rows for receipt in receipts)
    if not plan.source.rows == rows_out == statuses.total():
        raise CharrnnError(
            f"{plan.source.rows} rows came in, {rows_out} went out and {statuses.total()} have a "
            "status; nothing was published, please report this"
        )
    scored = statuses["scored"]
    profile = total(Profile.from_json(receipt.profile) for receipt in receipts)
    confidence = sum(r.confidence_sum for r in receipts) / scored if scored else None
    return {
        "schema_version": SCHEMA_VERSION,
        "fingerprint": plan.fingerprint,
        **facts,
        "model": plan.model,
        "options": plan.options,
        "inputs": [
            {"name": f.path.name, "size": f.size, "sha256": f.sha256, "rows": table.rows}
            for f, table in zip(plan.source.files, plan.source.tables, strict=True)
        ],
        "input_counts": plan.source.counts,
        "rows": plan.source.rows,
        "rejected": count_values(plan.source.rejects["reason"]),
        "statuses": {status: statuses[status] for status in ("scored", "abstained", "unscored")},
        "reasons": dict(reasons.most_common()),
        "labels": dict(labels.most_common()),
        "mean_confidence": confidence,
        "profile": {**profile.to_json(), "expected_accuracy": confidence},
        "parts": [
            {
                "name": part_path(plan.staging, r.index).name,
                "first_row": r.first_row,
                "rows": r.rows,
                "size": r.size,
                "sha256": r.sha256,
            }
            for r in receipts
        ],
    }


def publish(
    plan: RunPlan, manifest: Mapping[str, Any], when: str, files: Mapping[str, bytes]
) -> Path:
    """Make a finished run visible, whole, by one rename, and point ``latest`` at it.

    Args:
        manifest: from ``manifest_of``.
        when: UTC time as ``20261124T020000Z``; part of the run's name.
        files: further files of the run, such as ``report.html``; ``rejects.parquet`` (file, line,
            row, reason; no text) is added where rows were rejected.

    Raises:
        DataError: an input changed since it was opened.
        StorageError: a part is not what was written.
    """
    staging = plan.staging
    for name, content in files.items():
        write_bytes(staging / name, content)
    write_bytes(staging / "manifest.json", json_bytes(manifest))
    rejects = plan.source.rejects
    if rejects.num_rows:
        with writing_parquet(staging / "rejects.parquet", rejects.schema) as writer:
            writer.write_table(rejects)
    parts = {part["name"]: part["sha256"] for part in manifest["parts"]}
    ours = {*parts, *files, "manifest.json", *(["rejects.parquet"] if rejects.num_rows else [])}
    sums = write_sums(staging, ours)
    changed = [name for name, digest in parts.items() if sums[name] != digest]
    if changed:
        raise StorageError(
            f"{', '.join(changed)} in {staging} changed after being written; nothing was "
            "published, check the disk and run this again"
        )
    check_unchanged(plan.source.files)
    # Receipts and staged inputs go last, so that a kill until here costs no finished part.
    for path in staging.iterdir():
        if path.name not in {*ours, SUMS}:
            remove_file(path)
    run = plan.destination / f"{when}-{plan.fingerprint[:8]}"
    attempt = 1
    while True:
        try:
            publish_folder(staging, run)
            break
        except FileExistsError:  # scored again within the same second (--force)
            attempt += 1
            run = plan.destination / f"{when}-{plan.fingerprint[:8]}-{attempt}"
    point_latest_at(run)
    return run


def point_latest_at(run: Path) -> None:
    """Point the destination's ``latest`` link at ``run``, atomically."""
    swap_link(run.parent / "latest", run.name)


def read_manifest(run: Path) -> dict[str, Any]:
    """Return the manifest of a published run.

    Raises:
        InputMissingError: ``run`` is not a run folder.
        DataError: its manifest is damaged.
    """
    try:
        manifest = json.loads((run / "manifest.json").read_bytes())
        manifest["fingerprint"]
    except OSError:
        raise InputMissingError(f"{run} is not a run: it has no manifest.json") from None
    except (ValueError, TypeError, KeyError):
        raise DataError(f"{run / 'manifest.json'} is damaged; score the input again") from None
    if manifest.get("schema_version", 0) > SCHEMA_VERSION:
        raise DataError(
            f"{run} has manifest schema {manifest['schema_version']}, this release reads 1 to "
            f"{SCHEMA_VERSION}; install a newer charrnn"
        )
    return manifest  # type: ignore[no-any-return]


def newest_first(destination: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the published runs of a destination with their manifests, the newest first; runs whose
    manifest cannot be read are passed over."""
    runs = destination.iterdir() if destination.is_dir() else ()
    for run in sorted((r for r in runs if RUN_NAME.fullmatch(r.name)), reverse=True):
        with suppress(CharrnnError):
            yield run, read_manifest(run)


def verify_run(run: Path) -> dict[str, Any]:
    """Re-prove a published run from its bytes and return its manifest: every file against
    ``SHA256SUMS``, every page of every part against its checksum, and every row against the
    manifest's counts.

    Raises:
        DataError: something does not add up; the message says what.
    """
    manifest = read_manifest(run)
    check_sums(run, DataError)
    if manifest.get("kind") == "comparison":  # of two models: nothing in it but counts
        return manifest
    try:
        found = _recount(run, manifest)
        expected = {
            "rows": manifest["rows"],
            "statuses": {status: n for status, n in manifest["statuses"].items() if n},
            "reasons": manifest["reasons"],
            "labels": manifest["labels"],
            "profile": {key: manifest["profile"][key] for key in found["profile"]},
        }
    except (KeyError, TypeError, AttributeError):
        raise DataError(f"{run / 'manifest.json'} is damaged; score the input again") from None
    wrong = [key for key, value in expected.items() if found[key] != value]
    if wrong:
        raise DataError(f"{run}: the parts do not hold the {', '.join(wrong)} the manifest says")
    return manifest


def count_values(column: pa.ChunkedArray) -> dict[str, int]:
    """Return how often each value occurs, nulls left out."""
    entries = column.drop_null().value_counts().to_pylist()
    return {entry["values"]: entry["counts"] for entry in entries}


def _recount(run: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Count rows, statuses, reasons and labels of a run from its parts, pages verified, and what
    of its profile can be told from them."""
    options = manifest["options"]
    corrected = "_uncorrected" if options["prior"] != "train" else ""
    counted = ("status", "reason", "language", f"language{corrected}")
    counts = {name: Counter[str]() for name in counted}
    confidences = np.zeros(CONFIDENCE_BINS, np.int64)
    rows = distinct = 0
    for part in manifest["parts"]:
        try:
            file = pq.ParquetFile(run / part["name"], page_checksum_verification=True)
            table = file.read()  # all columns, to verify all pages
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{run / part['name']} is damaged; score the input again") from error
        path = run / part["name"]
        if path.stat().st_size != part["size"] or sha256_of(path) != part["sha256"]:
            raise DataError(f"{path} is not the file its manifest describes")
        if table.num_rows != part["rows"] or part["first_row"] != rows:
            raise DataError(f"{run / part['name']} does not hold the rows its manifest says")
        rows += table.num_rows
        for name, counter in counts.items():
            counter.update(count_values(table[options["prefix"] + name]))
        answered = table[f"{options['prefix']}confidence{corrected}"].drop_null().to_numpy()
        confidences += confidence_histogram(answered)
        if options["names"] != "omit":
            names = as_large_string(table[options["name_column"]])
            distinct += pc.count_distinct(names, mode="only_valid").as_py()
    statuses, reasons, labels, own_labels = (dict(counts[name]) for name in counted)
    found = {"rows": rows, "statuses": statuses, "reasons": reasons, "labels": labels}
    if manifest["schema_version"] == 1:
        return {**found, "profile": {}}
    profile = {
        "rows": rows,
        "answered": rows - statuses.get("unscored", 0),
        "unscored": {reason: n for reason, n in reasons.items() if reason != "low_confidence"},
        "confidences": confidences.tolist(),
    }
    if "abstained" not in statuses:  # their labels are not in the output
        profile["labels"] = own_labels
    if options["names"] != "omit":
        profile["distinct"] = distinct
    return {**found, "profile": profile}


def _receipt_path(folder: Path, index: int) -> Path:
    return folder / f"part-{index:05d}.json"
