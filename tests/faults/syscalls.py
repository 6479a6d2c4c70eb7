"""Faults at single calls of the C library, met by ``syscalls.c`` and not by a seam of this project.

python tests/faults/syscalls.py --faults 2000 --record docs/syscalls.json
python tests/faults/syscalls.py --faults 500 --seed 7 --only delta

Each scenario is a command in a prepared folder. Run undisturbed, it says which calls are reached
and what a reader sees in the end. Then one call of one run fails (EIO, ENOSPC, EINTR …), takes half
of its bytes, or is the last one before a SIGKILL; and the command is run once more. Nothing may be
half visible in between, the exit code is one of ours and not 70, and in the end all is as if
nothing had happened.
"""

from __future__ import annotations

import argparse
import collections
import ctypes
import errno
import gc
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SOURCE = Path(__file__).with_suffix(".c")
KILL, KILL_AFTER, SHORT = -1, -2, -3  # as in syscalls.c
TIMEOUT = 60.0  # seconds: a command takes a half; one that takes this long is stuck
WHAT = "faults at calls of the C library (errors, short reads and writes, SIGKILL), then once more"
OURS = (0, 64, 65, 66, 73, 74, 75, 78)
_DISK = ("EIO", "ENOSPC", "EDQUOT")
FAULTS: dict[str, tuple[str, ...]] = {
    "open": ("EIO", "EACCES", "EINTR", "ESTALE", "ENOMEM", "EMFILE"),
    "create": (*_DISK, "EACCES", "EINTR", "EROFS", "KILL", "KILL_AFTER"),
    "read": ("EIO", "EINTR", "ESTALE", "SHORT"),
    "write": (*_DISK, "EINTR", "SHORT", "KILL", "KILL_AFTER"),
    "close": (*_DISK, "EINTR", "KILL"),
    "fsync": (*_DISK, "EINTR", "KILL"),
    "truncate": ("EIO", "ENOSPC", "EINTR", "KILL"),
    "flock": ("EINTR", "ENOLCK", "EIO", "KILL"),
    "chmod": ("EPERM", "EIO", "KILL"),
    "mkdir": (*_DISK, "EACCES", "KILL", "KILL_AFTER"),
    "rmdir": ("EIO", "EACCES", "EBUSY", "KILL"),
    "unlink": ("EIO", "EACCES", "ESTALE", "KILL", "KILL_AFTER"),
    "rename": (*_DISK, "EACCES", "ESTALE", "KILL", "KILL_AFTER"),
    "link": (*_DISK, "EACCES", "KILL", "KILL_AFTER"),
    "symlink": (*_DISK, "EACCES", "KILL", "KILL_AFTER"),
    "readlink": ("EIO", "EACCES"),
    "stat": ("EIO", "EACCES", "ESTALE", "ENOMEM"),
    "opendir": ("EIO", "EACCES", "ENOMEM"),
    "readdir": ("EIO", "ESTALE"),
}


# --- The server: forks itself for every command ---------------------------------------------------


def serve() -> None:
    """Answer requests on standard input, one line of JSON each, until it ends: ``{"cwd", "argv",
    "at", "fault", "lasting"}``. The answer is ``{"code", "out", "err", "calls"}``; ``code`` is
    negative for a signal, and None where the command was stuck."""
    _import_everything()
    arm = ctypes.CDLL(None).fault_arm
    arm.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_int, ctypes.c_int]
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line), arm)), flush=True)


def _import_everything() -> None:
    """Import what commands import while they run, and check that nobody started a thread."""
    import importlib

    import torch

    torch.set_num_threads(1)
    recipes = sorted((ROOT / "charrnn/recipes").glob("[a-z]*.py"))
    for name in [f"charrnn.recipes.{path.stem}" for path in recipes] + [
        "charrnn.integrations.delta", "charrnn.runs.export", "charrnn.reports.run", "anyascii",
        "rich.progress",
    ]:  # fmt: skip
        importlib.import_module(name)
    if importlib.util.find_spec("deltalake"):
        importlib.import_module("deltalake")
    import charrnn.recipes.train

    # Drawing takes seconds; what counts here is how the pages are written.
    charrnn.recipes.train.model_report = lambda version: b"<p>report</p>"
    charrnn.recipes.train.model_markdown = lambda version: b"# report"
    torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], fused=True)  # imports half of torch
    threads = {(t / "comm").read_text().strip() for t in Path("/proc/self/task").iterdir()}
    harmless = {"python", "python3", "jemalloc_bg_thd", "polars-ooc-clea"}
    assert threads <= harmless | {Path(sys.executable).name[:15]}, f"a fork would lose {threads}"
    gc.freeze()


