"""Who runs a recipe: what the library does not read or show by itself."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from typing import ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Step(Protocol):
    """Runs one named step of a recipe: plainly, or as a Prefect task."""

    def __call__(
        self, name: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...


class Advance(Protocol):
    """Reports ``steps`` more units of work as done; ``remark`` is shown beside them."""

    def __call__(self, steps: int, remark: str = "") -> None: ...


class Progress(Protocol):
    """Shows the progress of ``total`` units of work (None: unknown) while the block runs."""

    def __call__(
        self, description: str, total: int | None, unit: str
    ) -> AbstractContextManager[Advance]: ...


def run_step(name: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Call ``function``; the name is for runners that record steps."""
    return function(*args, **kwargs)


@contextmanager
def no_progress(description: str, total: int | None, unit: str) -> Iterator[Advance]:
    """Show nothing."""
    yield lambda steps, remark="": None


@dataclass(frozen=True, kw_only=True)
class Runner:
    """What a recipe is given by the program that runs it.

    Args:
        now: returns the time, UTC.
        holder: what a lock says about this process, such as ``process 17 on host``.
        name_key: the secret that names are hashed with; b"" where there is none.
        tracked: whether Prefect records the run.
        step: runs a named step.
        progress: shows progress.
        log: takes a line about what was done, such as the loss of an epoch.
        device_slot: held while a device (``cpu``, ``cuda``) computes.
    """

    now: Callable[[], datetime]
    holder: str
    name_key: bytes = field(default=b"", repr=False)
    tracked: bool = False
    step: Step = run_step
    progress: Progress = no_progress
    log: Callable[[str], None] = lambda line: None
    device_slot: Callable[[str], AbstractContextManager[None]] = lambda device: nullcontext()
