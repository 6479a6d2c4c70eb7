"""The progress bar: drawn on a terminal, and nothing but a function elsewhere."""

import io
import sys

import pytest

from charrnn.cli import progress


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
    for word in ("scoring", "3/3", "partitions", "4,000 rows/s"):
        assert word in drawn


def test_without_a_terminal_nothing_is_drawn_or_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setitem(sys.modules, "rich.progress", None)  # an import would fail
    with progress("scoring", None, "partitions") as advance:
        advance(1, "4,000 rows/s")
    assert sys.stderr.getvalue() == ""  # type: ignore[attr-defined]
