"""Compare a run with what came before it: the model's validation names, and the run before."""

from pathlib import Path
from typing import Any

from charrnn.model.version import ModelVersion
from charrnn.monitoring.drift import Drift, drift
from charrnn.runs.folders import run_name
from charrnn.runs.manifest import RunManifest, newest_first


def drift_of(
    manifest: RunManifest, destination: Path, model: ModelVersion
) -> tuple[Drift, list[str]]:
    """Return how the run of ``manifest`` differs from the model's validation names and from the
    run before it in ``destination`` (see ``monitoring.drift``), and a sentence for each folder on
    the way that cannot be compared with."""
    reference = (model.name, model.facts.profile)
    label_name = manifest.options.scoring.label_name
    passed_over = list[str]()
    previous = run_before(manifest, destination, passed_over)
    if previous is None:
        profile = manifest.profile
        alone = drift(
            profile, reference, None, same_rules=False, same_cut=False, label_name=label_name
        )
        return alone, passed_over
    name, before = previous
    same_rules = _text_rules(before) == _text_rules(manifest)
    compared = drift(
        manifest.profile,
        reference,
        (name, before.profile),
        same_rules=same_rules,
        same_cut=2 / 3 < _rows_per_part(manifest) / _rows_per_part(before) < 3 / 2,
        standing=before.drift.model.large if before.drift and same_rules else (),
        label_name=label_name,
    )
    return compared, passed_over


def run_before(
    manifest: RunManifest, destination: Path, passed_over: list[str]
) -> tuple[str, RunManifest] | None:
    """Return name and manifest of the newest run of other bytes of the same columns, or None. A run
    of a later time, made while a clock was ahead, is not the run before."""
    columns = manifest.options.scoring.name_fields
    for run, other in newest_first(destination, passed_over):
        if other.created > manifest.created:
            continue
        if other.options.scoring.name_fields == columns and other.inputs != manifest.inputs:
            return run_name(run), other
    return None


def _text_rules(manifest: RunManifest) -> tuple[Any, ...]:
    """Return the model and the options that decide which names can be scored."""
    options = manifest.options.scoring
    rules = (
        options.transliterate,
        options.max_length,
        options.max_unknown,
        options.name_order,
    )
    return (manifest.model.digest, *rules)


def _rows_per_part(manifest: RunManifest) -> float:
    """Return the size of partitions: duplicates are counted within each."""
    return max(1, manifest.rows) / max(1, len(manifest.parts))
