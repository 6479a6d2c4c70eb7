"""The progress bar: drawn on a terminal, and nothing but a function elsewhere."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from charrnn import cli
from charrnn.cli import progress
from charrnn.model.version import ModelVersion
from charrnn.recipes.requests import ScoreRequest
from charrnn.recipes.runner import Advance, Runner
from charrnn.recipes.score import score
from charrnn.scoring.options import ComputeOptions


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_moves_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with progress("scoring", 3, "partitions") as advance:
        advance(1)
        advance(2, "4,000 rows/s")
    drawn = sys.stderr.getvalue()  # type: ignore[attr-defined]
    for word in ("scoring", "3/3", "partitions", "partitions/s", "4,000 rows/s"):
        assert word in drawn


def test_without_a_terminal_nothing_is_drawn_or_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setitem(sys.modules, "rich.progress", None)  # an import would fail
    with progress("scoring", None, "partitions") as advance:
        advance(1, "4,000 rows/s")
    assert sys.stderr.getvalue() == ""  # type: ignore[attr-defined]


def test_a_log_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress("scoring", 4_000, "rows") as advance:
        advance(1_000)
        monkeypatch.setattr(cli, "LINE_SECONDS", 0.0)
        advance(1_000, "two at a time")
    (line,) = sys.stderr.getvalue().splitlines()  # type: ignore[attr-defined]
    assert line.startswith("scoring: 2,000 rows of 4,000 (50%), ")
    assert line.endswith(" s left")
    assert "rows/s, two at a time" in line


def test_scoring_tells_of_blocks_of_names_within_a_partition(
    tiny_version: ModelVersion, users_folder: Path
) -> None:
    names = [f"{a}{b}ro" for a in "kmtsrpbd" for b in "aeiouyäö"] * 2
    Path("people.csv").write_text("\n".join(["name", *names, ""]))
    told: list[int] = []

    @contextmanager
    def noted(description: str, total: int | None, unit: str) -> Iterator[Advance]:
        assert (description, total, unit) == ("scoring", 128, "rows")
        yield lambda steps, remark="": told.append(steps)

    score(
        ScoreRequest(source="people.csv", compute=ComputeOptions(batch_size=16, workers=1)),
        Runner(now=lambda: datetime.now(UTC), holder="a test", progress=noted),
        tiny_version,
    )
    assert told == [32, 32, 32, 32, 0]
