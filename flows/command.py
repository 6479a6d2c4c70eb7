"""What the command lines share: one line per mistake, documented exit codes, a progress bar."""

from __future__ import annotations

__all__ = ["new_app", "progress", "run", "say", "this_process"]

import os
import platform
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from cyclopts import App, CycloptsError, Parameter

from flows.tracking import TRACKED, redact

_EPILOGUE = """\
--track records the run with Prefect, starting its ephemeral server if no API
is configured

examples:
{examples}

exit codes: 0 done, 2 wrong command line, 64 option, 65 input data,
66 input missing, 73 destination, 74 disk, 75 destination busy, 78 model,
79 drift (published, see --on-drift), 70 our fault, 130 Ctrl-C, 143 SIGTERM"""


def new_app(examples: str) -> App:
    """Return a command line whose commands are functions: their options come from the signature
    and the help from the docstring, so that a flow, its form in Prefect's UI and its command line
    cannot disagree. The help ends with ``examples`` and the exit codes."""
    app = App(
        help_epilogue=_EPILOGUE.format(examples=examples),
        help_format="plaintext",
        version_flags=[],
        default_parameter=Parameter(negative=(), show_default=lambda value: value or None),
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,  # it is ours to say what that means
    )
    app.meta.suppress_keyboard_interrupt = False
    return app


def say(text: str = "") -> None:
    """Print a line of result to standard output."""
    sys.stdout.write(text + "\n")


def this_process() -> str:
    """Return what a lock that we hold says about us."""
    return f"process {os.getpid()} on {platform.node()}"


def run(app: App) -> NoReturn:
    """Run a command line; turn what goes wrong into one line on standard error and an exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    # flows.tracking has looked for --track before anything was parsed.
    tokens = [token for token in sys.argv[1:] if token != "--track"]
    if not TRACKED and not {"-h", "--help"} & set(tokens):
        _complain("untracked run: no Prefect API is configured (--track records it)", "note")
    try:
        app(tokens)
    except CycloptsError as error:
        _complain(f"{error}\nusage: see --help")
        sys.exit(2)
    except _Terminated:
        _complain("terminated; finished work is kept, run the same command again to go on")
        sys.exit(143)
    except KeyboardInterrupt:
        _complain("interrupted; finished work is kept, run the same command again to go on")
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    except (SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # also pyo3's PanicException, which is no Exception
        shown = redact(error)
        _complain(str(shown))
        sys.exit(shown.exit_code)
    sys.exit(0)


@contextmanager
def progress(description: str, total: int | None, unit: str) -> Iterator[Callable[..., None]]:
    """Show a bar on standard error, on a terminal only; yield ``advance(steps, remark="")``. A
    total of None is one that nobody knows."""
    if not sys.stderr.isatty():
        yield lambda steps, remark="": None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns: tuple[Any, ...] = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TextColumn("{task.fields[remark]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(description, total=total, remark="")

        def advance(steps: int, remark: str = "") -> None:
            bar.update(task, advance=steps, remark=remark)

        yield advance


def _complain(message: str, kind: str = "error") -> None:
    sys.stderr.write(f"{kind}: {message}\n")
    sys.stderr.flush()


class _Terminated(BaseException):
    """SIGTERM arrived."""


def _terminate(*_: Any) -> None:
    raise _Terminated
