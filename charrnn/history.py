"""The published runs of a destination, one after the other."""

from __future__ import annotations

__all__ = ["drift_of", "run_before"]

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from charrnn.calibration import softmax
from charrnn.monitoring import Profile, drift, large_measures, reference_profile
from charrnn.runs import newest_first
from charrnn.versions import ModelVersion

_RULES = ("transliterate", "max_length", "max_unknown")  # options that decide what can be read


def drift_of(manifest: Mapping[str, Any], destination: Path, model: ModelVersion) -> dict[str, Any]:
    """Return how the run of ``manifest`` differs from the model's validation names and from the
    run before it in ``destination``; see ``monitoring.drift``."""
    validation = None
    if model.calibration is not None:
        validation = softmax(model.calibration.logits, model.temperature)
    reference = reference_profile(model.facts, model.labels, validation)
    before = run_before(manifest, destination)
    if before is None:
        previous, same_rules, same_cut, standing = None, False, False, []
    else:
        name, found = before
        previous = (name, Profile.from_json(found["profile"]))
        same_rules = _rules(found) == _rules(manifest)
        standing = large_measures((found.get("drift") or {}).get("model")) if same_rules else []
        same_cut = 2 / 3 < _rows_per_part(manifest) / _rows_per_part(found) < 3 / 2
    return drift(
        Profile.from_json(manifest["profile"]),
        None if reference is None else (model.name, reference),
        previous,
        same_rules=same_rules,
        same_cut=same_cut,
        standing=standing,
    )


def run_before(manifest: Mapping[str, Any], destination: Path) -> tuple[str, dict[str, Any]] | None:
    """Return the newest run of other bytes of the same column that has a profile, and its
    manifest; None where there is none."""
    for run, found in newest_first(destination):
        other = found.get("inputs") != manifest["inputs"]
        column = found.get("options", {}).get("name_column")
        if other and column == manifest["options"]["name_column"] and "profile" in found:
            return run.name, found
    return None


def _rules(manifest: Mapping[str, Any]) -> tuple[Any, ...]:
    return (manifest["model"]["digest"], *(manifest["options"][key] for key in _RULES))


def _rows_per_part(manifest: Mapping[str, Any]) -> float:
    return float(max(1, manifest["rows"]) / len(manifest["parts"]))
