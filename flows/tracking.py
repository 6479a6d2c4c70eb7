"""Prefect's ``flow`` and ``task`` where a run is tracked, plain functions where it is not.

A run is tracked when a Prefect API is configured (``PREFECT_API_URL``, or the active Prefect
profile), when Prefect itself loaded this file (a worker, ``serve``, ``deploy``), or with
``--track``, which lets Prefect start its ephemeral server. Otherwise the same function runs as it
is, and Prefect is not even imported: that is what keeps a cold start short.

Whether a run is tracked changes nothing about its output.
"""

import functools
import logging
import os
import re
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar, cast
from urllib.parse import unquote_to_bytes

from charrnn import cli
from charrnn.cli import console_runner, signature_of
from charrnn.errors import CharrnnError, printable, redact
from charrnn.recipes.runner import Advance, Runner
from charrnn.scoring.options import NamePolicy

P = ParamSpec("P")
R = TypeVar("R")
Function = TypeVar("Function", bound=Callable[..., Any])

# Name of Prefect's global concurrency limit that a run holds while it computes on a GPU.
GPU_LIMIT = "charrnn-gpu"
# Name of Prefect's Secret block with the key that names are hashed with, where the environment
# variable is not set.
KEY_BLOCK = "charrnn-name-key"
PUBLISHED = "charrnn.run.published"  # the event of a new run

HEARTBEAT_SECONDS = 30  # between two signs of life of a flow run; Prefect allows no fewer
_PROGRESS_SECONDS = 2.0  # between two updates of a progress artifact
_NETWORK_STEPS = {"fetch", "upload"}
_GO_ON = "A run with the same parameters goes on from the work that is finished."


def _profile_has_api() -> bool:
    """Return whether Prefect's active profile names an API, without importing Prefect."""
    home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    try:
        profiles = tomllib.loads((home / "profiles.toml").read_text())
    except (OSError, tomllib.TOMLDecodeError):
        return False
    active = os.environ.get("PREFECT_PROFILE", profiles.get("active", ""))
    return "PREFECT_API_URL" in profiles.get("profiles", {}).get(active, {})


# Decided once, before anything is decorated; hence the look at the command line.
_EPHEMERAL = "--track" in sys.argv
TRACKED = bool(
    "prefect" in sys.modules
    or os.environ.get("PREFECT_API_URL")
    or _EPHEMERAL
    or _profile_has_api()
)
os.environ.setdefault("DO_NOT_TRACK", "1")  # Prefect's client reports its use by default
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")  # so does its server
if _EPHEMERAL:
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_ENABLED", "true")
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
# Read when Prefect is imported: the automation in automations.yaml waits for three heartbeats.
os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", str(HEARTBEAT_SECONDS))
_FLOWS = set[str]()  # names of the flows of this project
_SAID = set[CharrnnError]()  # what the log of a run says already


def _is_worth_reading(record: logging.LogRecord) -> bool:
    """Filter what Prefect logs about runs of this project: no tracebacks, since messages say the
    reason and the place, no second word about a failure, and no end of every task, which the run's
    page shows. What fails before the flow begins, such as options that exclude each other, is said
    here."""
    message, error = str(record.msg), record.exc_info and record.exc_info[1]
    if message.startswith("Engine execution exited") and isinstance(error, CharrnnError):
        record.msg, record.args, record.exc_info = str(error), (), None
        return error not in _SAID
    if getattr(record, "flow_name", "") not in _FLOWS:
        return True
    record.exc_info = record.exc_text = None
    ended = message.startswith("Finished in state") or record.levelno >= logging.ERROR
    return not (ended and record.name == "prefect.task_runs")


for _name in ("prefect.flow_runs", "prefect.task_runs"):
    logging.getLogger(_name).addFilter(_is_worth_reading)


