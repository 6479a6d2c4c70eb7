"""Runs commands of the pipeline, counting what they do to the disk and failing what it is told to.

A server that has everything imported forks itself for every command, so that a case takes the time
of the command and not seconds of imports. In the fork, the functions of ``os`` and ``io`` that
change a disk are wrapped (Arrow writes to files that they opened): every call is an *operation*
with a number. A plan names an operation and what happens there: ``kill`` (SIGKILL, before it is
done), ``EIO`` (it fails), ``ENOSPC`` (it and all later ones that need room fail), ``short`` (half
of the bytes arrive, then it fails), ``signal``, ``linger`` (until the other commands have ended),
``mutate`` (the input changes) or nothing; ``stutter`` makes every write take half of its bytes.
Without a plan nothing is wrapped. What does not go through ``charrnn/files.py`` is reported as a
bypass.

Requests and answers are lines of JSON; see ``serve``.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import gc
import importlib
import io
import json
import os
import pkgutil
import re
import select
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NEEDS_ROOM = ("open", "write", "mkdir", "symlink", "link", "fsync")
SEAM = str(Path("charrnn", "files.py"))


class Injector:
    """Numbers the operations of this process and carries out a plan at one of them.

    Args:
        plan: ``{"at": number, "do": what}`` and more for some; empty only counts.
        log: descriptor to which every operation is written as it is met, so that it survives a
            kill.
    """

    def __init__(self, plan: dict[str, Any], log: int, linger: int) -> None:
        self.plan, self.log, self.linger = plan, log, linger
        self.here = os.getcwd()
        self.count = 0
        self.lock = threading.Lock()
        self.inside = threading.local()
        self.write, self.open, self.descriptor = os.write, io.open, os.open

    def install(self) -> None:
        """Wrap everything that changes a disk."""
        for name in (
            "mkdir",
            "rmdir",
            "unlink",
            "remove",
            "rename",
            "replace",
            "link",
            "symlink",
            "truncate",
            "ftruncate",
            "fsync",
            "fdatasync",
            "chmod",
        ):
            setattr(os, name, self._wrapped(name, getattr(os, name)))
        os.open = self._os_open
        io.open = builtins.open = self._open  # type: ignore[assignment]
        sys.addaudithook(self._audit)

    def _wrapped(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*arguments: Any, **options: Any) -> Any:
            subject, source = arguments[name in ("rename", "replace", "link", "symlink")], ""
            folder = options.get("dst_dir_fd", options.get("dir_fd"))
            if name in ("rename", "replace"):
                source = f"{self._where(arguments[0], options.get('src_dir_fd'))} > "
            with self.operation(name, subject, source, folder):
                return function(*arguments, **options)

        return operation

    @contextlib.contextmanager
    def operation(
        self, name: str, subject: Any, source: str = "", folder: int | None = None
    ) -> Any:
        """Count one operation, and do what the plan says; the block does it. Operations within
        operations, and those outside the working folder, are not counted."""
        where = self._where(subject, folder)
        if where is None or getattr(self.inside, "now", False):
            yield None
            return
        with self.lock:
            number, self.count = self.count, self.count + 1
        self.inside.now = True
        try:
            label = f"{name} {source}{where}"
            if not self._through_the_seam(name, where):
                label = f"BYPASS {label}"
            self.write(self.log, f"{label}\n".encode())
            yield self._fault(number, name)
        finally:
            self.inside.now = False

    def _where(self, subject: Any, folder: int | None = None) -> str | None:
        """Return the subject's path below the working folder, or None outside of it."""
        if isinstance(subject, int):
            try:
                subject = os.readlink(f"/proc/self/fd/{subject}")
            except OSError:
                return None
        if folder is not None:
            subject = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), os.fsdecode(subject))
        path = os.path.normpath(os.path.join(self.here, os.fsdecode(subject)))
        if path == self.here:
            return "."
        below = self.here + os.sep
        return path.removeprefix(below) if path.startswith(below) else None

    def _through_the_seam(self, name: str, where: str) -> bool:
        """Whether files.py is at work; Arrow may write to the temporary file it was given."""
        temporary = Path(where).name.startswith(".") and where.endswith(".tmp")
        if temporary and name in ("open", "write", "remove"):
            return True
        frame = sys._getframe()
        while frame is not None:
            if frame.f_code.co_filename.endswith(SEAM):
                return True
            frame = frame.f_back  # type: ignore[assignment]
        return False

    def _fault(self, number: int, name: str) -> str | None:
        """Do what the plan says about this operation; return "short" where the caller has to."""
        do, at = self.plan.get("do"), self.plan.get("at", -1)
        if do == "ENOSPC" and number >= at >= 0 and name in NEEDS_ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if number != at or do is None:
            return None
        if do == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if do == "EIO":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if do == "signal":
            os.kill(os.getpid(), self.plan["signal"])
        if do == "linger":
            os.read(self.linger, 1)  # until the others have ended
        if do == "mutate":
            MUTATIONS[self.plan["how"]](Path(self.plan["path"]))
        return "short" if do == "short" and name == "write" else None

    def _os_open(
        self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None
    ) -> int:
        if not flags & os.O_CREAT:
            return self.descriptor(path, flags, mode, dir_fd=dir_fd)
        with self.operation("open", path, folder=dir_fd):
            return self.descriptor(path, flags, mode, dir_fd=dir_fd)

    def _open(self, file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if not set(mode) & set("wax+") or self._where(file) is None:
            return self.open(file, mode, *arguments, **options)
        if isinstance(file, int):
            raw = _Raw(self, file, mode.replace("b", "").replace("t", ""))
        else:
            with self.operation("open", file):
                raw = _Raw(self, file, mode.replace("b", "").replace("t", ""))
        buffering = arguments[0] if arguments else options.pop("buffering", -1)
        if buffering == 0:
            return raw
        whole = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return whole if "b" in mode else io.TextIOWrapper(whole, **options)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Report a change of the disk that none of the wrapped functions has made."""
        changes = event in (
            "os.rename",
            "os.remove",
            "os.mkdir",
            "os.rmdir",
            "os.link",
            "os.symlink",
            "os.truncate",
        )
        if event == "open" and isinstance(arguments[2], int):
            changes = not isinstance(arguments[0], int) and bool(arguments[2] & os.O_CREAT)
        if changes and not getattr(self.inside, "now", False):
            where = self._where(arguments[0]) if arguments[0] is not None else None
            if where is not None:
                self.write(self.log, f"BYPASS {event} {where}\n".encode())


class _Raw(io.FileIO):
    """A file whose writes and truncations are operations."""

    def __init__(self, injector: Injector, file: Any, mode: str) -> None:
        super().__init__(file, mode)
        self.injector = injector

    def write(self, data: Any) -> int:
        with self.injector.operation("write", self.name) as fault:
            if fault != "short":
                if self.injector.plan.get("do") == "stutter" and len(data) > 1:
                    return super().write(bytes(data)[: len(data) // 2])
                return super().write(data)
            super().write(bytes(data)[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def truncate(self, size: int | None = None) -> int:
        with self.injector.operation("truncate", self.name):
            return super().truncate(size)


def _append(path: Path) -> None:
    with io.FileIO(path, "a") as file:
        file.write(b"9,Zanzibarova\n")


def _rewrite(path: Path) -> None:
    """Change one byte in place and put the time back: the size and the times say nothing."""
    before = path.stat()
    with io.FileIO(path, "r+") as file:
        content = bytearray(file.readall())
        at = content.index(b"a", len(content) // 2)
        file.seek(at)
        file.write(b"e")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _replace(path: Path) -> None:
    other = path.with_name("other")
    with io.FileIO(other, "w") as file:
        file.write(path.read_bytes())
    os.rename(other, path)


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


MUTATIONS: dict[str, Callable[[Path], None]] = {
    "append": _append,
    "truncate": _truncate,
    "rewrite": _rewrite,
    "replace": _replace,
    "delete": lambda path: os.unlink(path),
    "chmod": lambda path: os.chmod(path, 0o600),  # changes its ctime, and not a byte
}


def serve() -> None:
    """Answer requests on standard input until it ends.

    A request is a list of commands that are run at once: ``{"cwd", "argv": ["score", …], "plan",
    "kill_after": seconds, "patch": {"module:attribute": …}, "user": number}``; the answer is a list
    of ``{"code", "out", "err", "operations", "seconds"}``. ``code`` is negative for a signal, as in
    subprocess.
    """
    _import_everything()
    for line in sys.stdin:
        print(json.dumps(_together(json.loads(line))), flush=True)


def _import_everything() -> None:
    """Import what commands import while they run, parse the templates of pages, and check that
    nobody started a thread."""
    import anyascii  # noqa: F401
    import numpy.ctypeslib  # noqa: F401
    import pyarrow.dataset  # noqa: F401
    import rich.progress  # noqa: F401
    import torch

    import charrnn

    torch.set_num_threads(1)
    for module in pkgutil.walk_packages(charrnn.__path__, "charrnn."):
        importlib.import_module(module.name)
    for name in ("inbox", "ingest", "train", "score", "models"):
        importlib.import_module(f"flows.{name}")
    from charrnn.reports.page import environment

    for pages in (environment("html"), environment("md")):
        shared = (str(pages.globals[name]) for name in ("base", "macros"))
        for name in (*pages.list_templates(["jinja"]), *shared):
            pages.get_template(name)
    parameter = torch.nn.Parameter(torch.zeros(1))
    torch.optim.AdamW([parameter], fused=True)  # imports half of torch
    tasks = Path("/proc/self/task").iterdir()
    threads = {(task / "comm").read_text().strip() for task in tasks}
    harmless = {"python", "python3", "jemalloc_bg_thd", "polars-ooc-clea"}
    assert threads <= harmless | {Path(sys.executable).name[:15]}, f"a fork would lose {threads}"
    gc.freeze()  # or every fork would copy all of it at its first collection


def _together(commands: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Run commands at once; whoever lingers goes on when all others have ended."""
    ready, go = os.pipe()
    linger, release = os.pipe()
    running = []
    for command in commands:
        files = {name: tempfile.TemporaryFile() for name in ("out", "err", "log")}
        pid = os.fork()
        if pid == 0:
            os.close(go)
            os.close(release)
            os.read(ready, 1)  # until all are there
            os.dup2(files["out"].fileno(), 1)
            os.dup2(files["err"].fileno(), 2)
            _run(command, files["log"].fileno(), linger)
        running.append((command, pid, files))
    started = time.monotonic()
    os.close(go)
    ended: dict[int, dict[str, Any]] = {}
    ends = {
        os.pidfd_open(pid): (pid, started + command.get("kill_after", 120))
        for command, pid, _ in running
    }
    while ends:
        if len(ended) == len(running) - 1 and release >= 0:
            os.close(release)
            release = -1
        next_end = min(end for _, end in ends.values())
        found, _, _ = select.select(ends, [], [], max(0.0, next_end - time.monotonic()))
        for handle, (pid, end) in list(ends.items()):
            if handle not in found and end > time.monotonic():
                continue
            if handle not in found:
                os.kill(pid, signal.SIGKILL)
            _, status, used = os.wait4(pid, 0)
            ended[pid] = {
                "code": os.waitstatus_to_exitcode(status),
                "pid": pid,
                "seconds": time.monotonic() - started,
                "cpu": used.ru_utime + used.ru_stime,
            }
            os.close(handle)
            del ends[handle]
    os.close(ready)
    os.close(linger)
    answers = []
    for _, pid, files in running:
        text = {}
        for name, file in files.items():
            file.seek(0)
            text[name] = file.read().decode()
            file.close()
        answers.append(
            {
                **ended[pid],
                "out": text["out"],
                "err": text["err"],
                "operations": text["log"].splitlines(),
            }
        )
    return answers


def _run(command: dict[str, Any], log: int, linger: int) -> None:
    """Be the command; never returns."""
    try:
        os.chdir(command["cwd"])
        if "user" in command:
            os.environ["HOME"] = command["cwd"]
            os.setgroups([])
            os.setgid(command["user"])
            os.setuid(command["user"])
        name, *arguments = command["argv"]
        sys.argv = [f"flows/{name}.py", *arguments]
        for target, what in command.get("patch", {}).items():
            _patch(target, what)
        if "plan" in command:
            Injector(command["plan"], log, linger).install()
        from flows.command import run

        run(importlib.import_module(f"flows.{name}").app)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    except BaseException:
        import traceback

        traceback.print_exc()
    sys.stderr.flush()
    os._exit(1)


def _patch(target: str, what: Any) -> None:
    """Replace ``module:attribute``: by bytes it shall return, or so that call number ``call``
    raises ``raise``."""
    module, _, path = target.partition(":")
    owner: Any = importlib.import_module(module)
    *parents, attribute = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    original = getattr(owner, attribute)
    calls = iter(range(10**9))

    def replaced(*arguments: Any, **options: Any) -> Any:
        if "return" in what:
            return what["return"].encode()
        if next(calls) == what["call"]:
            raise _exception(what["raise"])("Zanzibarova at row 3")
        return original(*arguments, **options)

    setattr(owner, attribute, replaced)


def _exception(name: str) -> Any:
    import polars

    return getattr(polars.exceptions, name, None) or getattr(builtins, name)


def kind(operation: str) -> str:
    """Return an operation without what differs from run to run and from part to part."""
    text = re.sub(r"\d{8}T\d{6}Z-[0-9a-f]{8}(-\d+)?", "RUN", operation)
    text = re.sub(r"\.staging-[0-9a-f]{16}", ".staging", text)
    return re.sub(r"[0-9a-f]{16}", "ID", re.sub(r"-\d{5}", "-N", text))


if __name__ == "__main__":
    serve()
