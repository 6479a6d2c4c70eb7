"""Feed a target with mutated inputs, and keep those that reach code no other one reached.

    python -m tests.fuzz.csv --seconds 60
    python -m tests.fuzz.zip --seconds 60 --seed 7

With ``atheris`` installed, libFuzzer does the work; else the small loop below, which is slower but
needs nothing and gives the same run for the same seed. An input that breaks a promise is written
to ``crash-DIGEST`` in the working folder, and the loop stops. ``--save`` adds to the corpus.
"""

import argparse
import hashlib
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any

Target = Callable[[bytes], None]
CORPUS = Path(__file__).parent / "corpus"
Lines = set[tuple[str, int, int]]


def reached_by(target: Target, data: bytes, files: frozenset[str]) -> Lines:
    """Run ``target`` and return the steps it takes in ``files``: file, line before, line."""
    found: Lines = set()
    last = 0

    def line(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal last
        if event == "line":
            found.add((frame.f_code.co_filename, last, frame.f_lineno))
            last = frame.f_lineno
        return line

    def call(frame: FrameType, _event: str, _arg: Any) -> Any:
        return line if frame.f_code.co_filename in files else None

    before = sys.gettrace()
    sys.settrace(call)
    try:
        target(data)
    finally:
        sys.settrace(before)
    return found


def mutated(draw: random.Random, data: bytes, others: list[bytes], tokens: list[bytes]) -> bytes:
    """Return ``data`` with a few places changed; some changes splice in another input."""
    found = bytearray(data)
    for _ in range(draw.choice([1, 1, 2, 4, 8])):
        at = draw.randint(0, len(found))
        kind = draw.randrange(6)
        if kind == 0 and found:
            found[at % len(found)] ^= 1 << draw.randrange(8)
        elif kind == 1:
            found[at:at] = draw.choice(tokens)
        elif kind == 2:
            del found[at : at + draw.randint(1, 8)]
        elif kind == 3:
            found[at:at] = found[at : at + draw.randint(1, 64)]
        elif kind == 4:
            other = draw.choice(others)
            start = draw.randint(0, len(other))
            found[at:] = other[start:]
        elif found:
            found[at % len(found)] = draw.choice([0, 255, draw.randrange(256)])
    return bytes(found[:4096])


def explore(
    target: Target,
    corpus: Iterable[bytes],
    modules: Iterable[Any],
    tokens: list[bytes],
    *,
    seed: int,
    tries: int = 0,
    seconds: float = 0.0,
) -> tuple[list[bytes], int, int]:
    """Run ``target`` on the corpus and on mutants of it, for ``tries`` or ``seconds``.

    Returns:
        the new inputs that reached something new, the number of runs, and the steps reached.

    Raises:
        AssertionError: whatever the target raises; its input is in the note of the exception.
    """
    files = frozenset(str(module.__file__) for module in modules)
    draw = random.Random(seed)
    kept = list(corpus)
    reached: Lines = set()
    end = time.monotonic() + seconds
    known, runs = len(kept), 0
    while runs < known + tries or (seconds and time.monotonic() < end):
        new = runs >= known
        data = mutated(draw, draw.choice(kept), kept, tokens) if new else kept[runs]
        runs += 1
        try:
            steps = reached_by(target, data, files)
        except BaseException as error:
            error.add_note(f"input: {data!r}")
            raise
        if new and not steps <= reached:
            kept.append(data)
        reached |= steps
    return kept[known:], runs, len(reached)


def saved(name: str) -> list[bytes]:
    """Return the saved corpus of a target, in a fixed order."""
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def main(name: str, target: Target, modules: list[Any], tokens: list[bytes]) -> None:
    """The command line of a target."""
    parser = argparse.ArgumentParser(description=f"Fuzz the {name} reader.")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--save", action="store_true", help="add what reaches new code to corpus")
    parser.add_argument("--plain", action="store_true", help="the loop of this file, no atheris")
    arguments = parser.parse_args()
    if not arguments.plain:
        folder = CORPUS / name if arguments.save else Path(tempfile.mkdtemp())
        _with_atheris(target, modules, arguments.seconds, [folder, CORPUS / name])
    try:
        new, runs, steps = explore(
            target, saved(name), modules, tokens, seed=arguments.seed, seconds=arguments.seconds
        )
    except Exception as error:
        data = error.__notes__[-1]
        Path(f"crash-{digest_of(data.encode())}").write_text(data)
        raise
    print(f"{name}: seed {arguments.seed}, {runs:,} runs, {steps} steps reached, {len(new)} new")
    if arguments.save:
        for data in new:
            (CORPUS / name / digest_of(data)).write_bytes(data)


def _with_atheris(target: Target, modules: list[Any], seconds: float, folders: list[Path]) -> None:
    """Hand over to libFuzzer, which adds to the first folder and ends the process; return where it
    is not installed."""
    try:
        import atheris
    except ImportError:
        return
    for module in modules:
        for value in vars(module).values():
            if getattr(value, "__module__", "") != module.__name__:
                continue
            for function in vars(value).values() if isinstance(value, type) else [value]:
                if hasattr(function, "__code__"):
                    atheris.instrument_func(function)
    options = [f"-max_total_time={seconds:.0f}", "-max_len=4096", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *options, *map(str, folders)], target)
    atheris.Fuzz()