def flow(request: type, **options: Any) -> Callable[[Callable[[Any], R]], Callable[..., R]]:
    """Decorate a function of a request record as a flow whose parameters are the record's fields.

    What the flow returns or raises is not stored: Prefect would pickle it.

    Args:
        options: those of ``prefect.flow``.
    """

    def decorate(function: Callable[[Any], R]) -> Callable[..., R]:
        signature, document = signature_of(request)
        kinds: dict[str, Any] = {field.name: field.default_factory for field in fields(request)}

        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> R:
            values = signature.bind(*arguments, **named).arguments
            values = {k: kinds[k](**v) if isinstance(v, dict) else v for k, v in values.items()}
            return function(
                request(**{k: _with_texts(v, _from_parameter) for k, v in values.items()})
            )

        del call.__wrapped__  # Prefect would read its signature
        call.__signature__ = signature  # type: ignore[attr-defined]
        call.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
        call.__doc__ = document
        if not TRACKED:
            return call
        import prefect

        _FLOWS.add(options["name"])
        hooks: Any = {"on_crashed": [_say_how_to_go_on], "on_cancellation": [_say_how_to_go_on]}
        tracking: Any = prefect.flow(persist_result=False, **hooks, **options)
        tracked = tracking(_explained(call, request))
        tracked.validate_parameters = _leave_to_flow(tracked.validate_parameters)
        return cast("Callable[..., R]", tracked)

    return decorate