def _answer(request: dict[str, Any], arm: Callable[..., None]) -> dict[str, Any]:
    """Run one command in a fork and return what came of it."""
    with (
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
        tempfile.TemporaryFile() as log,
    ):
        pid = os.fork()
        if pid == 0:
            _run(request, arm, out.fileno(), err.fileno(), log.fileno())
        code, end = None, time.monotonic() + TIMEOUT
        while code is None:
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                code = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > end:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                break
            else:
                time.sleep(0.001)
        text = {}
        for name, file in (("out", out), ("err", err), ("calls", log)):
            file.seek(0)
            text[name] = file.read().decode(errors="replace")
    return {"code": code, **text, "calls": text["calls"].splitlines()}


def _run(request: dict[str, Any], arm: Callable[..., None], out: int, err: int, log: int) -> None:
    """Be the command; never returns."""
    code = 1
    try:
        from charrnn.cli import console, run

        os.chdir(request["cwd"])
        os.dup2(out, 1)
        os.dup2(err, 2)
        app = console()
        place = os.getcwd().encode()
        arm(place, request["at"], request["fault"], int(request["lasting"]), log)
        run(app, request["argv"])
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class Server:
    """The server from outside, with the compiled ``syscalls.c`` loaded into it."""

    def __init__(self, folder: Path) -> None:
        library = compiled(folder)
        one = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS")
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **dict.fromkeys(one, "1"),
                "LD_PRELOAD": str(library),
                "PYTHONPATH": str(ROOT),
                "HOME": str(folder),
                "PATH": os.environ.get("PATH", ""),
            },
        )

    def run(
        self, folder: Path, argv: tuple[str, ...], at: int = -1, fault: str = ""
    ) -> dict[str, Any]:
        """Run one command in ``folder``; ``fault`` happens at call number ``at``."""
        number = globals().get(fault) or getattr(errno, fault, 0)
        lasting = fault in ("ENOSPC", "EDQUOT")  # a full disk stays full
        request = {"cwd": str(folder), "argv": argv, "at": at, "fault": number, "lasting": lasting}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())  # type: ignore[no-any-return]

    def close(self) -> None:
        """End the server."""
        self.process.communicate()


def compiler() -> str | None:
    """Return the C compiler, None where there is none."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def compiled(folder: Path) -> Path:
    """Compile ``syscalls.c``."""
    library = folder / "syscalls.so"
    command = [str(compiler()), "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True)
    return library


# --- Scenarios ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scenario:
    """A command in a prepared folder.

    Attributes:
        start: what a disturbed run starts from; it is copied.
        again: the command that goes on after a disturbance.
        old, new: what a reader sees before, and after an undisturbed run.
        calls: the calls that an undisturbed run makes, in order.
    """

    name: str
    start: Path
    argv: tuple[str, ...]
    again: tuple[str, ...]
    old: dict[str, str]
    new: dict[str, str]
    calls: list[str]


_SCORE = ("--model", "pretrained-tiny", "--partition-rows", "31", "--workers", "1",
          "--device", "cpu")  # fmt: skip
_TRAIN = ("train", "--preset", "seed", "--epochs", "1", "--seeds", "1", "--no-baselines",
          "--device", "cpu", "--promote", "always")  # fmt: skip
_COMMANDS: dict[str, tuple[str, ...]] = {
    "score CSV": ("score", "people", *_SCORE),
    "score Parquet": ("score", "tables", *_SCORE, "--names", "omit", "--private"),
    "export": ("score", "people", *_SCORE, "-o", "scored.csv"),
    "export Parquet": ("score", "tables", *_SCORE, "-o", "scored.parquet"),
    "ingest": ("ingest", "languages"),
    "train": _TRAIN,
    "resume": ("score", "people", *_SCORE),
    "delta": ("score", "tables", *_SCORE, "--delta", "delta"),
    "purge": ("purge", "outputs/predictions", "--older-than", "0", "--yes", "--newest"),
    "promote": ("promote", "v0002", "--force"),
}


def build(server: Server, name: str, folder: Path) -> Scenario:
    """Prepare a scenario and run it undisturbed, to know what it does and gives."""
    start, argv = folder / "start", _COMMANDS[name]
    _prepare(server, name, start)
    old = visible(name, start)
    whole = Path(shutil.copytree(start, folder / "whole", symlinks=True))
    done = server.run(whole, argv)
    assert done["code"] == 0, f"{name}: {done['err']}"
    new = visible(name, whole)
    assert new != old
    assert left_over(whole) == []
    again = (*argv, "--resume") if name == "train" else argv
    return Scenario(name, start, argv, again, old, new, done["calls"])


def _prepare(server: Server, name: str, start: Path) -> None:
    """Write the inputs of a scenario, and run what comes before it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    draw = random.Random(1)
    for label, syllables in {"Alpha": "ka ro mi ta shi", "Beta": "stein burg mann hof"}.items():
        names = ["".join(draw.choices(syllables.split(), k=3)).capitalize() for _ in range(120)]
        (start / "languages").mkdir(parents=True, exist_ok=True)
        (start / "languages" / f"{label}.txt").write_text("\n".join(names) + "\n")
    for part in range(2):
        (start / "people").mkdir(exist_ok=True)
        (start / "tables").mkdir(exist_ok=True)
        some = [draw.choice(names) + chr(97 + i % 26) for i in range(30)]
        text = "\n".join(["id,name", *(f"{i},{n}" for i, n in enumerate(some)), "30,"]) + "\n"
        (start / "people" / f"{part}.csv").write_text(text)
        table = pa.table({"id": range(31), "name": [*some, None]})
        pq.write_table(table, start / "tables" / f"{part}.parquet", row_group_size=16)
    before: list[tuple[str, ...]] = []
    if name == "train":
        before = [_COMMANDS["ingest"]]
    elif name == "promote":
        before = [_COMMANDS["ingest"], _TRAIN, (*_TRAIN[:-1], "never", "--seed", "1")]
    elif name == "purge":
        before = [("score", "people", *_SCORE), ("score", "people", *_SCORE, "--top-k", "2")]
    elif name in ("delta", "export"):  # after another run of the same destination
        before = [(*_COMMANDS[name], "--top-k", "3", "--min-confidence", "0.1")]
    for argv in before:
        done = server.run(start, argv)
        assert done["code"] == 0, f"before {name}: {done['err']}"
    if name == "resume":
        done = server.run(start, _COMMANDS[name])
        calls = [c for c in done["calls"] if c.startswith("rename") and "part-00000.json" in c]
        at = len(done["calls"]) - 1 - done["calls"][::-1].index(calls[0])
        shutil.rmtree(start / "outputs")
        assert server.run(start, _COMMANDS[name], at, "KILL_AFTER")["code"] == -9
        assert list(start.glob("outputs/predictions/people/.staging-*"))


