"""Compare a run with what came before it: the model's validation names, and the last runs."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from charrnn.model.version import ModelVersion
from charrnn.monitoring.drift import LAST_RUNS, Drift, compare, drift, medoid
from charrnn.runs.folders import run_name
from charrnn.runs.manifest import NO_RUN, ComparisonManifest, RunManifest, newest_first


def drift_of(
    manifest: RunManifest, destination: Path, model: ModelVersion
) -> tuple[Drift, list[str]]:
    """Return how the run of ``manifest`` differs from the model's validation names and from the
    last runs in ``destination`` (see ``monitoring.drift``), and a sentence for each folder on the
    way that cannot be compared with."""
    now, label_name = manifest.profile, manifest.options.scoring.label_name
    reference, passed_over = (model.name, model.facts.profile), list[str]()
    before = list(islice(_runs_before(manifest, destination, passed_over), LAST_RUNS))
    alike = [run for run in before if _text_rules(run[1]) == _text_rules(manifest)]
    last, same_rules = alike or before, bool(alike)
    if not last:
        alone = drift(now, reference, None, same_rules=False, same_cut=False, label_name=label_name)
        return alone, passed_over
    name, typical = last[medoid([run.profile for _, run in last], answers=same_rules)]
    compared = drift(
        now,
        reference,
        (name, typical.profile),
        same_rules=same_rules,
        same_cut=2 / 3 < _rows_per_part(manifest) / _rows_per_part(typical) < 3 / 2,
        standing=_standing(manifest, last[0][1]) if same_rules else (),
        label_name=label_name,
    )
    return compared, passed_over


def _runs_before(
    manifest: RunManifest, destination: Path, passed_over: list[str]
) -> Iterator[tuple[str, RunManifest]]:
    """Yield name and manifest of the runs of other bytes of the same columns, the newest first, and
    of several runs of the same bytes the newest. A run of a later time, made while a clock was
    ahead, is not before."""
    columns = manifest.options.scoring.name_fields
    seen = [manifest.inputs]
    for run, other in newest_first(destination, passed_over):
        if isinstance(other, ComparisonManifest):
            passed_over.append(f"{run} {NO_RUN}")
            continue
        if other.created > manifest.created or other.inputs in seen:
            continue
        if other.options.scoring.name_fields == columns:
            seen.append(other.inputs)
            yield run_name(run), other


def _standing(manifest: RunManifest, before: RunManifest) -> list[str]:
    """Return the measures in which the run before differed much from what it was compared with,
    and this one does not differ much from it."""
    if before.drift is None or before.drift.previous is None:
        return []
    measures = compare(manifest.profile, before.profile, answers=True, gaps=True,
                       label_name=manifest.options.scoring.label_name)  # fmt: skip
    new = {measure.name for measure in measures if measure.level == "large"}
    return [name for name in before.drift.previous.large if name not in new]


def _text_rules(manifest: RunManifest) -> tuple[Any, ...]:
    """Return the model and the options that decide which names can be scored."""
    options = manifest.options.scoring
    rules = (options.transliterate, options.max_length, options.max_unknown, options.name_order)
    return (manifest.model.digest, *rules)


def _rows_per_part(manifest: RunManifest) -> float:
    """Return the size of partitions: duplicates are counted within each."""
    return max(1, manifest.rows) / max(1, len(manifest.parts))
