"""The command ``charrnn``: every recipe on the command line, without Prefect.

Commands are generated from the request records of ``recipes.requests``, so that an option, its
help, its choices and its default are written once. The files in ``flows/`` build their command
lines from the same functions, with a runner that Prefect records.
"""

import ast
import gc
import inspect
import os
import platform
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, fields, is_dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, NoReturn, get_args, get_origin, get_type_hints

from cyclopts import App, CycloptsError, Parameter

import charrnn
from charrnn.errors import CharrnnError, redact
from charrnn.recipes import requests
from charrnn.recipes.runner import Advance, Runner

KEY_VARIABLE = "CHARRNN_NAME_KEY"  # environment variable with the secret that names are hashed with
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
HEAD = {"head": (int, 0, "Also print the first rows of the result, this many, names included.")}


# Options from records


def signature_of(request: type) -> tuple[inspect.Signature, str]:
    """Return the signature and the docstring of a function whose parameters are the fields of a
    request record, groups of options among them: what Prefect's form is made of."""
    help_of = _help_of(request)
    parameters = [
        _parameter(name, kind, default) for name, kind, default in _fields_of(request, bounds=True)
    ]
    document = inspect.cleandoc(request.__doc__ or "") + "\n\nArgs:\n"
    document += "\n".join(f"    {name}: {text}" for name, text in help_of.items())
    return inspect.Signature(parameters), document


def command_from(
    request: type,
    call: Callable[..., Any],
    *,
    positional: int = 1,
    extra: Mapping[str, Any] | None = None,
) -> Callable[..., Any]:
    """Return a function for a command line: its parameters are the fields of ``request``, those of
    its groups side by side, and ``extra``; it calls ``call(request, **extra)``.

    Args:
        positional: how many of the first fields may be given by position.
        extra: name → (type, default, help) of further parameters.
    """
    parameters, groups = [], dict[str, tuple[Any, set[str]]]()  # group → record, its fields
    for field in _fields_of(request):
        name, kind, _ = field
        group = is_dataclass(kind)
        if group:
            groups[name] = kind, {f.name for f in fields(kind)}
        record = kind if group else request
        members = _fields_of(kind) if group else [field]
        parameters += [(*member, _help_of(record)[member[0]]) for member in members]
    parameters += [(name, *rest) for name, rest in (extra or {}).items()]
    signature = inspect.Signature(
        [
            _parameter(name, _console_type(name, kind, default, text), default, number < positional)
            for number, (name, kind, default, text) in enumerate(parameters)
        ]
    )

    def command(*arguments: Any, **named: Any) -> Any:
        values = signature.bind(*arguments, **named).arguments
        further = {name: values.pop(name) for name in extra or () if name in values}
        for group, (kind, names) in groups.items():
            values[group] = kind(**{n: values.pop(n) for n in names & values.keys()})
        return call(request(**values), **further)

    command.__signature__ = signature  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
    paragraphs = inspect.cleandoc(request.__doc__ or "").split("\n\n")
    command.__doc__ = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    return command


def _fields_of(record: type, *, bounds: bool = False) -> list[tuple[str, Any, Any]]:
    """Return name, type and default (``MISSING`` without one) of each field.

    Args:
        bounds: leave bounds in the types. A command line does without: cyclopts would apply them
            only where pydantic happens to be imported; the records check their bounds themselves.
    """
    hints = get_type_hints(record, include_extras=bounds)
    return [
        (f.name, hints[f.name], f.default if f.default_factory is MISSING else f.default_factory())
        for f in fields(record)
    ]


def _help_of(record: type) -> dict[str, str]:
    """Return field → its help, on one line: the ``doc`` of its type, or the string below it."""
    hints = get_type_hints(record, include_extras=True)
    docs = {k: getattr(h, "__metadata__", (None,))[0] for k, h in hints.items()}
    texts = {k: getattr(doc, "documentation", "") for k, doc in docs.items()}
    for c in reversed(record.__mro__):
        if is_dataclass(c):
            texts |= _field_docstrings(c.__module__)[c.__name__]
    return texts


@cache
def _field_docstrings(module: str) -> dict[str, dict[str, str]]:
    """Return class → field → the string below the field, on one line, of all classes of a module.
    (The source is parsed once; ``inspect`` would parse it for every class.)"""
    tree = ast.parse(Path(str(sys.modules[module].__file__)).read_text())
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
    a command line, text is left."""
    if any(get_origin(option) is tuple for option in get_args(kind)):
        kind = str
    return Annotated[
        kind,
        Parameter(
            alias="-o" if name == "output" else None,
            help=text,
            negative=f"--no-{name}" if default is True else (),
        ),
    ]


# The console


def new_app(examples: str, note: str = "", **options: Any) -> App:
    """Return an empty command line; its help ends with ``note``, ``examples`` and exit codes."""
    epilogue = "\n\n".join(t for t in (note, f"examples:\n{examples}", _EXIT_CODES) if t)
    app = App(
        help_epilogue=epilogue,
        help_format="plaintext",
        default_parameter=Parameter(negative=(), show_default=lambda value: value or None),
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,  # ``run`` says what an interrupt means
        **{"version_flags": (), **options},
    )
    app.meta.suppress_keyboard_interrupt = False
    return app


def run(
    app: App, tokens: list[str], shown: Callable[[BaseException], CharrnnError] = redact
) -> NoReturn:
    """Run a command line; turn what goes wrong into one line on standard error and an exit code.

    Args:
        shown: returns the error that may be shown in place of another one.
    """
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app(tokens)
    except CycloptsError as error:
        complain(f"{error}\nusage: see --help")
        sys.exit(2)
    except _Terminated:
        complain("terminated; finished work is kept, run the same command again to go on")
        sys.exit(143)
    except KeyboardInterrupt:
        complain("interrupted; finished work is kept, run the same command again to go on")
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    except (SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # also pyo3's PanicException, which is no Exception
        ours = shown(error)
        complain(f"{ours}{_remedy(ours)}")
        sys.exit(ours.exit_code)
    sys.exit(0)


def _remedy(error: CharrnnError) -> str:
    """Return the option that would change the outcome, as it is typed here."""
    if not error.option:
        return ""
    if error.option == "name_key":
        return f" (environment variable {KEY_VARIABLE})"
    return f" (--{error.option.replace('_', '-')})"


def say(text: str = "") -> None:
    """Print a line of result to standard output."""
    sys.stdout.write(text + "\n")


def complain(message: str, kind: str = "error") -> None:
    """Print a line to standard error."""
    sys.stderr.write(f"{kind}: {message}\n")
    sys.stderr.flush()


@contextmanager
def progress(description: str, total: int | None, unit: str) -> Iterator[Advance]:
    """Show a bar on standard error, on a terminal only; see ``recipes.runner.Progress``."""
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


def console_runner(**more: Any) -> Runner:
    """Return the runner of a command line: this process's clock, name and environment."""
    return Runner(
        now=lambda: datetime.now(UTC),
        holder=f"process {os.getpid()} on {platform.node()}",
        name_key=os.environ.get(KEY_VARIABLE, "").encode(),
        **{"progress": progress, **more},
    )


