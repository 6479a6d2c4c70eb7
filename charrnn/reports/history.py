"""The history of the scoring runs of one or more destinations, with a chart per quantity."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from charrnn.errors import InputMissingError, percent
from charrnn.model.labels import shared_label_name
from charrnn.monitoring.drift import LIMITS, ProfileComparison
from charrnn.reports.figures import history_plot
from charrnn.reports.formats import utc_minute
from charrnn.reports.page import Figure, Link, Table, html_page, label_words, markdown_page
from charrnn.runs.manifest import ComparisonManifest, RunManifest, newest_first

_MOST_LINES = 6  # lines in a chart; there are six distinguishable colours

Series = dict[str, list[float | None]]


@dataclass(frozen=True)
class History:
    """The runs of one destination, oldest first: name and manifest; ``passed_over`` has a sentence
    for each folder that is named like a run and is none."""

    name: str
    runs: tuple[tuple[str, RunManifest], ...]
    passed_over: tuple[str, ...] = ()

    @property
    def alarms(self) -> list[str]:
        """A sentence per large drift of the newest run."""
        drift = self.runs[-1][1].drift
        return drift.alarms() if drift else []


def read_histories(folder: Path, last: int) -> tuple[list[History], list[str]]:
    """Return the history of every destination in ``folder`` (see ``_destinations``): the ``last``
    readable runs of each. Return also a sentence for each entry that was passed over in
    destinations without a readable run.

    Raises:
        InputMissingError: ``folder`` does not exist or holds no run.
    """
    if not folder.is_dir():
        raise InputMissingError(f"{folder} does not exist; score something first")
    histories, unreadable = [], list[str]()
    for destination in _destinations(folder):
        passed_over = list[str]()
        scored = (
            (run.name, manifest)
            for run, manifest in newest_first(destination, passed_over)
            if isinstance(manifest, RunManifest)
        )
        runs = tuple(islice(scored, last))[::-1]
        if runs:
            name = str(destination.relative_to(folder))
            histories.append(History(name, runs, tuple(passed_over)))
        else:
            unreadable += passed_over
    if not histories:
        why = f" that can be read: {unreadable[0]}" if unreadable else " and no folder of them"
        raise InputMissingError(f"{folder} holds no scoring run{why}")
    return histories, unreadable


def _destinations(folder: Path) -> Iterator[Path]:
    """Yield what may be a destination: ``folder``, and the folders in it and, but for those of
    runs, in these."""
    yield folder
    for child in _folders(folder):
        yield child
        if child.name != "runs" and not _has_runs(child):
            yield from _folders(child)


def _has_runs(folder: Path) -> bool:
    """Return whether ``folder`` is a destination; one that cannot be read is, to be told of."""
    try:
        return (folder / "runs").is_dir()
    except OSError:
        return True


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(folder / e.name for e in entries if e.is_dir(follow_symlinks=False))
    except PermissionError:
        return []


@dataclass(frozen=True)
class Beside:
    """What lies beside the runs in a folder: tables of models (None without a folder of them),
    comparisons, shares and reviews."""

    models: Table | None
    comparisons: Table
    shares: Table
    reviews: Table


def history_page(histories: Sequence[History], folder: str, beside: Beside | None = None) -> bytes:
    """Return the histories as a self-contained HTML page to be written into ``folder``, with links
    relative to it to the reports of the runs, and with the tables of ``beside``."""
    return html_page("history", **_context(histories, folder, with_figures=True), beside=beside)


def history_markdown(histories: Sequence[History], folder: str) -> str:
    """Return the tables of runs as Markdown, without charts."""
    context = _context(histories, folder, with_figures=False)
    return markdown_page("history", **context, beside=None)


def _context(histories: Sequence[History], folder: str, *, with_figures: bool) -> dict[str, Any]:
    shown: list[dict[str, Any]] = [
        {
            "name": (Path(folder) / history.name).name,
            "alarms": history.alarms,
            "runs": _runs(history),
            "figures": _figures(history) if with_figures else (),
        }
        for history in histories
    ]
    shown.sort(key=lambda history: not history["alarms"])  # the alarming first
    words = label_words(_label_name(run for history in histories for run in history.runs))
    return {
        "histories": shown,
        "alarming": [history for history in shown if history["alarms"]],
        "runs": sum(len(history.runs) for history in histories),
        "overview": Table(
            ("table", *shown[0]["runs"].head),
            [(history["name"], *history["runs"].rows[0]) for history in shown],
        ),
        "with_figures": with_figures,
        "limits": LIMITS["labels"],
        **words,
    }


def comparisons_in(folder: Path) -> Table:
    """Return a row for the newest comparison of two models of every destination in ``folder``."""
    newest = (next(newest_first(d, []), None) for d in _destinations(folder))
    rows = [
        (
            Link(run.parents[1].name, f"{run.relative_to(folder)}/report.html"),
            utc_minute(manifest.created),
            manifest.champion.name,
            manifest.challenger.name,
            manifest.compared,
            "–" if manifest.agreement is None else percent(manifest.agreement),
            manifest.changed,
        )
        for run, manifest in filter(None, newest)
        if isinstance(manifest, ComparisonManifest)
    ]
    head = ("table", "compared (UTC)", "champion", "challenger", "rows", "agreement", "changed")
    return Table(head, rows)


def _label_name(runs: Iterable[tuple[str, RunManifest]]) -> str:
    """Return what the labels of all runs are, "label" where they differ."""
    return shared_label_name(manifest.options.scoring.label_name for _, manifest in runs)


def _runs(history: History) -> Table:
    """Return a row per run, the newest first."""
    rows = []
    for name, manifest in reversed(history.runs):
        report = f"runs/{name}" if history.name == "." else f"{history.name}/runs/{name}"
        count, confidence = max(1, manifest.rows), manifest.mean_confidence
        largest = next(iter(manifest.labels.items()), None)
        rows.append(
            (
                Link(utc_minute(manifest.created), f"{report}/report.html"),
                _drift_words(manifest),
                manifest.rows,
                percent(manifest.statuses["scored"] / count),
                f"{largest[0]} {percent(largest[1] / count)}" if largest else "–",
                "–" if confidence is None else percent(confidence),
                manifest.model.name,
            )
        )
    largest_label = f"largest {_label_name(history.runs)}"
    head = ("run (UTC)", "drift", "rows", "scored", largest_label, "expected accuracy", "model")
    return Table(head, rows)


def _drift_words(manifest: RunManifest) -> str:
    """Return the large differences of a run, or that there is no new one."""
    drift = manifest.drift
    if drift is None:
        return "–"
    if drift.previous is None:
        return "first run"
    standing = ", ".join(drift.previous.standing)
    unchanged = f"as in the run before: {standing}" if standing else "steady"
    return "; ".join(drift.alarms()) or unchanged


def _figures(history: History) -> list[tuple[str, Figure]]:
    """Return a history's charts with their titles: none where there is a single run."""
    manifests = [manifest for _, manifest in history.runs]
    if len(manifests) < 2:
        return []
    times = [utc_minute(manifest.created) for manifest in manifests]
    models = [manifest.model.digest for manifest in manifests]
    breaks = [i for i in range(1, len(models)) if models[i] != models[i - 1]]
    confidence: Series = {"expected accuracy": [m.mean_confidence for m in manifests]}
    limits, label_name = LIMITS["labels"], _label_name(history.runs)
    drifts = [manifest.drift for manifest in manifests]
    model_psi, _ = _indices([d.model if d else None for d in drifts])
    previous_psi, previous_large = _indices([d.previous if d else None for d in drifts])
    charts: list[tuple[str, Series, dict[str, Any]]] = [
        ("Drift against the last runs (PSI)", previous_psi,
         {"shares": False, "limits": limits, "marked": previous_large}),
        ("Difference from the model's validation names (PSI)", model_psi,
         {"shares": False, "limits": limits}),
        (f"Share of the rows with each {label_name}",
         _shares(manifests, [m.labels for m in manifests]), {}),
        ("Expected accuracy", confidence, {"zero": False}),
        (f"Share of the rows without a {label_name}, by reason",
         _shares(manifests, [m.reasons for m in manifests]), {}),
        ("Rows", {"rows": [m.rows for m in manifests]}, {"shares": False}),
    ]  # fmt: skip
    return [
        (title, _figure(times, lines, {**options, "breaks": breaks}))
        for title, lines, options in charts
        if lines
    ]