def visible(name: str, folder: Path) -> dict[str, str]:
    """Return what a reader sees: runs and versions, each proven by its own digests, rows of the
    Delta table, and all other files."""
    import scenes

    state = {}
    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in place.parts)
        if path.is_file() and not hidden and place.parts[0] not in ("outputs", "delta"):
            state[str(place)] = scenes.digest_of(path)
    for destination in sorted((folder / "outputs/predictions").glob("*")):
        runs = scenes.runs_below(destination, latest=name != "purge")
        state |= {f"{destination.name} {key}": value for key, value in runs.items()}
    if (folder / "outputs/models").is_dir():
        state |= scenes.visible("train", folder)
    if (folder / "delta/_delta_log").is_dir():
        state["delta"] = _delta_rows(folder / "delta")
    return state


def _delta_rows(folder: Path) -> str:
    """Return how many rows of each run the Delta table has, and a digest of them."""
    import deltalake

    try:
        table = deltalake.DeltaTable(folder).to_pyarrow_table()
    except deltalake.exceptions.TableNotFoundError:
        return "none"
    frame = table.to_pydict()
    runs = collections.Counter(run.split("-")[1] for run in frame.pop("charrnn_run"))
    return repr((sorted(runs.items()), sorted(map(repr, zip(*frame.values(), strict=True)))))


def left_over(folder: Path) -> list[str]:
    """Return hidden files and folders that nobody else would remove; locks stay."""
    import scenes

    return [name for name in scenes.left_over(folder) if not name.startswith("delta/")]


