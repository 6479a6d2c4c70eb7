"""The command ``charrnn``: every recipe on the command line, without Prefect.

Commands are generated from the request records of ``recipes.requests``, so that an option, its
help, its choices and its default are written once. The files in ``flows/`` build their command
lines from the same functions, with a runner that Prefect records.
"""

import ast
import gc
import inspect
import json
import os
import platform
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields, is_dataclass
from datetime import UTC, datetime
from functools import cache, partial
from importlib import import_module
from itertools import chain, pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TextIO, get_args, get_origin, get_type_hints

from annotated_types import Interval
from cyclopts import App, CycloptsError, Parameter
from cyclopts.exceptions import MissingArgumentError, UnusedCliTokensError

import charrnn
from charrnn.errors import CharrnnError, OutputError, check_fields, printable, redact
from charrnn.recipes import requests
from charrnn.recipes.runner import Advance, P, R, Runner

KEY_VARIABLE = "CHARRNN_NAME_KEY"  # environment variable with the secret that names are hashed with
# Signals that stop a command: exit code, and the word for it
_STOPS = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "terminated")}
STOP_SECONDS = 2.5  # from such a signal to the end of the process, at most
_EXIT_CODES = """\
exit codes: 0 done, 2 wrong command line, 64 option, 65 input data,
66 input missing, 73 destination, 74 disk, 75 destination busy, 78 model,
79 drift (published, see --on-drift), 70 internal error, 130 Ctrl-C, 143 SIGTERM"""
_EXAMPLES = """\
  charrnn score people.csv
  charrnn score 'exports/*.parquet' --name-column surname -o scored.csv
  charrnn verify outputs/predictions/people/latest
  charrnn ingest my_languages/ && charrnn train
  charrnn challenge people.csv --model champion --challenger candidate"""
LINE_SECONDS = 10.0  # between two lines of progress where there is no terminal


@dataclass(frozen=True)
class Output:
    """How a command prints."""

    json: bool = False
    """Print the result as one JSON document; all else goes to standard error."""
    quiet: bool = False
    """Print nothing but errors, and the document of --json."""
    log_format: Literal["text", "json"] = "text"
    """Lines on standard error: text, or json, an object a line, with each step and its seconds."""


@dataclass(frozen=True)
class Head:
    """A look at the result of ``score``."""

    head: Annotated[int, Interval(ge=0, le=10_000)] = 0
    """Also print the first rows of the result, this many, names included."""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class ScoreOutput(Output, Head):
    """How ``charrnn score`` prints."""

    dry_run: bool = False
    """Score nothing: say what would be read, written and reused, and how long it may take."""


_output = Output()  # of the command that runs


# Options from records


def signature_of(request: type) -> tuple[inspect.Signature, str]:
    """Return the signature and the docstring of a function whose parameters are the fields of a
    request record, groups of options among them: what Prefect's form is made of."""
    help_of = _help_of(request)
    parameters = [
        _parameter(name, *(_as_text(kind, default)))
        for name, kind, default in _fields_of(request, bounds=True)
    ]
    document = inspect.cleandoc(request.__doc__ or "") + "\n\nArgs:\n"
    document += "\n".join(f"    {name}: {text}" for name, text in help_of.items())
    return inspect.Signature(parameters), document


def command_from(
    request: type, call: Callable[..., Any], *, positional: int = 1, extra: type | None = None
) -> Callable[..., Any]:
    """Return a function for a command line: its parameters are the fields of ``request``, those of
    its groups side by side, and of the record ``extra``; it calls ``call(request)``, or
    ``call(request, extra)``.

    Args:
        positional: how many of the first fields may be given by position.
    """
    records = [request, *([extra] if extra else [])]
    signature = inspect.Signature(
        [
            _parameter(name, _console_type(name, kind, default, text), default, number < positional)
            for number, (name, kind, default, text) in enumerate(chain(*map(_flat, records)))
        ]
    )

    def command(*arguments: Any, **named: Any) -> Any:
        values = signature.bind(*arguments, **named).arguments
        return call(*(_record(kind, values) for kind in records))

    command.__signature__ = signature  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
    paragraphs = inspect.cleandoc(request.__doc__ or "").split("\n\n")
    command.__doc__ = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    return command


