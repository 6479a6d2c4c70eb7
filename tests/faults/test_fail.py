"""P7: every operation fails once: an I/O error, a full disk, a write that stops half-way."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import complaint
from harness import Server
from launcher import NEEDS_ROOM
from recording import Proof
from scenes import Scene
from test_kill import chosen

FAIL = "an operation of ingest, train and score fails (EIO, full disk, short write)"
FAULTS = ("EIO", "ENOSPC", "short")
STORAGE = (73, 74)
TIDYING = ("unlink", "rmdir", "ftruncate")


def faults_at(operation: str) -> tuple[str, ...]:
    """Return what can go wrong at an operation."""
    name = operation.split()[0]
    return tuple(
        fault
        for fault in FAULTS
        if fault == "EIO" or (name == "write" if fault == "short" else name in NEEDS_ROOM)
    )


def problems_of_failing(
    scene: Scene, server: Server, folder: Path, number: int, fault: str
) -> list[str]:
    """Let one operation fail, go on, and return what was not as it must be."""
    failed = scene.run(server, scene.copy(folder), plan={"at": number, "do": fault})
    problems = scene.problems_now(folder)
    if failed["code"]:  # what is only tidied up may fail in silence; the next run tidies again
        line = complaint(failed["code"], 74 if fault != "EIO" else failed["code"], failed["err"])
        if failed["code"] not in STORAGE or "Errno" in line:
            problems.append(line)
    elif scene.operations[number].split()[0] not in TIDYING:
        problems.append("the failure went unnoticed")
    done = scene.go_on(server, folder)
    if done["code"]:
        return [*problems, done["err"]]
    problems += scene.problems_in_the_end(folder)
    return [f"{scene.name} {number} ({scene.operations[number]}) {fault}: {p}" for p in problems]


@pytest.mark.slow
@pytest.mark.parametrize("prior", [True], ids=["after another"])
def test_every_operation_fails_once(
    scene: Scene, server: Server, disturbed: Path, proof: Proof
) -> None:
    problems, numbers = [], chosen(scene)
    for number in numbers:
        faults = faults_at(scene.operations[number])
        fault = faults[number % len(faults)]  # long.py tries all of them
        problems += problems_of_failing(scene, server, disturbed, number, fault)
    assert problems == []
    proof("P7", FAIL, len(numbers))


@pytest.mark.parametrize("prior", [False], ids=["first"])
def test_writes_that_take_half_at_a_time_change_nothing(
    scene: Scene, server: Server, disturbed: Path, proof: Proof
) -> None:
    done = scene.run(server, scene.copy(disturbed), plan={"do": "stutter"})
    assert done["code"] == 0, done["err"]
    assert len(done["operations"]) > 1.2 * len(scene.operations)
    assert scene.problems_in_the_end(disturbed) == []
    writes = sum(operation.startswith("write") for operation in done["operations"])
    proof("P7", "writes that take half of their bytes", writes)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that is too small."""
    folder = tmp_path / "small"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip("this process may not mount a tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("name", ["score"])
@pytest.mark.parametrize("prior", [True], ids=["after another"])
def test_real_full_disk_of_every_size(
    scene: Scene, server: Server, small_disk: Path, proof: Proof
) -> None:
    """A real tmpfs, full at first, grows by a page at a time until the run fits. Nothing is wrapped
    here; Arrow writes by itself."""
    folder = small_disk / "scene"
    scene.copy(folder)
    disk, codes = os.statvfs(small_disk), []
    used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
    for size in range(used, 2**20, disk.f_frsize):
        resize = ["mount", "-o", f"remount,size={size}", str(small_disk)]
        subprocess.run(resize, check=True)
        done = scene.run(server, folder)
        codes.append(done["code"])
        assert scene.problems_now(folder) == []
        if not done["code"]:
            break
        assert "no space left" in complaint(done["code"], 74, done["err"])
    assert codes == [74] * (len(codes) - 1) + [0]
    assert len(codes) > 5
    assert scene.problems_in_the_end(folder) == []
    proof("P7", "sizes of a real tmpfs that is too small", len(codes))
