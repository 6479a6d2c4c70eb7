"""P1, P2, P4: SIGKILL at every operation, and at random times; then the same command once more."""

import random
from pathlib import Path

import pytest
from harness import Server
from launcher import kind
from recording import Proof
from scenes import Scene

KILL = "SIGKILL at an operation of ingest, train and score, then once more"
RANDOM_KILL = "SIGKILL at random times, three in a row, then once more"


LASTING = ("mkdir", "replace", "rename", "unlink")  # change more than a temporary file


def chosen(scene: Scene, names: tuple[str, ...] = ()) -> list[int]:
    """Return which operations CI disturbs: the first of every kind; only of these ``names``, if
    some are given, and of training, which takes longer, only lasting ones."""
    names = LASTING if scene.name == "train" else names
    first: dict[str, int] = {}
    for number, operation in enumerate(scene.operations):
        if not names or operation.split()[0] in names:
            first.setdefault(kind(operation), number)
    return list(first.values())


def problems_of_killing(scene: Scene, server: Server, folder: Path, number: int) -> list[str]:
    """Kill a command before one operation, go on, and return what was not as it must be."""
    killed = scene.run(server, scene.copy(folder), plan={"at": number, "do": "kill"})
    problems = scene.problems_now(folder)
    if killed["code"] != -9:
        problems.append(f"not killed: {killed['err']}")
    done = scene.go_on(server, folder)
    problems += [done["err"]] if done["code"] else scene.problems_in_the_end(folder)
    return [f"{scene.name} {number} ({scene.operations[number]}): {p}" for p in problems]


@pytest.mark.slow
def test_kill_at_every_operation(
    scene: Scene, server: Server, disturbed: Path, proof: Proof
) -> None:
    every = scene.name != "train" and not scene.old
    numbers = list(range(len(scene.operations))) if every else chosen(scene, LASTING)
    assert [p for n in numbers for p in problems_of_killing(scene, server, disturbed, n)] == []
    proof("P1, P2", KILL, len(numbers))


def problems_of_random_kills(
    scene: Scene, server: Server, folder: Path, draw: random.Random, kills: int
) -> list[str]:
    """Kill a command at random times, again and again, go on, and return what was not as it must
    be."""
    problems = []
    scene.copy(folder)
    for _ in range(kills):
        server.run(folder, *scene.again, **scene.more, kill_after=draw.uniform(0, scene.seconds))
        problems += scene.problems_now(folder)
    done = scene.go_on(server, folder)
    return problems + ([done["err"]] if done["code"] else scene.problems_in_the_end(folder))


def test_kill_at_random_times(scene: Scene, server: Server, disturbed: Path, proof: Proof) -> None:
    draw = random.Random(scene.name)
    for _ in range(2):
        assert problems_of_random_kills(scene, server, disturbed, draw, 3) == []
    proof("P1, P2", RANDOM_KILL, 6)
