"""P1, P7: faults at calls of the C library, met from outside; ``syscalls.py`` tries thousands."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import syscalls
from recording import Proof
from syscalls import FAULTS, Scenario, Tally

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(syscalls.compiler() is None, reason="there is no C compiler"),
]


@pytest.fixture(scope="module")
def fault_server(memory: Path) -> Iterator[syscalls.Server]:
    server = syscalls.Server(memory)
    yield server
    server.close()


@pytest.fixture(scope="module")
def scenarios(fault_server: syscalls.Server, memory: Path) -> list[Scenario]:
    return [
        syscalls.build(fault_server, name, memory / f"syscalls-{number}")
        for number, name in enumerate(syscalls.names_of_scenarios())
    ]


def test_calls_of_python_arrow_and_delta_are_met(scenarios: list[Scenario]) -> None:
    calls = {(s.name, *c.split(maxsplit=1)) for s in scenarios for c in s.calls}
    assert {call for _, call, _ in calls} <= FAULTS.keys()
    assert {call for _, call, _ in calls} >= {"create", "read", "write", "fsync", "rename", "stat"}
    wanted = [
        ("score CSV", "read", "./people/0.csv"),
        ("score Parquet", "read", "./tables/0.parquet"),
        ("export", "write", "scored.csv"),
        ("export Parquet", "write", "scored.parquet"),
        ("score CSV", "write", "part-00000.parquet"),
    ]
    if "delta" in {s.name for s in scenarios}:
        wanted.append(("delta", "write", "_delta_log"))
    for scenario, call, place in wanted:
        assert [c for c in calls if c[:2] == (scenario, call) and place in c[2]], place


def test_hundred_faults_lose_nothing(
    scenarios: list[Scenario], fault_server: syscalls.Server, memory: Path, proof: Proof
) -> None:
    tally = Tally()
    for case in syscalls.chosen(scenarios, 100, random.Random(13)):
        syscalls.attempt(fault_server, *case, tally, memory / "syscalls-disturbed")
    assert tally.problems == []
    assert tally.stuck == 0
    assert tally.tried > 80
    proof("P1, P7", syscalls.WHAT, tally.tried)


@pytest.mark.parametrize("name", ["export", "export Parquet"])
def test_interrupted_calls_are_repeated(
    name: str,
    scenarios: list[Scenario],
    fault_server: syscalls.Server,
    memory: Path,
    proof: Proof,
) -> None:
    """EINTR at a close, where Linux has closed the file, and at ftruncate: no command ends."""
    score = next(s for s in scenarios if s.name == name)
    found = {c: n for n, c in enumerate(score.calls) if c.split()[0] in ("close", "truncate")}
    numbers = list(found.values())[:: max(1, len(found) // 12)]  # the last of each file
    folder = memory / "syscalls-disturbed"
    answers = {}
    for number in numbers:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(score.start, folder, symlinks=True)
        done = fault_server.run(folder, score.argv, number, "EINTR")
        answers[score.calls[number]] = done["code"], done["err"]
    assert answers == dict.fromkeys(answers, (0, ""))
    assert syscalls.visible(name, folder) == score.new
    proof(
        "P7", "calls of the C library that a signal interrupts: the command goes on", len(numbers)
    )
