"""Estimate shares of the labels by groups of a run's rows, and write them as tables and a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from charrnn.errors import ConfigError, ModelError, percent
from charrnn.files import remove_file, write_bytes, write_parquet
from charrnn.model.version import resolve
from charrnn.recipes.requests import SharesRequest
from charrnn.recipes.runner import Runner
from charrnn.recipes.runs import run_asked
from charrnn.reports.shares import shares_page
from charrnn.runs.folders import destination_of_run
from charrnn.runs.manifest import RunManifest, read_run
from charrnn.runs.shares import (
    FEWEST_ROWS,
    Counts,
    Grouping,
    ShareTables,
    count_rows,
    estimate,
    grouping_of,
    share_tables,
)
from charrnn.scoring.scorer import Scorer

if TYPE_CHECKING:
    import polars as pl

_MOST_SHOWN = 5  # labels in a line


@dataclass(frozen=True)
class SharesFound:
    """The shares of a run, and the folder that has them."""

    folder: Path
    tables: ShareTables
    groups: pl.DataFrame

    def lines(self) -> list[str]:
        """Return the lines about the estimate; no value of a grouping column is in them."""
        few = self.groups.filter(self.groups["rows"] < FEWEST_ROWS).height
        shares = self.tables.shares
        changed, whole = self.tables.changes is not None, self.groups.height == 1
        said = shares.drop_nulls("share").select("label", "share", "low", "high", "refused")
        largest = [
            f"share       {label} {percent(share)} ({percent(low)} to {percent(high)})"
            + (f"; {refused}" if refused else "")
            for label, share, low, high, refused in said.rows()[:_MOST_SHOWN]
        ]
        refused = shares.filter(shares["share"].is_null())["refused"].unique(maintain_order=True)
        return [
            f"groups      {self.groups.height:,}"
            + (f", {few:,} of under {FEWEST_ROWS} rows are left out" if few else ""),
            *(largest if whole else ()),
            *(f"no share    {reason}" for reason in refused.to_list()[:_MOST_SHOWN]),
            f"tables      {self.folder / 'shares.parquet'}",
            *([f"            {self.folder / 'changes.parquet'}"] if changed else ()),
            f"page        {self.folder / 'shares.html'}",
        ]


def shares(request: SharesRequest, runner: Runner) -> SharesFound:
    """Estimate the shares of a run's labels by group, and write tables and page.

    Raises:
        InputMissingError, DataError: there is no such run or column, or the run is damaged.
        ModelError: the model that scored the run is not there. ConfigError: options do not fit.
    """
    runs = runs_of(request)
    scorer = scorer_of(request, runs)
    first = runs[-1]
    grouping = grouping_of(*first, request.by, request.weight, two_runs=len(runs) > 1)
    counts = runner.step("count rows", count_rows, runs, grouping)
    tables = runner.step(
        "estimate shares", estimate_all, counts, scorer, grouping, first[1], runner
    )
    folder = request.output / (destination_of_run(first[0]).name or "run")
    write(folder, tables, first[1], grouping)
    return SharesFound(folder, tables, counts.groups)


def runs_of(request: SharesRequest) -> list[tuple[Path, RunManifest]]:
    """Return the run with its manifest, after the one that it is compared with."""
    paths = [run_asked(p).resolve() for p in (request.against, request.run) if p is not None]
    if len(paths) != len({*paths}):
        raise ConfigError("against is the run itself; name another", option="against")
    runs = [(path, read_run(path)) for path in paths]
    if len({manifest.model.digest for _, manifest in runs}) > 1:
        raise ConfigError(
            f"the runs were scored by two models, {' and '.join(m.model.name for _, m in runs)}; "
            "their shares cannot be compared: score both tables with one model",
            option="against",
        )
    return runs


def scorer_of(request: SharesRequest, runs: Sequence[tuple[Path, RunManifest]]) -> Scorer:
    """Return the model that scored the runs, ready to score.

    Raises:
        ModelError: there is none, or another one has its name.
    """
    asked = runs[-1][1].model
    version = resolve(asked.name, request.models)
    if version.digest != asked.digest:
        raise ModelError(
            f"the run was scored by {asked.name} {asked.digest[:12]}, and the model of that name "
            f"is now {version.digest[:12]}; score the table again",
            option="models",
        )
    return Scorer(version, request.device)


def estimate_all(
    counts: Counts, scorer: Scorer, grouping: Grouping, manifest: RunManifest, runner: Runner
) -> ShareTables:
    """Estimate the shares of every group."""
    estimates = []
    with runner.progress("estimating", counts.groups.height, "groups") as advance:
        for found in estimate(counts, scorer, manifest.options.scoring):
            estimates.append(found)
            advance(1)
    return share_tables(counts, estimates, scorer.version.labels, grouping)


def write(folder: Path, tables: ShareTables, manifest: RunManifest, grouping: Grouping) -> None:
    """Write the tables and the page of a run's shares, each atomically; those of before are
    replaced."""
    write_parquet(folder / "shares.parquet", tables.shares.to_arrow())
    if tables.changes is None:
        remove_file(folder / "changes.parquet")
    else:
        write_parquet(folder / "changes.parquet", tables.changes.to_arrow())
    write_bytes(folder / "shares.html", shares_page(tables, manifest, grouping))