def _figure(times: Sequence[str], lines: Series, options: dict[str, Any]) -> Figure:
    """Return a chart of ``lines``, name → a value per run, with its numbers."""
    columns = [
        [None if v is None else percent(v) for v in line] if options.get("shares", True) else line
        for line in lines.values()
    ]
    rows = list(zip(times, *columns, strict=True))
    return Figure([history_plot(times, lines, **options)], Table(("run", *lines), rows))


def _shares(manifests: Sequence[RunManifest], counts: Sequence[Mapping[str, int]]) -> Series:
    """Return the shares of the rows per run, from the ``counts`` of each run by label (or reason),
    for the names with the largest share in any run."""
    rows = [max(1, manifest.rows) for manifest in manifests]
    shares = {
        name: [by_name.get(name, 0) / n for by_name, n in zip(counts, rows, strict=True)]
        for name in {name for by_name in counts for name in by_name}
    }
    largest = sorted(shares, key=lambda name: (-max(shares[name]), name))
    return {name: [*shares[name]] for name in largest[:_MOST_LINES]}


def _indices(
    comparisons: Sequence[ProfileComparison | None],
) -> tuple[Series, set[tuple[str, int]]]:
    """Return the PSI of each distribution per run, None where a run was not compared, and which
    (name, run) are large."""
    lines: Series = {}
    large = set()
    for i, compared in enumerate(comparisons):
        for measure in compared.measures if compared else ():
            if measure.kind == "psi":
                lines.setdefault(measure.name, [None] * len(comparisons))[i] = measure.value
                if measure.level == "large":
                    large.add((measure.name, i))
    return lines, large
