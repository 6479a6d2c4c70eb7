"""Compare a run with what came before it: the model's validation names, and the run before."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charrnn.model.facts import Profile
from charrnn.model.version import ModelVersion
from charrnn.monitoring.drift import Drift, drift
from charrnn.runs.manifest import RunManifest, newest_first


@dataclass(frozen=True)
class PreviousRun:
    """What a comparison needs of a run.

    Attributes:
        text_rules: model and options that decide which names can be scored.
        rows_per_part: distinct names are counted by partition, so duplicates are compared only
            between partitions of like size.
        standing: measures in which the run differed from the model already.
    """

    name: str
    profile: Profile
    text_rules: tuple[Any, ...]
    rows_per_part: float
    standing: list[str]

    @classmethod
    def of(cls, name: str, manifest: RunManifest) -> PreviousRun:
        """Return it from a manifest."""
        options = manifest.options.scoring
        rules = (options.transliterate, options.max_length, options.max_unknown)
        return cls(
            name=name,
            profile=manifest.profile,
            text_rules=(manifest.model.digest, *rules),
            rows_per_part=max(1, manifest.rows) / max(1, len(manifest.parts)),
            standing=manifest.drift.model.large if manifest.drift else [],
        )


def drift_of(manifest: RunManifest, destination: Path, model: ModelVersion) -> Drift:
    """Return how the run of ``manifest`` differs from the model's validation names and from the
    run before it in ``destination``; see ``monitoring.drift``."""
    before = run_before(manifest, destination)
    now = PreviousRun.of("", manifest)
    same_rules = before is not None and before.text_rules == now.text_rules
    return drift(
        now.profile,
        (model.name, model.facts.profile),
        None if before is None else (before.name, before.profile),
        same_rules=same_rules,
        same_cut=before is not None and 2 / 3 < now.rows_per_part / before.rows_per_part < 3 / 2,
        standing=before.standing if before is not None and same_rules else (),
    )


def run_before(manifest: RunManifest, destination: Path) -> PreviousRun | None:
    """Return the newest run of other bytes of the same column; None where there is none."""
    column = manifest.options.scoring.name_column
    for run, other in newest_first(destination):
        if other.options.scoring.name_column == column and other.inputs != manifest.inputs:
            return PreviousRun.of(run.name, other)
    return None