def _flat(record: type) -> Iterator[tuple[str, Any, Any, str]]:
    """Yield name, type, default and help of each field, those of groups in place of the group."""
    help_of = _help_of(record)
    for name, kind, default in _fields_of(record):
        if is_dataclass(kind):
            yield from _flat(kind)  # type: ignore[arg-type]
        else:
            yield name, kind, default, help_of[name]


def _record(kind: type, values: Mapping[str, Any]) -> Any:
    """Return the record whose fields, and whose groups' fields, are among ``values``."""
    groups = {n: _record(k, values) for n, k, _ in _fields_of(kind) if is_dataclass(k)}  # type: ignore[arg-type]
    return kind(**groups, **{f.name: values[f.name] for f in fields(kind) if f.name in values})


def _fields_of(record: type, *, bounds: bool = False) -> list[tuple[str, Any, Any]]:
    """Return name, type and default (``MISSING`` without one) of each field, those of the record's
    own before those that it inherits.

    Args:
        bounds: leave bounds in the types. A command line does without: cyclopts would apply them
            only where pydantic happens to be imported; the records check their bounds themselves.
    """
    hints = get_type_hints(record, include_extras=bounds)
    order = [name for c in record.__mro__ for name in vars(c).get("__annotations__", ())]
    return [
        (f.name, hints[f.name], f.default if f.default_factory is MISSING else f.default_factory())
        for f in sorted(fields(record), key=lambda f: order.index(f.name))
    ]


def _help_of(record: type) -> dict[str, str]:
    """Return field → its help, on one line: the ``doc`` of its type, or the string below it."""
    hints = get_type_hints(record, include_extras=True)
    texts = {
        name: getattr(note, "documentation", "")
        for name, hint in hints.items()
        for note in getattr(hint, "__metadata__", ())
    }
    for c in reversed(record.__mro__):
        if is_dataclass(c):
            texts |= _field_docstrings(c.__module__)[c.__name__]
    return texts


@cache
def _field_docstrings(module: str) -> dict[str, dict[str, str]]:
    """Return class → field → the string below the field, on one line, of all classes of a module.
    (The source is parsed once; ``inspect`` would parse it for every class.)"""
    tree = ast.parse(Path(str(sys.modules[module].__file__)).read_text("utf-8"))
    return {
        node.name: {
            field.target.id: " ".join(str(text.value.value).split())
            for field, text in pairwise(node.body)
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
            if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
        }
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }


def _parameter(
    name: str, annotation: Any, default: Any, positional: bool = False
) -> inspect.Parameter:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Parameter(
        name,
        kind if positional else inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if default is MISSING else default,
        annotation=annotation,
    )


def _console_type(name: str, kind: Any, default: Any, text: str) -> Any:
    """Return a type as cyclopts reads it. Where a field also takes values that cannot be typed on
    a command line, text is left; a path stays text, for the record to settle."""
    if any(get_origin(option) is tuple for option in get_args(kind)):
        kind = str
    return Annotated[
        kind,
        Parameter(
            alias="-o" if name == "output" else None,
            help=text,
            negative=f"--no-{name}" if default is True else (),
            converter=(lambda kind, tokens: tokens[0].value) if _is_path(kind) else None,
        ),
    ]


def _as_text(kind: Any, default: Any) -> tuple[Any, Any]:
    """Return a field's type and default as a form has them: a path is text, for the record to
    settle, since ``Path("./~")`` is ``Path("~")``."""
    inner, *more = get_args(kind) if get_origin(kind) is Annotated else (kind,)
    if not _is_path(inner):
        return kind, default
    text: Any = str | None if type(None) in get_args(inner) else str
    for constraint in more:
        text = Annotated[text, constraint]
    return text, str(default) if isinstance(default, Path) else default


def _is_path(kind: Any) -> bool:
    return kind is Path or Path in get_args(kind)


