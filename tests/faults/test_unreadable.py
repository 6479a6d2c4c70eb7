"""P9: what this user may not read is named, neither passed over nor a reason to stop the rest; run
by another user."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import complaint
from harness import ROOT, Server, scratch
from recording import Proof

from charrnn.runs.verify import verify_run

OTHER = 65534
TINY = ("--model", "pretrained-tiny", "--workers", "1", "--device", "cpu")
PEOPLE = "id,name\n1,Katoro\n2,Burgmann\n"
WHAT = "files and folders that may not be read: named, the others read"


def may_run() -> bool:
    """Whether another user can run this program."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        return False
    reads = ["setpriv", f"--reuid={OTHER}", f"--regid={OTHER}", "--clear-groups", "ls", "-R"]
    return not subprocess.run([*reads, ROOT / "charrnn/model"], capture_output=True).returncode


pytestmark = pytest.mark.skipif(not may_run(), reason="no other user can run this program")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of the other user."""
    with scratch() as space:
        os.chown(space, OTHER, OTHER)
        yield space


def run(server: Server, folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Run the command as the other user."""
    done = server.run(folder, *arguments, user=OTHER)
    return done["code"], done["out"], done["err"]


def closed(path: Path, *, folder: bool) -> None:
    """Make a file, or a folder with a file in it, that only we can read."""
    if folder:
        path.mkdir()
        (path / "b.csv").write_text(PEOPLE)
    else:
        path.write_text(PEOPLE)
    path.chmod(0o700 if folder else 0o600)


@pytest.mark.parametrize("is_folder", [True, False], ids=["subfolder", "file"])
def test_an_unreadable_part_of_an_input_is_refused_by_name(
    is_folder: bool, folder: Path, server: Server, proof: Proof
) -> None:
    (folder / "data").mkdir()
    (folder / "data/a.csv").write_text(PEOPLE)
    closed(folder / "data/closed", folder=True) if is_folder else closed(
        folder / "data/closed.csv", folder=False
    )
    code, _, error = run(server, folder, "score", "data", *TINY)
    assert code in (65, 66, 74)
    line = complaint(code, code, error)
    assert "closed" in line
    assert "permission" in line.lower() or "read" in line
    assert not list(folder.glob("outputs/predictions/*/runs/*"))
    proof("P9", WHAT, 1)


def test_an_unreadable_folder_is_not_called_empty(
    folder: Path, server: Server, proof: Proof
) -> None:
    closed(folder / "data", folder=True)
    code, _, error = run(server, folder, "score", "data", *TINY)
    line = complaint(code, code, error)
    assert code in (65, 66, 74)
    assert "no file" not in line
    assert "permission" in line.lower() or "cannot be read" in line
    proof("P9", WHAT, 1)


def test_an_unreadable_file_of_an_inbox_does_not_stop_the_others(
    folder: Path, server: Server, proof: Proof
) -> None:
    (folder / "inbox").mkdir()
    closed(folder / "inbox/a.csv", folder=False)
    (folder / "inbox/b.csv").write_text(PEOPLE)
    code, out, error = run(
        server, folder, "inbox", "--folder", "inbox", "--settle-seconds", "0", *TINY
    )
    assert code == 65, error
    assert "a.csv" in complaint(code, 65, error)
    (published,) = (folder / "outputs/predictions/b/runs").iterdir()
    assert verify_run(published).rows == 2
    assert "scored" in out
    proof("P9", WHAT, 1)
