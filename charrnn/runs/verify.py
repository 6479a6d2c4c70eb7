"""Prove a published run again from its bytes."""

from __future__ import annotations

__all__ = ["verify_run"]

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from charrnn.errors import DataError
from charrnn.files import check_sums, sha256_of
from charrnn.monitoring.profile import CONFIDENCE_BINS, confidence_histogram
from charrnn.runs.manifest import read_manifest
from charrnn.runs.parts import count_values, read_part
from charrnn.tables.columns import as_large_string


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
        path = run / part["name"]
        table = read_part(path)  # all columns, to verify all pages
        if path.stat().st_size != part["size"] or sha256_of(path) != part["sha256"]:
            raise DataError(f"{path} is not the file its manifest describes")
        if table.num_rows != part["rows"] or part["first_row"] != rows:
            raise DataError(f"{path} does not hold the rows its manifest says")
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
