"""Prefect's ``flow`` and ``task`` where a run is tracked, plain functions where it is not.

A run is tracked when a Prefect API is configured (``PREFECT_API_URL``, or the active Prefect
profile), when Prefect itself loaded this file (a worker, ``serve``, ``deploy``), or with
``--track``, which lets Prefect start its ephemeral server. Otherwise the same function runs as it
is, and Prefect is not even imported: that is what keeps a cold start short.

Whether a run is tracked changes nothing about its output.
"""

from __future__ import annotations

__all__ = ["TRACKED", "flow", "note", "run_facts", "task", "warn"]

import os
import platform
import sys
import tomllib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])


def _profile_has_api() -> bool:
    """Whether the active profile of Prefect names an API, read without importing Prefect."""
    home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    try:
        profiles = tomllib.loads((home / "profiles.toml").read_text())
    except (OSError, tomllib.TOMLDecodeError):
        return False
    active = os.environ.get("PREFECT_PROFILE", profiles.get("active", ""))
    return "PREFECT_API_URL" in profiles.get("profiles", {}).get(active, {})


# Decided once, before anything is decorated; hence the look at the command line.
_EPHEMERAL = "--track" in sys.argv
TRACKED = bool(
    "prefect" in sys.modules
    or os.environ.get("PREFECT_API_URL")
    or _EPHEMERAL
    or _profile_has_api()
)
if _EPHEMERAL:
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_ENABLED", "true")
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")


def flow(**options: Any) -> Callable[[Function], Function]:
    """Decorate a flow; ``options`` are those of ``prefect.flow``."""
    if not TRACKED:
        return lambda function: function
    import prefect

    return cast(Callable[[Function], Function], prefect.flow(**options))


def task(**options: Any) -> Callable[[Function], Function]:
    """Decorate a task; ``options`` are those of ``prefect.task``. Arguments are neither hashed nor
    stored: what has been done is known from the output, never from Prefect's cache."""
    if not TRACKED:
        return lambda function: function
    import prefect
    from prefect.cache_policies import NO_CACHE

    decorated = prefect.task(cache_policy=NO_CACHE, persist_result=False, **options)
    return cast(Callable[[Function], Function], decorated)


def note(key: str, markdown: str) -> None:
    """Attach a Markdown artifact to the flow run; does nothing when untracked. No names in it."""
    if TRACKED:
        from prefect.artifacts import create_markdown_artifact

        create_markdown_artifact(markdown=markdown, key=key)


def warn(text: str) -> None:
    """Log a warning of the flow run; does nothing when untracked. No names in it."""
    if TRACKED:
        from prefect import get_run_logger

        get_run_logger().warning(text)


def run_facts(created: datetime, seconds: float, device: str) -> dict[str, Any]:
    """Return what a manifest says about how a run was made; ``seconds`` is its duration."""
    import polars
    import pyarrow
    import torch

    import charrnn

    return {
        "created": created.strftime("%Y%m%dT%H%M%SZ"),
        "seconds": round(seconds, 3),
        "device": device,
        "tracked": TRACKED,
        "libraries": {
            "charrnn": charrnn.__version__,
            "torch": torch.__version__,
            "polars": polars.__version__,
            "pyarrow": pyarrow.__version__,
            "python": platform.python_version(),
        },
    }
