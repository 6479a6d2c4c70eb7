"""Draw one page of all scoring runs, comparisons, models, shares and reviews in a folder."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from charrnn.errors import percent
from charrnn.files import read_file, write_bytes
from charrnn.recipes.models import list_models
from charrnn.recipes.requests import ListRequest, MonitorRequest
from charrnn.reports.history import (
    Beside,
    History,
    comparisons_in,
    history_markdown,
    history_page,
    read_histories,
)
from charrnn.reports.page import Bars, Link, Table
from charrnn.runs.folders import passed_over_line
from charrnn.runs.shares import NUMBERS


@dataclass(frozen=True)
class MonitorPage:
    """The page, and what it shows; ``unreadable`` has a sentence for each entry passed over in
    destinations without a readable run."""

    page: Path
    histories: list[History]
    markdown: str
    unreadable: list[str]

    @property
    def drift(self) -> list[tuple[str, str]]:
        """(destination, sentence) of each large drift of a newest run."""
        return [(history.name, text) for history in self.histories for text in history.alarms]

    def lines(self) -> list[str]:
        """Return the lines about the histories on the page."""
        lines = []
        for history in self.histories:
            newest = history.runs[-1][0]
            lines.append(f"{history.name:20} {len(history.runs):,} runs, the last {newest}")
            passed_over = passed_over_line(history.passed_over)
            lines += [f"{'':20} {text}" for text in passed_over]
            lines += [f"{'':20} drift: {text}" for text in history.alarms]
        return [*lines, *passed_over_line(self.unreadable), f"page                 {self.page}"]


def monitor(request: MonitorRequest) -> MonitorPage:
    """Draw the history of all runs in a folder, with its comparisons, models, shares and reviews,
    as one page.

    Raises:
        InputMissingError: the folder holds no run.
    """
    folder = str(request.folder)
    histories, unreadable = read_histories(request.folder, request.last)
    beside = Beside(
        _models(request.folder / "models"),
        comparisons_in(request.folder),
        _shares(request.folder / "shares"),
        _reviews(request.folder / "review"),
    )
    page = request.folder / "index.html"
    write_bytes(page, history_page(histories, folder, beside))
    return MonitorPage(page, histories, history_markdown(histories, folder), unreadable)


def _models(folder: Path) -> Table | None:
    """Return a row per model version, with a link to the reports of those in ``folder``; None where
    there is no such folder."""
    if not folder.is_dir():
        return None
    rows, accuracies = [], []
    for v in list_models(ListRequest(models=folder)).versions:
        if v.facts is None:
            continue
        test, report = v.facts.metrics.honest.test, folder / v.name / "report.html"
        name = Link(v.name, f"models/{v.name}/report.html") if report.is_file() else v.name
        aliases = ", ".join(v.aliases) or "–"
        rows.append((name, percent(test.accuracy), test.macro_f1, test.count, aliases))
        accuracies.append(test.accuracy)
    bars = Bars.of_shares("accuracy", accuracies, whole=True)
    return Table(("model", "accuracy", "macro-F1", "test names", "aliases"), rows, bars)


def _shares(folder: Path) -> Table:
    """Return a row per page of shares in ``folder``."""
    rows = []
    for page in sorted(folder.glob("*/shares.html")):
        frame = _read(page.with_suffix(".parquet"))
        by = [] if frame is None else frame.columns[: -len(NUMBERS) - 2]  # before label, …, refused
        frames = () if frame is None else (frame, frame.drop_nulls("share"))
        groups = [str(f.select(by or "rows").n_unique()) for f in frames] or ["–", "–"]
        link = Link(page.parent.name, str(page.relative_to(folder.parent)))
        rows.append((link, ", ".join(by) or "–", *groups))
    return Table(("table", "by", "groups", "groups with shares"), rows)


def _reviews(folder: Path) -> Table:
    """Return a row per table with names to look at, or with labels read back, in ``folder``."""
    rows = []
    for path in sorted(folder.glob("*.csv")):
        frame = _read(path.with_suffix(".labels.parquet"))
        link = Link(path.stem, str(path.relative_to(folder.parent)))
        rows.append((link, "–" if frame is None else str(frame.height)))
    return Table(("names to look at", "labels read back"), rows)


def _read(path: Path) -> pl.DataFrame | None:
    """Return a table of this program's, None where there is none that can be read."""
    with suppress(OSError, pl.exceptions.PolarsError):
        return pl.read_parquet(read_file(path))
    return None
