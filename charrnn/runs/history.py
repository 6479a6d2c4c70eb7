"""A run and what came before it: the model's validation names, and the run before."""

from __future__ import annotations

__all__ = ["PreviousRun", "drift_of", "run_before"]

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charrnn.model.version import ModelVersion
from charrnn.monitoring.drift import drift, large_measures
from charrnn.monitoring.profile import Profile, reference_profile
from charrnn.runs.manifest import newest_first

_RULES = ("transliterate", "max_length", "max_unknown")  # options that decide what can be read


@dataclass(frozen=True)
class PreviousRun:
    """What is needed of an earlier run: its profile, the model and text options it was made with,
    the rows of its partitions, and in what it differed from the model."""

    name: str
    profile: Profile
    rules: tuple[Any, ...]
    rows_per_part: float
    standing: list[str]

    @classmethod
    def of(cls, name: str, manifest: Mapping[str, Any]) -> PreviousRun:
        """Return it from a manifest; raise KeyError or TypeError where that has no profile."""
        return cls(
            name=name,
            profile=Profile.from_json(manifest["profile"]),
            rules=(manifest["model"]["digest"], *(manifest["options"][key] for key in _RULES)),
            rows_per_part=max(1, manifest["rows"]) / max(1, len(manifest["parts"])),
            standing=large_measures(manifest.get("drift", {}).get("model")),
        )


def drift_of(manifest: Mapping[str, Any], destination: Path, model: ModelVersion) -> dict[str, Any]:
    """Return how the run of ``manifest`` differs from the model's validation names and from the
    run before it in ``destination``; see ``monitoring.drift``."""
    reference = reference_profile(model.facts)
    before = run_before(manifest, destination)
    now = PreviousRun.of("", manifest)
    same_rules = before is not None and before.rules == now.rules
    return drift(
        now.profile,
        None if reference is None else (model.name, reference),
        None if before is None else (before.name, before.profile),
        same_rules=same_rules,
        same_cut=before is not None and 2 / 3 < now.rows_per_part / before.rows_per_part < 3 / 2,
        standing=before.standing if before is not None and same_rules else (),
    )


def run_before(manifest: Mapping[str, Any], destination: Path) -> PreviousRun | None:
    """Return the newest run of other bytes of the same column that has a profile; None where there
    is none."""
    for run, found in newest_first(destination):
        with suppress(KeyError, TypeError, AttributeError):  # of the first schema, or damaged
            same_column = found["options"]["name_column"] == manifest["options"]["name_column"]
            if same_column and found["inputs"] != manifest["inputs"]:
                return PreviousRun.of(run.name, found)
    return None
