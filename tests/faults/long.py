"""All of it: every operation killed and failed in every way, and kills of real processes.

python tests/faults/long.py [--kills 200] [--starts 30] [--signals 12] [--flips 1000] [--rounds 20]
                            [--only WORDS] [--record PATH]
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from harness import ROOT, Server, scratch
from scenes import Scene, build
from test_fail import FAIL, faults_at, problems_of_failing
from test_flips import RUN_BITS, VERSION_BITS, unnoticed_flips
from test_kill import KILL, RANDOM_KILL, problems_of_killing, problems_of_random_kills
from test_resume import EIGHT, make_folder, rounds_of_eight

from charrnn.errors import DataError, ModelError
from charrnn.model.version import load_version
from charrnn.runs.verify import verify_run

Tried = tuple[int, list[str]]  # how often, and what was lost
STOPPED = "SIGTERM or Ctrl-C to a process that scores: over within 10 s of work, nothing visible"
STARTED_KILL = f"{RANDOM_KILL}; processes started from zero"


def main() -> None:
    """The command line; exit code 1 when anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--kills", type=int, default=200, help="kills of forked processes at random times (200)")
    add("--starts", type=int, default=30, help="and of processes that start from zero (30)")
    add("--signals", type=int, default=12, help="SIGTERM and Ctrl-C to processes that score (12)")
    add("--flips", type=int, default=1000, help="single bits flipped in a run, in a version (1000)")
    add("--rounds", type=int, default=20, help="rounds of eight processes (20)")
    add("--only", default="", metavar="WORDS", help="what is tried only if it says WORDS")
    add("--record", type=Path, metavar="PATH", help="write what was proven as JSON")
    options = parser.parse_args()
    proofs: list[dict[str, object]] = []
    server = Server()

    def prove(
        promise: str, what: str, work: Callable[..., tuple[int, list[str]]], *on: Any
    ) -> None:
        if options.only not in what:
            return
        started = time.monotonic()
        tried, problems = work(server, *on)
        seconds = round(time.monotonic() - started, 1)
        counts = {"tried": tried, "lost": len(problems), "seconds": seconds}
        proofs.append({"promise": promise, "what": what, **counts, "test": "long.py"})
        print(f"{promise:6} {what}: {tried} tried, {len(problems)} lost, {seconds} s", flush=True)
        for problem in problems:
            print(f"       {problem}", flush=True)
        if options.record:
            options.record.write_text(json.dumps(proofs, indent=1) + "\n")

    with scratch() as memory:
        folder = memory / "disturbed"
        scenes = [
            build(server, name, prior, memory / f"{name}-{prior}")
            for name in ("score", "ingest", "train")
            for prior in (False, True)
        ]
        eight = make_folder(memory)
        prove("P1, P2", RANDOM_KILL, kill_at_random, scenes, folder, options.kills)
        prove("P5", EIGHT, run_eight, eight, options.rounds)
        prove("P15", RUN_BITS, flip, scenes[1], folder, options.flips)
        prove("P10", VERSION_BITS, flip, scenes[5], folder, options.flips)
        for scene in scenes:
            prove("P1, P2", KILL, kill_everywhere, scene, folder)
            prove("P7", FAIL, fail_everywhere, scene, folder)
        prove("P1, P2", STARTED_KILL, kill_processes, memory, options.starts)
        prove("P1, P2", STOPPED, stop_processes, memory, options.signals)
    server.close()
    sys.exit(any(proof["lost"] for proof in proofs))


def kill_everywhere(server: Server, scene: Scene, folder: Path) -> Tried:
    """SIGKILL at every operation."""
    numbers = range(len(scene.operations))
    return len(numbers), [p for n in numbers for p in problems_of_killing(scene, server, folder, n)]


def fail_everywhere(server: Server, scene: Scene, folder: Path) -> Tried:
    """Every operation fails in each way it can."""
    cases = [(n, fault) for n, o in enumerate(scene.operations) for fault in faults_at(o)]
    return len(cases), [
        p for n, fault in cases for p in problems_of_failing(scene, server, folder, n, fault)
    ]