# The console


def new_app(examples: str, note: str = "", **options: Any) -> App:
    """Return an empty command line; its help ends with ``note``, ``examples`` and exit codes."""
    epilogue = "\n\n".join(t for t in (note, f"examples:\n{examples}", _EXIT_CODES) if t)

    def shown_default(value: Any) -> Any:
        return " ".join(value) if isinstance(value, tuple) else value or None

    app = App(
        help_epilogue=epilogue,
        help_format="plaintext",
        default_parameter=Parameter(negative=(), show_default=shown_default),
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,  # ``run`` says what an interrupt means
        **{"version_flags": (), **options},
    )
    app.meta.suppress_keyboard_interrupt = False
    return app


def run(
    app: App,
    tokens: list[str],
    shown: Callable[[BaseException], CharrnnError] = redact,
    *,
    stop_seconds: float = STOP_SECONDS,
) -> NoReturn:
    """Run a command line; turn what goes wrong into one line on standard error and an exit code.

    Args:
        shown: returns the error that may be shown in place of another one.
        stop_seconds: from Ctrl-C or SIGTERM to the end of the process, at most.
    """
    signal.signal(signal.SIGTERM, _terminate)
    asked = [*tokens, *map("=".join, pairwise(tokens))]
    # The command line is parsed only later.
    _print_as(Output(log_format="json" if "--log-format=json" in asked else "text"))
    with _stopping_soon(stop_seconds) as stop:
        try:
            app(tokens)
        except CycloptsError as error:
            complain(_usage(error, app, tokens), exit_code=2)
            sys.exit(2)
        except BrokenPipeError:
            sys.stderr.close()
            sys.exit(141)
        except (SystemExit, GeneratorExit):
            raise
        except BaseException as error:  # also pyo3's PanicException, which is no Exception
            stops = {_Terminated: signal.SIGTERM, KeyboardInterrupt: signal.SIGINT}
            # What a signal interrupts may fail in its own way, such as an import.
            number = next(iter(stop.received), stops.get(type(error)))
            if number is not None:
                signal.signal(signal.SIGTERM, lambda *_: None)  # a second one changes nothing
                sys.exit(stop.say_stopped(number))
            ours = shown(error)
            message = f"{ours}{_remedy(ours, app, tokens)}"
            complain(message, exit_code=ours.exit_code, option=ours.option)
            sys.exit(ours.exit_code)
        finally:
            _print_as(Output())
    sys.exit(0)


def _usage(error: CycloptsError, app: App, tokens: list[str]) -> str:
    """Return what is wrong with a command line, and what helps."""
    if tokens and len(app.parse_commands(tokens)[1]) == 1 and Path(tokens[0]).exists():
        return f"{error} To score it: charrnn score {tokens[0]}"
    if isinstance(error, MissingArgumentError) and "Did you mean" not in str(error):
        needed: Any = error.argument
        return f"{needed.name} needs a value: {needed.parameter.help} (see --help)"
    if isinstance(error, UnusedCliTokensError):
        first, *more = error.unused_tokens or [""]
        others = f" and {len(more):,} more" if more else ""
        return f"unexpected argument {first!r}{others}; put a glob in quotes (see --help)"
    return f"{error} (see --help)"


class _Stop:
    """The signals that arrived, and whether the last word about them was said, by either thread."""

    def __init__(self) -> None:
        self.received: list[signal.Signals] = []
        self._speaking, self._over = threading.Lock(), False

    def say_waiting(self, seconds: float) -> None:
        """Say that a signal arrived, and how long the end may take."""
        with self._speaking:
            if not self._over:
                complain(
                    f"{_STOPS[self.received[0]][1]}: waiting up to {seconds:g} s for what is in "
                    "work; a second Ctrl-C or SIGTERM stops now",
                    "note",
                )

    def say_stopped(self, number: signal.Signals) -> int:
        """Say once that a signal has stopped the command; return the exit code."""
        code, word = _STOPS[number]
        with self._speaking:
            if not self._over:
                complain(f"{word}; finished work is kept, run the same command again to go on")
            self._over = True
        return code