def _leave_to_flow(validate: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Leave it to the flow to refuse options that exclude each other: Prefect would put words of
    its own before the reason."""

    def validated(parameters: dict[str, Any]) -> dict[str, Any]:
        try:
            return validate(parameters)
        except CharrnnError:
            return parameters

    return validated


def submit(flow: Callable[..., R], request: Any) -> R:
    """Run a flow with the fields of a request record as its parameters, paths as text."""
    values = {field.name: getattr(request, field.name) for field in fields(request)}
    return flow(**{name: _with_texts(value, _as_parameter) for name, value in values.items()})


def _with_texts(value: Any, change: Callable[[str], str]) -> Any:
    """Return a field's value with its texts changed, those of a group of options as well."""
    if is_dataclass(value) and not isinstance(value, type):
        texts = {f.name: getattr(value, f.name) for f in fields(value)}
        changed = {k: change(v) for k, v in texts.items() if isinstance(v, str) and change(v) != v}
        return replace(value, **changed) if changed else value
    if isinstance(value, list | tuple):  # Prefect may hand over a list
        return tuple(_with_texts(part, change) for part in value)
    return change(str(value)) if isinstance(value, str | Path) else value


def _as_parameter(text: str) -> str:
    """Return text as JSON holds it: a path whose bytes are not UTF-8 as a ``file://`` URI."""
    if re.search("[\udc80-\udcff]", text):
        return Path(text).absolute().as_uri() + ("/" if text.endswith("/") else "")
    return text


def _from_parameter(text: str) -> str:
    """Undo ``_as_parameter``."""
    if text.startswith("file:///"):
        return os.fsdecode(unquote_to_bytes(text.removeprefix("file://")))
    return text


def as_task(name: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Run one step of a recipe as a Prefect task; a plain call when untracked.

    Arguments are neither hashed nor stored: what has been done is known from the output, never
    from Prefect's cache. Only steps that cross a network are retried.
    """
    if not TRACKED:
        return function(*args, **kwargs)
    import prefect
    from prefect.cache_policies import NO_CACHE

    retried: Any = {"retries": 2, "retry_delay_seconds": [2, 10]} if name in _NETWORK_STEPS else {}
    decorate: Any = prefect.task(
        name=name, task_run_name=name, cache_policy=NO_CACHE, persist_result=False, **retried
    )
    return cast("R", decorate(_guarded(function))(*args, **kwargs))


def prefect_runner(names: NamePolicy = "keep") -> Runner:
    """Return the runner of a flow: steps are tasks, progress is shown on the flow run's page as
    well as on the terminal, and a GPU is held by one run at a time.

    Args:
        names: where they are hashed, the key may come from Prefect's Secret block.
    """
    runner = console_runner(
        tracked=TRACKED, step=as_task, progress=show_progress, device_slot=device_slot, log=log
    )
    if not TRACKED or names != "hash" or runner.name_key:
        return runner
    from prefect.blocks.system import Secret

    try:
        block: Any = Secret.load(KEY_BLOCK)
    except ValueError:  # there is no such block; the recipe says that a key is missing
        return runner
    return replace(runner, name_key=str(block.value.get_secret_value()).encode())


@contextmanager
def show_progress(description: str, total: int | None, unit: str) -> Iterator[Advance]:
    """Show progress on the terminal and, of a known total, as a progress artifact."""
    of = "" if unit == "%" else f" {total or 0:,} {unit}"
    key = re.sub(r"[^a-z0-9]+", "-", description.lower())  # Prefect takes no other characters
    shown = f"{description}{of}, in per cent"
    with cli.progress(description, total, unit) as bar, note_progress(key, total, shown) as noted:

        def advance(steps: int, remark: str = "") -> None:
            bar(steps, remark)
            noted(steps)

        yield advance


def run_named(verb: str, parameter: str) -> Callable[[], str]:
    """Return a ``flow_run_name``: the verb and the last part of what the flow's parameter of this
    name holds, such as ``score people.csv``."""

    def name() -> str:
        from prefect.runtime import flow_run

        path = Path(str(flow_run.parameters[parameter]))
        return printable(f"{verb} {path.name or path.resolve().name}")

    return name


def note(key: str, markdown: str, description: str) -> None:
    """Attach a Markdown artifact to the run; see ``attach``."""
    attach("markdown", key, description, markdown=markdown)


def log(text: str) -> None:
    """Add an entry, of one line or more, to the log of the flow run, and to no terminal; does
    nothing when untracked. No names in it."""
    if TRACKED:
        # Prefect's one logger that has only its handler for the API.
        logging.getLogger("prefect.extra").info("%s", _printable(text))


def show(lines: list[str]) -> None:
    """Print lines of result, and add them to the log of the flow run as one entry."""
    cli.show(lines)
    log("\n".join(lines))


def announce(folder: Path, payload: dict[str, Any]) -> None:
    """Emit the event ``charrnn.run.published``, for automations; does nothing when untracked.

    Args:
        folder: of the run; the event's resource is its destination.
    """
    if TRACKED:
        from prefect.events import emit_event

        name = printable(folder.parents[1].name)
        resource = {"prefect.resource.id": f"charrnn.destination.{name}"}
        _attempt(
            emit_event,
            event=PUBLISHED,
            resource={**resource, "prefect.resource.name": name},
            payload={"path": printable(str(folder.absolute())), **payload},
        )


def warn(text: str) -> None:
    """Log a warning of the flow run; does nothing when untracked. No names in it."""
    if TRACKED:
        from prefect import get_run_logger

        get_run_logger().warning("%s", printable(text))


def attach(kind: Literal["markdown", "table", "link"], key: str, description: str,
           **content: Any) -> None:  # fmt: skip
    """Attach an artifact of Prefect to the run; does nothing when untracked. No names in it.

    Like everything that is only shown: where the server cannot be reached, the run goes on.
    """
    if TRACKED:
        from prefect import artifacts

        content = {name: _printable(value) for name, value in content.items()}
        create = getattr(artifacts, f"create_{kind}_artifact")
        _attempt(create, key=key, description=printable(description), **content)


def _printable(value: Any) -> Any:
    """Return the content of an artifact with its lines as they are, and all else escaped."""
    if isinstance(value, str):
        return "\n".join(map(printable, value.split("\n")))
    if isinstance(value, dict):
        return {name: _printable(cell) for name, cell in value.items()}
    return [_printable(row) for row in value] if isinstance(value, list) else value


@contextmanager
def note_progress(key: str, total: int | None, description: str) -> Iterator[Callable[[int], None]]:
    """Attach a progress artifact; yield ``advance(steps)``.

    A thread of its own sends the share done at most every two seconds, so that neither many steps
    nor a slow server hold up the work.
    """
    if not TRACKED or not total:
        yield lambda steps: None
        return
    from prefect.artifacts import create_progress_artifact, update_progress_artifact

    artifact = _attempt(create_progress_artifact, progress=0.0, key=key, description=description)
    done, ended = 0, threading.Event()

    def advance(steps: int) -> None:
        nonlocal done
        done += steps

    def send() -> None:
        sent = 0
        while not ended.wait(_PROGRESS_SECONDS) or done > sent:
            if done > sent:
                sent = done
                share = 100.0 * sent / total
                _attempt(update_progress_artifact, artifact_id=artifact, progress=share)

    sender = threading.Thread(target=send, name="progress", daemon=True)
    if artifact is not None:
        sender.start()
    try:
        yield advance
    finally:
        ended.set()
        if artifact is not None:
            sender.join(5)  # of a daemon: a server that hangs does not hold up the end


@contextmanager
def device_slot(device: str) -> Iterator[None]:
    """Hold one slot of the global concurrency limit ``charrnn-gpu`` while a tracked run computes on
    a GPU, so that two runs never share one; other devices and untracked runs pass.

    Where the limit does not exist on the server, a warning says so and the run goes on. A lease
    that cannot be renewed, because the server is away, does not stop the work either.

    Args:
        device: torch's device type, such as ``cuda``.
    """
    if not TRACKED or device != "cuda":
        yield
        return
    from prefect.concurrency.sync import concurrency

    with concurrency(GPU_LIMIT, strict=False, raise_on_lease_renewal_failure=False):
        yield


def shown(error: BaseException) -> CharrnnError:
    """Return an error that may be shown and recorded (see ``errors.redact``)."""
    unreachable = isinstance(error, RuntimeError) and str(error).startswith("Failed to reach API")
    if unreachable or type(error).__name__ == "ConnectError":  # of httpx, below Prefect's client
        return CharrnnError(
            "the Prefect API does not answer; start it, or unset PREFECT_API_URL (or choose "
            "another Prefect profile) to run without it"
        )
    return redact(error)


def _guarded(function: Function) -> Function:
    """Let no message through that is not ours: it may hold a cell, and Prefect keeps messages."""

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        try:
            return function(*arguments, **named)
        except BaseException as error:
            # pyo3's panics are no Exception; what else is none, such as Ctrl-C, is no fault.
            if isinstance(error, Exception) or type(error).__name__ == "PanicException":
                raise shown(error) from None
            raise

    return cast("Function", call)


def _explained(function: Callable[..., R], request: type) -> Callable[..., Any]:
    """Let a flow that fails end in a state whose message is the reason, in words of its form. The
    first and the last line of its log say it. Who calls the flow gets the error itself."""

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        from prefect import get_run_logger
        from prefect.states import Failed

        try:
            return _guarded(function)(*arguments, **named)
        except CharrnnError as error:
            _SAID.add(error)
            reason = f"{error}{_place_in_form(request, error.option)}"
            get_run_logger().error("%s", reason)
            get_run_logger().info(_GO_ON)
            return Failed(message=reason, data=error)

    return call


def _place_in_form(request: type, option: str) -> str:
    """Return where a flow's form has an option, such as " (in the form: scoring, Top K)", or what
    else changes it; "" where it has none."""
    if option == "name_key":
        return f" (environment variable {cli.KEY_VARIABLE}, or Secret block {KEY_BLOCK})"
    for field in fields(request):
        if field.name == option:
            return f" (in the form: {option})"
        group: Any = field.default_factory
        if is_dataclass(group) and option in {member.name for member in fields(group)}:
            return f" (in the form: {field.name}, {option.replace('_', ' ').title()})"
    return ""


def _say_how_to_go_on(flow: Any, flow_run: Any, state: Any) -> None:
    """State hook: log how to go on after a crash or a cancellation."""
    from prefect.logging.loggers import flow_run_logger

    level = logging.ERROR if state.is_crashed() else logging.INFO
    text = f"{state.name}: {printable(str(state.message))} {_GO_ON}"
    flow_run_logger(flow_run, flow).log(level, "%s", text)


def _attempt(create: Callable[..., Any], **arguments: Any) -> Any:
    """Call the API; a failure is a warning, for the run's truth is its output."""
    from prefect import get_run_logger
    from prefect.exceptions import MissingContextError

    try:
        return create(**arguments)
    except Exception as error:
        with suppress(MissingContextError):
            get_run_logger().warning("not shown in Prefect: %s", type(error).__name__)
        return None


if __name__ == "__main__":
    cli.no_command("flows/tracking.py")
