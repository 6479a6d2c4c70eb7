"""Manifests of published runs."""

from __future__ import annotations

__all__ = ["RUN_NAME", "SCHEMA_VERSION", "newest_first", "read_manifest"]

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from charrnn.errors import CharrnnError, DataError, InputMissingError

SCHEMA_VERSION = 2  # of the output columns and of the manifest; 1 had no profile, and is read
RUN_NAME = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}(-\d+)?")


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
