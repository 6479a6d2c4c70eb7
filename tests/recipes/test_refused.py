"""P1: what is refused leaves no folder behind, whatever was to be made."""

from pathlib import Path

import pytest
from cases.trial import inside, run_command
from recording import Proof

TINY = ("--model", "pretrained-tiny", "--device", "cpu")
NO_NAMES = "id,number\n1,2\n"
REFUSED = [
    ("score", "in.csv", *TINY),
    ("score", "nope.csv", *TINY),
    ("score", "in.csv", "--model", "v0009"),
    ("score", "in.csv", *TINY, "-o", "a/b/out.csv"),
    ("score", "in.csv", *TINY, "-o", "a/b/"),
    ("score", "in.csv", *TINY, "--delta", "a/b"),
    ("challenge", "in.csv", *TINY, "--challenger", "pretrained"),
    ("inbox", "--folder", "box", *TINY, "--settle-seconds", "0"),
    ("ingest", "box", "--target", "a/b/names.parquet"),
    ("train", "--data", "in.csv", "--models", "a/b"),
    ("evaluate", "pretrained-tiny", "--on", "in.csv"),
    ("promote", "v0001"),
    ("rollback",),
    ("monitor",),
    ("purge", "--older-than", "1"),
]


@pytest.mark.parametrize("argv", REFUSED, ids=" ".join)
def test_a_refused_command_leaves_no_folder_behind(
    argv: tuple[str, ...], tmp_path: Path, proof: Proof
) -> None:
    for place in ("home", "box"):
        (tmp_path / place).mkdir()
    for place in ("in.csv", "box/a.csv"):
        (tmp_path / place).write_text(NO_NAMES)
    before = set(tmp_path.rglob("*"))
    with inside(tmp_path):
        code, _, error = run_command(*argv)
    assert code in (65, 66, 78), error
    assert set(tmp_path.rglob("*")) == before
    proof("P1", "first commands that are refused: no folder is left", 1)


def test_folders_with_anything_else_in_them_stay(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "in.csv").write_text(NO_NAMES)
    (tmp_path / "outputs/predictions").mkdir(parents=True)
    (tmp_path / "outputs/predictions/notes.txt").write_text("mine")
    with inside(tmp_path):
        assert run_command("score", "in.csv", *TINY)[0] == 65
    assert [p.name for p in (tmp_path / "outputs/predictions").iterdir()] == ["notes.txt"]