@contextmanager
def _stopping_soon(seconds: float) -> Iterator[_Stop]:
    """Answer SIGINT and SIGTERM at once with a line, whatever the main thread does, and end the
    process at the second signal, or ``seconds`` after the first: what is in work then is lost as
    by a kill, and is done again by the same command."""
    stop = _Stop()
    received = stop.received
    arrived, arrival = os.pipe()
    os.set_blocking(arrival, False)
    before = signal.set_wakeup_fd(arrival, warn_on_full_buffer=False)

    def watch() -> None:
        end = 0.0
        while True:
            left = max(0.0, end - time.monotonic()) if received else None
            if select.select([arrived], [], [], left)[0]:
                byte = os.read(arrived, 1)
                if not byte:
                    return
                if byte[0] not in _STOPS:
                    continue
                received.append(signal.Signals(byte[0]))
            if len(received) == 1 and not end:
                end = time.monotonic() + seconds
                stop.say_waiting(seconds)
                continue
            code = stop.say_stopped(received[0])
            if sys.stderr.isatty():
                os.write(2, b"\x1b[?25h")  # a progress bar hides the cursor
            os._exit(code)

    watcher = threading.Thread(target=watch, name="signals", daemon=True)
    watcher.start()
    try:
        yield stop
    finally:
        signal.set_wakeup_fd(before)
        os.close(arrival)
        watcher.join()
        os.close(arrived)


def _remedy(error: CharrnnError, app: App, tokens: list[str]) -> str:
    """Return the option that would change the outcome, as it is typed here; "" where the command
    has no such option."""
    if error.option == "name_key":
        return f" (environment variable {KEY_VARIABLE})"
    called = app.parse_commands(tokens)[1][-1].default_command
    parameters = inspect.signature(called).parameters if called else {}
    if error.option not in parameters:
        return ""
    negative = "no-" if parameters[error.option].default is True else ""
    return f" (--{negative}{error.option.replace('_', '-')})"


def _print_as(output: Output) -> None:
    """Print as asked from now on."""
    global _output
    _output = output


def show(lines: list[str]) -> None:
    """Print lines of result to standard output (under ``--json`` to standard error, under
    ``--quiet`` nowhere); see ``errors.printable``."""
    for line in [] if _output.quiet else lines:
        if _output.json:
            _log("info", line, "")
        else:
            _write(sys.stdout, printable(line))


def complain(message: str, kind: str = "error", **more: Any) -> None:
    """Print a line to standard error; see ``errors.printable``. ``more`` is shown in structured
    lines only."""
    if kind == "error" or not _output.quiet:
        _log(kind, message, f"{kind}: ", **more)


def _log(level: str, message: str, prefix: str, **more: Any) -> None:
    """Write a line to standard error, as text or as a JSON object."""
    line = prefix + printable(message)
    if _output.log_format == "json":
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": time, "level": level, "message": printable(message), **more})
    _write(sys.stderr, line)


def _write(stream: TextIO, line: str) -> None:
    """Write a line; what the terminal's encoding lacks is escaped."""
    encoding = stream.encoding or "utf-8"
    stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    stream.flush()


@contextmanager
def progress(description: str, total: int | None, unit: str) -> Iterator[Advance]:
    """Show a bar on standard error, where that is a terminal, otherwise a line now and then; see
    ``recipes.runner.Progress``."""
    counted = _Counted(total, unit)
    if _output.quiet:
        yield lambda steps, remark="": None
        return
    if _output.log_format == "json" or not sys.stderr.isatty():
        yield lambda steps, remark="": counted.tell(description, steps, remark)
        return
    from rich import progress as rich
    from rich.console import Console

    text = rich.TextColumn
    done = (text("{task.description}"), rich.BarColumn(), rich.MofNCompleteColumn(), text(unit))
    times = (rich.TimeElapsedColumn(), text("left"), rich.TimeRemainingColumn())
    remark_column, screen = text("{task.fields[remark]}"), Console(stderr=True)
    with rich.Progress(*done, *times, remark_column, console=screen) as bar:
        task = bar.add_task(_plain(description), total=total, remark="")

        def advance(steps: int, remark: str = "") -> None:
            counted.done += steps
            words = ", ".join(filter(None, (counted.rate, remark)))
            bar.update(task, advance=steps, remark=_plain(words))

        yield advance


