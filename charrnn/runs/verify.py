"""Prove a published run again from its bytes."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from charrnn.errors import DataError
from charrnn.files import check_sums, is_system_file, sha256_of
from charrnn.model.facts import CONFIDENCE_BINS
from charrnn.monitoring.profile import confidence_histogram
from charrnn.runs.folders import ROWS
from charrnn.runs.manifest import Manifest, PartRecord, RunManifest, read_manifest
from charrnn.runs.parts import count_values, read_part
from charrnn.scoring.inputs import names_in
from charrnn.scoring.options import ABSTENTIONS
from charrnn.tables.columns import as_large_string


def verify_run(run: Path) -> Manifest:
    """Prove a published run or comparison again from its bytes and return its manifest: every file
    against ``SHA256SUMS``, every page of every part against its checksum, and every row against
    the manifest's counts.

    Raises:
        DataError: something does not add up; the message says what.
    """
    manifest = read_manifest(run)
    check_sums(run, DataError)
    listed = {part.name for part in manifest.parts}
    names = (path.relative_to(run).as_posix() for path in (run / ROWS).glob("*"))
    if others := sorted(name for name in names if name not in listed and not is_system_file(name)):
        more = f" and {len(others) - 1:,} more" if others[1:] else ""
        raise DataError(f"{run}: {others[0]}{more} is no part that the manifest lists")
    if not isinstance(manifest, RunManifest):
        rows = sum(_read_checked(run / part.name, part).num_rows for part in manifest.parts)
        if rows != (manifest.changed if manifest.flips_written else 0):
            raise DataError(f"{run}: the parts do not hold the changes that the manifest says")
        return manifest
    profile = manifest.profile
    expected = {
        "rows": manifest.rows,
        "rows of the profile": profile.rows,
        "statuses": {status: n for status, n in manifest.statuses.items() if n},
        "reasons": manifest.reasons,
        "labels": manifest.labels,
        "labels of the profile": profile.labels,
        "answered rows": profile.answered,
        "unscored rows": profile.unscored,
        "confidences": profile.confidences,
        "distinct names": profile.distinct,
    }
    try:
        counted = _recount(run, manifest)
    except (KeyError, TypeError, pa.ArrowException):
        lacking = "the parts do not have the columns that the manifest says"
        raise DataError(f"{run}: {lacking}") from None
    if differing := [what for what, value in counted.items() if value != expected[what]]:
        found = f"the parts do not hold the {', '.join(differing)}"
        raise DataError(f"{run}: {found} that the manifest says")
    return manifest


def _read_checked(path: Path, part: PartRecord) -> pa.Table:
    """Return all rows of a part, its pages verified, if it is the file that the record says."""
    if path.stat().st_size != part.size or sha256_of(path, links=False) != part.sha256:
        raise DataError(f"{path} is not the file its manifest describes")
    table = read_part(path)
    if table.num_rows != part.rows:
        raise DataError(f"{path} does not hold the rows that the manifest says")
    return table


def _recount(run: Path, manifest: RunManifest) -> dict[str, Any]:
    """Count rows, statuses, reasons and labels of a run from its parts, page checksums verified,
    and what of its profile can be told from them."""
    options = manifest.options.scoring
    policy = manifest.options.names
    # Hashes of two columns tell a missing part from an empty one, which scoring does not.
    keeps_names = policy == "keep" or (policy == "hash" and len(options.name_fields) == 1)
    corrected = "_uncorrected" if options.prior != "train" else ""
    label = options.label_name
    columns = ("status", "reason", label, f"{label}{corrected}")
    counts = {name: Counter[str]() for name in columns}
    confidences = np.zeros(CONFIDENCE_BINS, np.int64)
    rows = distinct = 0
    for part in manifest.parts:
        table = _read_checked(run / part.name, part)
        if part.first_row != rows:
            raise DataError(f"{run / part.name} does not hold the rows that the manifest says")
        rows += table.num_rows
        for name, counter in counts.items():
            counter.update(count_values(table[options.prefix + name]))
        confidence = table[f"{options.prefix}confidence{corrected}"].drop_null().to_numpy()
        confidences += confidence_histogram(confidence)
        if keeps_names:
            names = as_large_string(names_in(table, options))
            distinct += pc.count_distinct(names, mode="only_valid").as_py()
    statuses, reasons, labels, own_labels = (dict(counts[name]) for name in columns)
    counted: dict[str, Any] = {
        "rows": rows,
        "rows of the profile": rows,
        "statuses": statuses,
        "reasons": reasons,
        "labels": labels,
        "answered rows": rows - statuses.get("unscored", 0),
        "unscored rows": {reason: n for reason, n in reasons.items() if reason not in ABSTENTIONS},
        "confidences": confidences.tolist(),
    }
    if keeps_names:
        counted["distinct names"] = distinct
    if "abstained" not in statuses:  # the labels of abstained rows are not in the output
        counted["labels of the profile"] = own_labels
    return counted
