"""The history of a destination's runs, drawn: one page, the oldest run on the left."""

from __future__ import annotations

__all__ = ["History", "history_markdown", "history_page", "read_histories"]

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from charrnn.errors import InputMissingError
from charrnn.monitoring.drift import LIMITS, alarms
from charrnn.reports.figures import draw_history, percent
from charrnn.reports.page import (
    Block,
    Drawing,
    Heading,
    Link,
    Table,
    Text,
    html_page,
    markdown_page,
)
from charrnn.runs.manifest import newest_first

_DRAWN_LABELS = 6  # more lines cannot be told apart
_TITLE = "History of scoring runs"


@dataclass(frozen=True)
class History:
    """The runs of one destination, oldest first: name and manifest."""

    name: str
    runs: tuple[tuple[str, dict[str, Any]], ...]


def read_histories(folder: Path, last: int) -> list[History]:
    """Return the history of ``folder``, if it is a destination, or of all destinations in it: of
    each the ``last`` runs that can be read, left out where there are none.

    Raises:
        InputMissingError: there is no such folder, or no run in it.
    """
    if not folder.is_dir():
        raise InputMissingError(f"{folder} does not exist; score something first")
    found = []
    for destination in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
        if destination.is_symlink():
            continue
        runs = [(run.name, m) for run, m in islice(_scored(destination), last)]
        if runs:
            found.append(History(str(destination.relative_to(folder)), tuple(reversed(runs))))
    if not found:
        raise InputMissingError(f"{folder} holds no scoring run and no folder of them")
    return found


