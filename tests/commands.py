"""What the command-line tests share: run one in this process, and read its one-line complaint."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from cyclopts import App

from flows.command import run

CANARY = "Zanzibarova"
Command = Callable[..., tuple[int, str, str]]


def commands_of(
    default: App,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    run: Callable[[App], NoReturn] = run,
) -> Command:
    """Return a function that runs a command line (``default``, or another) with arguments
    and returns its exit code, standard output and standard error."""

    def command(*arguments: str | Path, app: App = default) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["command.py", *map(str, arguments)])
        before = signal.getsignal(signal.SIGTERM)
        capsys.readouterr()
        try:
            with pytest.raises(SystemExit) as stopped:
                run(app)
        finally:
            signal.signal(signal.SIGTERM, before)
        printed = capsys.readouterr()
        return int(stopped.value.code or 0), printed.out, printed.err

    return command


def complaint(code: int, expected: int, error: str) -> str:
    """Check that a mistake was answered by one line and this exit code; return the line."""
    lines = [line for line in error.splitlines() if not line.startswith("note: ")]
    assert code == expected, error
    assert len(lines) == 1, error
    assert lines[0].startswith("error: ")
    assert CANARY not in error
    return lines[0]