def kill_at_random(server: Server, scenes: list[Scene], folder: Path, kills: int) -> Tried:
    """SIGKILL at random times, three in a row before the command may go on."""
    draw, problems = random.Random(1), []
    rounds = -(-kills // 3)
    for number in range(rounds):
        scene = scenes[number % len(scenes)]
        problems += problems_of_random_kills(scene, server, folder, draw, 3)
    return 3 * rounds, problems


def kill_processes(server: Server, memory: Path, kills: int) -> Tried:
    """The same with processes that a person would start; nothing is patched or forked."""
    draw, tried, problems = random.Random(2), 0, []
    folder = memory / "killed"
    for name in ("ingest", "train", "score"):
        scene = build(server, name, True, memory / f"real-{name}", real=True)
        scene.copy(folder)
        seconds = run_process(scene.argv, folder, 600)
        problems += scene.problems_in_the_end(folder)
        for number in range(3 * -(-kills // 9)):
            if number % 3 == 0:
                scene.copy(folder)
            # The first third of the time is imports.
            run_process(scene.again, folder, draw.uniform(seconds / 3, seconds))
            tried += 1
            problems += [f"{name}, kill {number}: {p}" for p in scene.problems_now(folder)]
            if number % 3 == 2:
                run_process(scene.again, folder, 600)
                problems += [f"{name}, {number}: {p}" for p in scene.problems_in_the_end(folder)]
    return tried, problems


def stop_processes(server: Server, memory: Path, signals: int) -> Tried:
    """SIGTERM and Ctrl-C, in turn, to processes that score four million unlike names. What they
    still do is counted in seconds of the processor, which others may be using, too."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in background ignores
    draw, problems = random.Random(3), []
    folder = memory / "stopped"
    folder.mkdir()
    letters = np.random.default_rng(3).integers(97, 123, (4_000_000, 9), np.uint8)
    names = pa.array(letters.view("S9").ravel().astype("U9"))
    pq.write_table(pa.table({"name": names}), folder / "many.parquet", row_group_size=2**17)
    argv = ("score", "many.parquet", "--model", "pretrained-tiny", "-o", "scored")
    for number in range(signals):
        shutil.rmtree(folder / "scored", ignore_errors=True)
        process = start_process(argv, folder)
        while not list(folder.glob("scored/.staging-*")) and process.poll() is None:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 3))  # somewhere in the seconds that it takes
        sent, code = ((signal.SIGTERM, 143), (signal.SIGINT, 130))[number % 2]
        process.send_signal(sent)
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        before = sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")  # user, system
        _, status, used = os.wait4(process.pid, 0)
        seconds = used.ru_utime + used.ru_stime - before
        process.returncode = found = os.waitstatus_to_exitcode(status)
        if found != code or seconds > 10:
            problems.append(f"{sent.name} {number}: exit code {found} after {seconds:.1f} s")
        print(f"       {sent.name}: {seconds:.1f} s of work", flush=True)
        problems += [f"{p.name} is visible" for p in folder.glob("scored/[!.]*")]
    run_process(argv, folder, 600)
    if verify_run(folder / "scored/latest").rows != len(names):
        problems.append("the run that went on has other rows")
    return signals, problems


def run_process(argv: tuple[str, ...], folder: Path, kill_after: float) -> float:
    """Run a command as people do, kill it after some seconds; return how long it took."""
    started = time.monotonic()
    with start_process(argv, folder) as process:
        try:
            process.wait(kill_after)
        except subprocess.TimeoutExpired:
            process.kill()
    return time.monotonic() - started


def start_process(argv: tuple[str, ...], folder: Path) -> subprocess.Popen[bytes]:
    """Start a command as people do."""
    command = [sys.executable, str(ROOT / f"flows/{argv[0]}.py"), *argv[1:]]
    environment = {
        "PYTHONPATH": str(ROOT),
        "HOME": str(folder),
        "PATH": os.environ["PATH"],
        "MPLCONFIGDIR": str(ROOT / ".pytest_cache"),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def run_eight(server: Server, folder: Path, rounds: int) -> Tried:
    """Eight processes at once, again and again."""
    return rounds, rounds_of_eight(server, folder, rounds)


def flip(server: Server, scene: Scene, folder: Path, flips: int) -> Tried:
    """Flip bits of what a command has published."""
    scene.run(server, scene.copy(folder))
    if scene.name == "train":
        version = folder / "outputs/models/v0002"
        return flips, unnoticed_flips(version, load_version, ModelError, flips)
    run = (folder / "outputs/predictions/people/latest").resolve()
    return flips, unnoticed_flips(run, verify_run, DataError, flips)


if __name__ == "__main__":
    main()