class _Terminated(BaseException):
    """SIGTERM arrived."""


def _terminate(*_: Any) -> None:
    raise _Terminated


# The commands


@contextmanager
def quick_imports() -> Iterator[None]:
    """Collect no garbage in the block. Importing torch, Polars and Arrow makes many objects, all of
    them to stay, and looking for garbage among them takes a tenth of a second."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _recipe(name: str) -> Callable[[Any], None]:
    """Return a function that runs the recipe MODULE.FUNCTION, imported then, so that --help answers
    at once, and prints the lines of its result."""

    def run_recipe(request: Any) -> None:
        module, _, function = name.partition(".")
        with quick_imports():
            recipe = getattr(import_module(f"charrnn.recipes.{module}"), function)
        takes_runner = "runner" in inspect.signature(recipe).parameters
        result = recipe(request, console_runner()) if takes_runner else recipe(request)
        show(result if isinstance(result, list) else result.lines())

    return run_recipe


def _score(request: requests.ScoreRequest, head: int = 0) -> None:
    with quick_imports():
        from charrnn.recipes.published import first_rows
        from charrnn.recipes.score import score

    published = score(request, console_runner())
    show(published.lines())
    if head > 0:
        say(first_rows(published.folder, head))
    published.check_drift()


def _inbox(request: requests.InboxRequest) -> None:
    with quick_imports():
        from charrnn.recipes.inbox import inbox

    result = inbox(request, console_runner())
    show(result.lines())
    result.check()


def _train(request: requests.TrainRequest) -> None:
    with quick_imports():
        from charrnn.recipes.train import release, train

    trained = train(request, console_runner())
    show(trained.lines())
    show(release(trained, request).lines())


def _pipeline(request: requests.PipelineRequest) -> None:
    from charrnn.recipes.pipeline import pipeline

    ingest, promote = _COMMANDS["ingest"][1], _COMMANDS["promote"][1]
    pipeline(request, ingest, _train, promote, _score)


# Command → its request, what it runs, and how many fields may be given by position
_COMMANDS: dict[str, tuple[type, Callable[..., None], int]] = {
    "score": (requests.ScoreRequest, _score, 1),
    "challenge": (requests.CompareRequest, _recipe("compare.compare"), 1),
    "inbox": (requests.InboxRequest, _inbox, 1),
    "monitor": (requests.MonitorRequest, _recipe("monitor.monitor"), 1),
    "verify": (requests.VerifyRequest, _recipe("runs.verify"), 1),
    "purge": (requests.PurgeRequest, _recipe("runs.purge"), 1),
    "ingest": (requests.IngestRequest, _recipe("ingest.ingest"), 1),
    "train": (requests.TrainRequest, _train, 0),
    "models": (requests.ListRequest, _recipe("models.version_table"), 0),
    "evaluate": (requests.EvaluateRequest, _recipe("evaluate.evaluate_version"), 1),
    "compare": (requests.CompareVersionsRequest, _recipe("evaluate.compare_versions"), 2),
    "promote": (requests.PromoteRequest, _recipe("models.promote"), 1),
    "rollback": (requests.RollbackRequest, _recipe("models.roll_back"), 1),
    "register": (requests.RegisterRequest, _recipe("models.register"), 1),
    "pipeline": (requests.PipelineRequest, _pipeline, 1),
}


def command(name: str) -> Callable[..., Any]:
    """Return the function of a command of ``charrnn``."""
    request, call, positional = _COMMANDS[name]
    extra = HEAD if name == "score" else None
    return command_from(request, call, positional=positional, extra=extra)


def show(lines: list[str]) -> None:
    """Print lines of result."""
    for line in lines:
        say(line)


def console() -> App:
    """Return the command line ``charrnn``."""
    app = new_app(_EXAMPLES, name="charrnn", version=charrnn.__version__,
                  version_flags=("--version",))  # fmt: skip
    for name in _COMMANDS:
        app.command(command(name), name=name)
    app.register_install_completion_command()
    return app


def main() -> NoReturn:
    """Run the command ``charrnn``."""
    run(console(), sys.argv[1:])