class _Counted:
    """Counts the work of a progress: how much is done, how fast, and what is left."""

    def __init__(self, total: int | None, unit: str) -> None:
        self.total, self.unit = total, unit
        self.done, self.started, self.told = 0, time.monotonic(), time.monotonic()

    @property
    def speed(self) -> float:
        """Units per second."""
        return self.done / max(time.monotonic() - self.started, 1e-3)

    @property
    def rate(self) -> str:
        """The speed in words; per cent have none."""
        return "" if self.unit == "%" else f"{self.speed:,.0f} {self.unit}/s"

    def tell(self, description: str, steps: int, remark: str) -> None:
        """Count ``steps`` more, and write a line if the last one is some seconds old."""
        self.done += steps
        if time.monotonic() - self.told < LINE_SECONDS:
            return
        self.told = time.monotonic()
        done, left, seconds = f"{self.done:,} {self.unit}", "", None
        if self.total:
            share = f"{self.done / self.total:.0%}"
            done = share if self.unit == "%" else f"{done} of {self.total:,} ({share})"
            seconds = (self.total - self.done) / max(self.speed, 1e-9)
            left = f"{seconds:,.0f} s left" if seconds < 600 else f"{seconds / 60:,.0f} min left"
        words = ", ".join(filter(None, (done, self.rate, remark, left)))
        _log("info", f"{description}: {words}", "", progress=description, done=self.done,
             total=self.total, unit=self.unit, seconds_left=seconds and round(seconds))  # fmt: skip


def _plain(text: str) -> str:
    """Return text that rich shows as it is."""
    return printable(text).replace("[", "\\[")


def console_runner(**more: Any) -> Runner:
    """Return the runner of a command line: this process's clock, name and environment."""
    return Runner(
        now=lambda: datetime.now(UTC),
        holder=f"process {os.getpid()} on {platform.node()}",
        name_key=os.environ.get(KEY_VARIABLE, "").encode(),
        **{"progress": progress, "step": _run_step, **more},
    )


