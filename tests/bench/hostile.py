"""Measure what hostile inputs cost: wall and processor time, peak memory, and the outcome.

python tests/bench/hostile.py                      # rewrites docs/hostile.json and docs/hostile.md
python tests/bench/hostile.py --only Parquet --size 16

Every input is given to the command in a process of its own, small and four times as large: memory
stays under 2 GB, and time grows no faster than the input does.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

import hostile_csv
import hostile_parquet
from bench.common import ROOT, circumstances, write_section

from charrnn.files import write_sums

RECORD, PAGE = ROOT / "docs/hostile.json", ROOT / "docs/hostile.md"
MEMORY = 2e9  # bytes
GROWTH = 6.0  # times the processor time, start-up left out, of an input four times as large
SLOW = 1.0  # seconds: below them a growth says nothing
TIMEOUT = 600.0
TINY = ("--model", "pretrained-tiny", "--workers", "1", "--device", "cpu")
Write = Callable[[Path, int], Path]


@dataclass(frozen=True)
class Cost:
    """What one command on one input took; ``start`` are the seconds of an input of one row."""

    file_bytes: int
    wall: float
    cpu: float
    memory: int
    outcome: str


@dataclass(frozen=True)
class Row:
    """One hostile input, small and four times as large."""

    kind: str
    case: str
    small: Cost
    large: Cost
    start: float

    @property
    def growth(self) -> float | None:
        """How many times the larger one's processor time is, start-up left out; None if both are
        too short to tell."""
        small, large = (max(c.cpu - self.start, 0.0) for c in (self.small, self.large))
        return large / small if large > SLOW and small > 0.1 else None

    @property
    def wrong(self) -> str:
        """What bar the input breaks, "" for none."""
        if self.large.memory > MEMORY:
            return "memory"
        if self.growth is not None and self.growth > GROWTH:
            return "time"
        return "" if self.large.outcome.split(":")[0] != "exit 70" else "exit code 70"


def measured(argv: tuple[str, ...], folder: Path, path: Path) -> Cost:
    """Run a command in a process of its own and return what it took."""
    log = folder / "stderr"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(folder)}
    command = [sys.executable, "-c", "from charrnn.cli import main; main()", *argv]
    started = time.monotonic()
    with log.open("wb") as err, Path(os.devnull).open("wb") as null:
        actions = [(os.POSIX_SPAWN_DUP2, null.fileno(), 1), (os.POSIX_SPAWN_DUP2, err.fileno(), 2)]
        before = Path.cwd()
        os.chdir(folder)
        pid = os.posix_spawn(sys.executable, command, environment, file_actions=actions)
        os.chdir(before)
    while True:
        found, status, used = os.wait4(pid, os.WNOHANG)
        if found:
            break
        if time.monotonic() - started > TIMEOUT:
            os.kill(pid, 9)
        time.sleep(0.01)
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    complaints = [line for line in lines if line.startswith("error: ")] or lines[-1:]
    code = os.waitstatus_to_exitcode(status)
    said = complaints[0].removeprefix("error: ").replace(f"{folder}/", "") if complaints else ""
    return Cost(
        path.stat().st_size, round(time.monotonic() - started, 2),
        round(used.ru_utime + used.ru_stime, 2), used.ru_maxrss * 1024,
        f"exit {code}" + (f": {said}" if code and said else ""),
    )  # fmt: skip


# --- Inputs of other commands ---------------------------------------------------------------------


def bomb(path: Path, size: int) -> Path:
    """A zip archive of language files that unpacks to ``size``."""
    path = path.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for label in ("Alpha", "Beta"):
            archive.writestr(f"{label}.txt", b"a\n" * (size // 4))
    return path


def long_language(path: Path, size: int) -> Path:
    """A zip archive with one long line."""
    path = path.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("Alpha.txt", b"a" * size)
        archive.writestr("Beta.txt", b"b\n")
    return path


def _version(path: Path) -> Path:
    import shutil

    from charrnn.model import version

    target = path.parent / "outputs/models/v0001"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(Path(version.__file__).parent / "pretrained/tiny", target)
    (path.parent / "in.csv").write_text("name\nKatoro\n")
    return target


def large_model_json(path: Path, size: int) -> Path:
    """A version whose model.json is as large."""
    target = _version(path)
    document = json.loads((target / "model.json").read_bytes())
    document["facts"]["provenance"]["libraries"]["x"] = "v" * size
    (target / "model.json").write_text(json.dumps(document))
    write_sums(target)
    return target / "model.json"


def claiming_tensors(path: Path, size: int) -> Path:
    """A version whose weights claim gigabytes in their header."""
    target = _version(path)
    weights = target / "weights.safetensors"
    content = weights.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    name = next(k for k in header if k != "__metadata__")
    header[name] = {"dtype": "F32", "shape": [size, 1024], "data_offsets": [0, size * 4096]}
    new = json.dumps(header).encode()
    weights.write_bytes(len(new).to_bytes(8, "little") + new + content[8 + length :])
    write_sums(target)
    return weights


def prior(path: Path, size: int) -> Path:
    """A file of label shares that is as large."""
    (path.parent / "in.csv").write_text("name\nKatoro\n")
    path = path.with_suffix(".prior.csv")
    path.write_bytes(b"language,share\n" + b"Polish,0.5\n" * (size // 11))
    return path


def labelled(path: Path, size: int) -> Path:
    """A labelled table that is as large."""
    path = path.with_suffix(".csv")
    path.write_bytes(b"name,language\n" + b"Katoro,Polish\n" * (size // 14))
    return path


OTHERS: dict[str, tuple[Write, tuple[str, ...]]] = {
    "zip archive that unpacks a thousandfold": (bomb, ("ingest", "{}")),
    "language file of one long line": (long_language, ("ingest", "{}")),
    "model.json as large": (large_model_json, ("score", "in.csv", "--model", "v0001")),
    "tensors that claim gigabytes": (claiming_tensors, ("score", "in.csv", "--model", "v0001")),
    "label shares": (prior, ("score", "in.csv", *TINY, "--prior", "{}")),
    "labelled table": (labelled, ("evaluate", "pretrained-tiny", "--on", "{}")),
}


def inputs() -> list[tuple[str, str, Write, tuple[str, ...]]]:
    """Return kind, case, what writes it and what is run on it."""
    score = ("score", "{}", *TINY)
    return [
        *(("CSV", name, write, score) for name, write in hostile_csv.CASES.items()),
        *(("Parquet", name, write, score) for name, write in hostile_parquet.CASES.items()),
        *(("other", name, write, argv) for name, (write, argv) in OTHERS.items()),
    ]


def written(write: Write, path: Path, size: int) -> Path:
    """Write an input in a fork, so that this process stays small: what it holds counts as the peak
    of the processes that it starts."""
    pid = os.fork()
    if pid == 0:
        code = 1
        with contextlib.suppress(BaseException):
            (path.parent / "written").write_text(str(write(path, size)))
            code = 0
        os._exit(code)
    _, status = os.waitpid(pid, 0)
    if status:
        raise RuntimeError(f"{write} failed")
    return Path((path.parent / "written").read_text())


def rows_of(kind: str, case: str, write: Write, argv: tuple[str, ...], size: int) -> Row:
    """Measure one input, small and four times as large."""
    costs = []
    for bytes_ in (size // 4, size):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            path = written(write, folder / "in", bytes_)
            costs.append(measured(tuple(a.replace("{}", path.name) for a in argv), folder, path))
    return Row(kind, case, *costs, start=START[0])


START = [0.0]  # seconds of the processor that a table of one row takes


def table(rows: list[Row]) -> list[str]:
    """Return Markdown."""
    lines = ["| kind | input | file, MB | wall, s | CPU, s | of fourfold | peak, MB | outcome |",
             "|---|---|--:|--:|--:|--:|--:|---|"]  # fmt: skip
    for row in rows:
        cost, growth = row.large, "" if row.growth is None else f"{row.growth:.1f}×"
        outcome = cost.outcome.replace("|", "\\|").replace("<", "&lt;")
        lines.append(
            f"| {row.kind} | {row.case} | {cost.file_bytes / 1e6:,.2f} | {cost.wall:.1f} | "
            f"{cost.cpu:.1f} | {growth} | {cost.memory / 1e6:,.0f} | {outcome} |"
        )
    return lines


def main() -> None:
    """The command line; exit code 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=128, help="of the larger one, unpacked, in MB")
    parser.add_argument("--only", default="", metavar="WORDS", help="kinds or cases with WORDS")
    parser.add_argument("--dry", action="store_true", help="write nothing")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        one = Path(name) / "in.csv"
        one.write_text("name\nKatoro\n")
        START[0] = measured(("score", "in.csv", *TINY), Path(name), one).cpu
    rows = []
    for kind, case, write, argv in inputs():
        if options.only.casefold() in f"{kind} {case}".casefold():
            rows.append(rows_of(kind, case, write, argv, options.size * 1_000_000))
            print(table(rows[-1:])[-1], rows[-1].wrong, flush=True)
    wrong = [f"{row.case}: {row.wrong}" for row in rows if row.wrong]
    if not options.dry:
        machine = circumstances("pyarrow", "polars")
        said = (
            f"{machine}; inputs of {options.size} MB unpacked; one row "
            f"takes {START[0]:.1f} s of the processor, start-up included. "
            f"{len(rows)} inputs, {len(wrong)} over the bars of 2 GB and of time in proportion."
        )
        document = {"circumstances": said, "rows": [asdict(row) for row in rows]}
        RECORD.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
        write_section(PAGE, "hostile", [said, "", *table(rows)])
    print(f"{len(rows)} inputs; missed: {wrong or 'none'}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