def _scored(destination: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    return ((run, manifest.to_json()) for run, manifest in newest_first(destination))


def history_page(histories: Sequence[History], folder: str) -> bytes:
    """Return a self-contained HTML page, to be written into ``folder``: its links to the runs'
    reports are relative to it."""
    blocks: list[Block] = [Text(_HOW)]
    for number, history in enumerate(histories):
        blocks += _blocks(history, folder, f"h{number}")
    return html_page(_TITLE, blocks)


def history_markdown(histories: Sequence[History], folder: str) -> str:
    """Return the tables of runs as Markdown."""
    blocks = [block for history in histories for block in _table(history, folder)]
    return markdown_page(_TITLE, blocks)


_HOW = (
    "Every run is one step, the oldest on the left; from a dotted line on, another model answers. "
    "Drift is drawn as the population stability index against the model's validation names and "
    "against the run before; dashed lines mark the limits of "
    f"{LIMITS['languages'][0]} (moderate) and {LIMITS['languages'][1]} (large). A red mark is a "
    "large drift that chance does not explain. Expected accuracy is the mean confidence of the "
    "scored rows: what to expect as long as the names are like the model's."
)


def _blocks(history: History, folder: str, key: str) -> list[Block]:
    table = _table(history, folder)
    if len(history.runs) < 2:
        return [*table, Text("One run has no history yet; there is nothing to draw.")]
    when = [_when(manifest) for _, manifest in history.runs]
    manifests = [manifest for _, manifest in history.runs]
    return [*table[:1], *_drawings(manifests, when, key), *table[1:]]


def _drawings(manifests: Sequence[Mapping[str, Any]], when: Sequence[str], key: str) -> list[Block]:
    """The curves of a history: everything that can be drawn from its manifests."""

    def share(of: str, name: str) -> list[float | None]:
        return [m[of].get(name, 0) / max(1, m["rows"]) for m in manifests]

    models = [m["model"]["digest"] for m in manifests]
    breaks = [i for i in range(1, len(models)) if models[i] != models[i - 1]]
    labels = _largest(manifests, "labels")
    reasons = _largest(manifests, "reasons")
    expected = {"expected accuracy": [m["mean_confidence"] for m in manifests]}
    charts: list[tuple[str, str, dict[str, list[float | None]], dict[str, Any]]] = [
        ("rows", "Rows", {"rows": [m["rows"] for m in manifests]}, {"shares": False}),
        ("classes", "Share of the rows with each language",
         {label: share("labels", label) for label in labels}, {}),
        ("confidence", "Expected accuracy", expected, {"zero": False}),
        ("unscored", "Share of the rows without a language, by reason",
         {reason: share("reasons", reason) for reason in reasons}, {}),
    ]  # fmt: skip
    blocks: list[Block] = []
    for name, title, lines, options in charts:
        if lines:
            options["breaks"] = breaks
            blocks.append(_drawing(f"{key}-{name}", title, when, lines, options))
    for side, what in (("model", "the model's validation names"), ("previous", "the run before")):
        lines, marked = _indices(manifests, side)
        if lines:
            options = {"shares": False, "limits": LIMITS["languages"], "marked": marked,
                       "breaks": breaks}  # fmt: skip
            blocks.append(
                _drawing(f"{key}-{side}", f"Drift against {what} (PSI)", when, lines, options)
            )
    return blocks


def _drawing(
    key: str,
    title: str,
    when: Sequence[str],
    lines: Mapping[str, Sequence[float | None]],
    options: Mapping[str, Any],
) -> Drawing:
    whole = options.get("shares", True)
    rows = [
        (moment, *(_number(values[i], shares=whole) for values in lines.values()))
        for i, moment in enumerate(when)
    ]
    return Drawing(
        key,
        title,
        (7.0, 2.3),
        lambda figure: draw_history(figure, when, lines, **options),
        Table(("run", *lines), rows),
    )


def _largest(manifests: Sequence[Mapping[str, Any]], counted: str) -> list[str]:
    """Return the labels (or reasons) with the largest shares anywhere in the history."""
    largest: dict[str, float] = {}
    for manifest in manifests:
        for name, n in manifest[counted].items():
            largest[name] = max(largest.get(name, 0), n / max(1, manifest["rows"]))
    return sorted(largest, key=lambda name: (-largest[name], name))[:_DRAWN_LABELS]


def _indices(
    manifests: Sequence[Mapping[str, Any]], side: str
) -> tuple[dict[str, list[float | None]], set[tuple[str, int]]]:
    """Return the PSI of every distribution over the runs, None where a run was not compared, and
    which (name, run) are large."""
    lines: dict[str, list[float | None]] = {}
    marked = set()
    for i, manifest in enumerate(manifests):
        found = (manifest.get("drift") or {}).get(side)
        for measure in found["measures"] if found else ():
            if measure["kind"] == "psi":
                line = lines.setdefault(measure["name"], [None] * len(manifests))
                line[i] = measure["value"]
                if measure["level"] == "large":
                    marked.add((measure["name"], i))
    return lines, marked


def _table(history: History, folder: str) -> list[Block]:
    """The runs with their figures, the newest first."""
    name = history.name if history.name != "." else Path(folder).name
    rows = []
    for run, manifest in reversed(history.runs):
        count = max(1, manifest["rows"])
        top = next(iter(manifest["labels"].items()), None)
        report = run if history.name == "." else f"{history.name}/{run}"
        if "profile" in manifest:
            found = manifest.get("drift") or {}
            standing = ", ".join((found.get("model") or {}).get("standing", []))
            calm = f"nothing new ({standing}: as before)" if standing else "steady"
            drift = "; ".join(alarms(found)) or calm
        else:
            drift = "no profile (made by an earlier release)"
        rows.append(
            (
                Link(_when(manifest), f"{report}/report.html"),
                manifest["rows"],
                percent(manifest["statuses"]["scored"] / count),
                f"{top[0]} {percent(top[1] / count)}".replace(" %", "\u00a0%") if top else "–",
                _number(manifest["mean_confidence"], shares=True),
                manifest["model"]["name"],
                drift,
            )
        )
    head = ("run (UTC)", "rows", "scored", "largest language", "expected accuracy", "model",
            "drift")  # fmt: skip
    return [
        Heading(name),
        Table(head, rows, "One run." if len(rows) == 1 else f"{len(rows)} runs, the newest first."),
    ]


def _when(manifest: Mapping[str, Any]) -> str:
    """Return a run's time, ``20261124T020000Z``, as ``2026-11-24 02:00``."""
    made = str(manifest["created"])
    return f"{made[:4]}-{made[4:6]}-{made[6:8]} {made[9:11]}:{made[11:13]}"


def _number(value: float | None, *, shares: bool) -> str:
    if value is None:
        return "–"
    if shares:
        return percent(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