# --- Trying ---------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What was tried, and what came of it."""

    tried: int = 0
    missed: int = 0  # the call was not reached this time; not counted as tried
    stuck: int = 0
    codes: collections.Counter[str] = field(default_factory=collections.Counter)
    by: dict[str, collections.Counter[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def count(self, scenario: str, call: str, fault: str, code: object) -> None:
        """Count one fault."""
        self.tried += 1
        self.codes[str(code)] += 1
        for what, value in (("scenario", scenario), ("call", call), ("fault", fault)):
            self.by.setdefault(what, collections.Counter())[value] += 1

    def to_json(self) -> dict[str, Any]:
        """Return the tally as a record."""
        return {
            "tried": self.tried, "missed": self.missed, "stuck": self.stuck,
            "lost": len(self.problems), "codes": dict(sorted(self.codes.items())),
            "by": {what: dict(sorted(n.items())) for what, n in self.by.items()},
            "problems": self.problems,
        }  # fmt: skip


def chosen(
    scenarios: list[Scenario], faults: int, draw: random.Random
) -> Iterator[tuple[Scenario, int, str]]:
    """Yield scenario, number of a call and fault: one of each kind (scenario, call, place, fault)
    in turn, until there are enough."""
    kinds: dict[tuple[str, str, str], list[tuple[Scenario, int, str]]] = {}
    for scenario in scenarios:
        for number, call in enumerate(scenario.calls):
            name = call.split()[0]
            for fault in FAULTS.get(name, ("EIO",)):
                place = scenario.name, re.sub(r"[0-9a-f]{8,}|\d+", "N", call), fault
                kinds.setdefault(place, []).append((scenario, number, fault))
    groups = list(kinds.values())
    while faults > 0:
        draw.shuffle(groups)
        for group in groups[:faults]:
            yield draw.choice(group)
        faults -= len(groups)


def attempt(
    server: Server, scenario: Scenario, at: int, fault: str, tally: Tally, on: Path
) -> None:
    """Disturb one run, look, run once more, and look again."""
    shutil.rmtree(on, ignore_errors=True)
    shutil.copytree(scenario.start, on, symlinks=True)
    done = server.run(on, scenario.argv, at, fault)
    if len(done["calls"]) <= at:
        tally.missed += 1
        return
    call, code = done["calls"][at], done["code"]
    tally.count(scenario.name, call.split()[0], fault, code)
    killed = fault.startswith("KILL")
    problems = []
    if code is None:
        tally.stuck += 1
        problems.append("stuck")
    elif killed != (code == -9) or not (killed or code in OURS):
        problems.append(f"exit code {code}: {done['err'].strip()[-300:]}")
    found = _differences(scenario, on, ended=code == 0)
    if "does not lead to" in done["out"]:  # published, and told that latest is the old one
        found = [problem for problem in found if " latest is not what" not in problem]
    if code == 0 and "left alone: " in done["out"]:  # by purge, which names what it may not read
        found = _differences(scenario, on, ended=False)
    problems += found
    again = server.run(on, scenario.again)
    if again["code"]:
        problems.append(f"once more gives {again['code']}: {again['err'].strip()[-300:]}")
    else:
        problems += _differences(scenario, on, ended=True)
        problems += [f"{name} is left over" for name in left_over(on)]
    tally.problems += [f"{scenario.name}, {fault} at {at} ({call}): {p}" for p in problems]


def _differences(scenario: Scenario, folder: Path, *, ended: bool) -> list[str]:
    """Return what a reader sees that is neither old nor new, or not new once it has ``ended``."""
    try:
        found = visible(scenario.name, folder)
    except Exception as error:
        return [f"what is visible is not whole: {type(error).__name__}: {error}"]
    old, new = scenario.old, scenario.new
    if ended:
        differing = sorted(k for k in new.keys() | found.keys() if found.get(k) != new.get(k))
        return [f"{key} is not what an undisturbed run gives" for key in differing]
    wrong = [k for k, v in found.items() if v not in (old.get(k), new.get(k))]
    gone = [k for k in old.keys() & new.keys() if k not in found]
    return [f"{key} is neither old nor new" for key in wrong] + [f"{k} is gone" for k in gone]


def names_of_scenarios() -> list[str]:
    """Return the scenarios that can be run here."""
    import importlib.util

    missing = () if importlib.util.find_spec("deltalake") else ("delta",)
    return [name for name in _COMMANDS if name not in missing]


def main() -> None:
    """The command line; exit code 1 when anything was lost or stuck."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--faults", type=int, default=2000, help="how many calls fail (2000)")
    add("--seed", type=int, default=1, help="which ones (1)")
    add("--only", default="", metavar="WORD", help="scenarios that have WORD in their name")
    add("--record", type=Path, metavar="PATH", help="write what came of it as JSON")
    add("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    if compiler() is None:
        sys.exit("no C compiler: nothing was tried")
    from bench.common import circumstances
    from harness import scratch

    started, tally = time.monotonic(), Tally()
    with scratch() as memory:
        server = Server(memory)
        names = [name for name in names_of_scenarios() if options.only in name]
        scenarios = [build(server, name, memory / name.replace(" ", "-")) for name in names]
        for scenario in scenarios:
            print(f"{scenario.name}: {len(scenario.calls)} calls", flush=True)
        for number, case in enumerate(
            chosen(scenarios, options.faults, random.Random(options.seed))
        ):
            known = len(tally.problems)
            attempt(server, *case, tally, memory / "disturbed")
            for problem in tally.problems[known:]:
                print(problem, flush=True)
            if number % 100 == 99:
                print(f"{number + 1} tried, {time.monotonic() - started:.0f} s", flush=True)
        server.close()
    record = {
        "circumstances": circumstances("pyarrow"),
        "seconds": round(time.monotonic() - started),
        "calls": {s.name: len(s.calls) for s in scenarios},
        **tally.to_json(),
    }
    if options.record:
        options.record.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps({k: v for k, v in record.items() if k != "problems"}))
    sys.exit(bool(tally.problems or tally.stuck))


if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parent), str(ROOT / "tests"), str(ROOT)]
    main()
