"""What the command lines share: one line per mistake, documented exit codes, a progress bar."""

from __future__ import annotations

__all__ = ["new_app", "progress", "run", "say"]

import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from cyclopts import App, CycloptsError, Parameter

from charrnn.errors import CharrnnError, StorageError
from flows.tracking import TRACKED

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
    except CharrnnError as error:
        _complain(str(error))
        sys.exit(error.exit_code)
    except _Terminated:
        _complain("terminated; finished work is kept, run the same command again to go on")
        sys.exit(143)
    except KeyboardInterrupt:
        _complain("interrupted; finished work is kept, run the same command again to go on")
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    except OSError as error:
        _complain(f"{error.filename or 'the disk'}: {error.strerror or 'reading failed'}")
        sys.exit(StorageError.exit_code)
    except (SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # also pyo3's PanicException, which is no Exception
        _complain(f"{_unexpected(error)}; what is finished is kept, nothing else was published")
        sys.exit(CharrnnError.exit_code)
    sys.exit(0)


def _unexpected(error: BaseException) -> str:
    """Say what went wrong and where. The error's own text may quote a cell, so it is not shown;
    ``python -X dev`` shows it."""
    if sys.flags.dev_mode:
        traceback.print_exception(error)
    if isinstance(error, MemoryError):
        return "out of memory; give fewer --workers or --partition-rows"
    if isinstance(error, RuntimeError) and str(error).startswith("Failed to reach API"):  # Prefect
        return (
            "the Prefect API does not answer; start it, or unset PREFECT_API_URL (or choose "
            "another Prefect profile) to run without it"
        )
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if Path(f.filename).parent.name in ("charrnn", "flows")]
    place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "an unknown place"
    return f"unexpected {type(error).__name__} at {place}, please report this"


@contextmanager
def progress(description: str, total: int | None, unit: str) -> Iterator[Callable[..., None]]:
    """Show a bar on standard error, on a terminal only; yield ``advance(steps, remark="")``. A
    total of None is one that nobody knows."""
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
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
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