def _run_step(name: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a step of a recipe; structured lines tell its begin and its end."""
    if _output.log_format == "text":
        return function(*args, **kwargs)
    started = time.monotonic()
    _log("info", f"{name} begins", "", step=name)
    result = function(*args, **kwargs)
    _log("info", f"{name} is done", "", step=name, seconds=round(time.monotonic() - started, 3))
    return result


class _Terminated(BaseException):
    """SIGTERM arrived."""


def _terminate(*_: Any) -> None:
    raise _Terminated


def no_command(path: str) -> NoReturn:
    """Say that a module is no command; the exit code is that of --help, or of a wrong command."""
    said = f"{path} is no command; docs/operating.md lists them"
    if {"-h", "--help"} & set(sys.argv[1:]):
        show([said])
        sys.exit(0)
    complain(said)
    sys.exit(2)


# The commands


def imported(recipe: str) -> Any:
    """Return the function MODULE.FUNCTION of ``charrnn.recipes``, imported now, so that --help
    answers at once. Importing torch, Polars and Arrow makes many objects, all of them to stay, and
    looking for garbage among them would take a tenth of a second."""
    module, _, function = recipe.partition(".")
    gc.disable()
    try:
        return getattr(import_module(f"charrnn.recipes.{module}"), function)
    finally:
        gc.freeze()
        gc.enable()


def _recipe(name: str) -> Callable[[Any], Any]:
    """Return a function that runs the recipe MODULE.FUNCTION, prints the lines of its result and
    returns it."""

    def run_recipe(request: Any) -> Any:
        recipe = imported(name)
        takes_runner = "runner" in inspect.signature(recipe).parameters
        result = recipe(request, console_runner()) if takes_runner else recipe(request)
        show(result.lines())
        return result

    run_recipe.__qualname__ = name
    return run_recipe


def _score(request: requests.ScoreRequest, output: ScoreOutput | None = None) -> Any:
    if output and output.dry_run:
        return _recipe("preview.preview")(request)
    published = _recipe("score.score")(request)
    if output and output.head:
        from charrnn.recipes.published import first_rows

        show(first_rows(published.folder, output.head))
    return published


def _train(request: requests.TrainRequest) -> dict[str, Any]:
    trained = _recipe("train.train")(request)
    from charrnn.recipes.train import release

    released = release(trained, request)
    show(released.lines())
    return {"trained": trained, "released": released}


def _pipeline(request: requests.PipelineRequest) -> dict[str, Any]:
    from charrnn.recipes.pipeline import pipeline

    results = {}

    def run(name: str, request: Any) -> None:
        results[name] = COMMANDS[name][1](request)

    pipeline(request, *(partial(run, name) for name in ("ingest", "train", "promote", "score")))
    return results


# Command → its request, what it runs, and how many fields may be given by position
COMMANDS: dict[str, tuple[type, Callable[..., Any], int]] = {
    "score": (requests.ScoreRequest, _score, 1),
    "challenge": (requests.CompareRequest, _recipe("compare.compare"), 1),
    "explain": (requests.ExplainRequest, _recipe("explain.explain"), 1),
    "shares": (requests.SharesRequest, _recipe("shares.shares"), 1),
    "review": (requests.ReviewRequest, _recipe("review.review"), 1),
    "inbox": (requests.InboxRequest, _recipe("inbox.inbox"), 1),
    "monitor": (requests.MonitorRequest, _recipe("monitor.monitor"), 1),
    "verify": (requests.VerifyRequest, _recipe("runs.verify"), 1),
    "purge": (requests.PurgeRequest, _recipe("runs.purge"), 1),
    "doctor": (requests.DoctorRequest, _recipe("doctor.doctor"), 0),
    "ingest": (requests.IngestRequest, _recipe("ingest.ingest"), 1),
    "train": (requests.TrainRequest, _train, 0),
    "models": (requests.ListRequest, _recipe("models.list_models"), 0),
    "evaluate": (requests.EvaluateRequest, _recipe("evaluate.evaluate_version"), 1),
    "compare": (requests.CompareVersionsRequest, _recipe("evaluate.compare_versions"), 2),
    "promote": (requests.PromoteRequest, _recipe("models.promote"), 1),
    "rollback": (requests.RollbackRequest, _recipe("models.roll_back"), 1),
    "register": (requests.RegisterRequest, _recipe("models.register"), 1),
    "pipeline": (requests.PipelineRequest, _pipeline, 1),
}


def command(name: str) -> Callable[..., Any]:
    """Return the function of a command of ``charrnn``."""
    request, call, positional = COMMANDS[name]

    def run_command(request: Any, output: Output) -> None:
        _print_as(output)
        result = call(request, output) if isinstance(output, ScoreOutput) else call(request)
        if output.json:
            from charrnn.recipes.document import document

            _write(sys.stdout, json.dumps(document(result), indent=2, allow_nan=False))
        for part in result.values() if isinstance(result, dict) else [result]:
            getattr(part, "check", lambda: None)()

    extra = ScoreOutput if name == "score" else Output
    return command_from(request, run_command, positional=positional, extra=extra)


def console() -> App:
    """Return the command line ``charrnn``."""
    app = new_app(_EXAMPLES, name="charrnn", version=charrnn.__version__,
                  version_flags=("--version",))  # fmt: skip
    for name in COMMANDS:
        app.command(command(name), name=name)
    app.register_install_completion_command()
    return app


def main() -> NoReturn:
    """Run the command ``charrnn``."""
    if os.name == "nt":
        complain("the command runs on Linux; use WSL, or score in Python (charrnn.Scorer)")
        sys.exit(OutputError.exit_code)
    run(console(), sys.argv[1:])


if __name__ == "__main__":
    main()
