"""P1: everything goes through files.py, and in an order that a power cut cannot upset."""

import ast
from pathlib import Path

import pytest
from harness import ROOT
from recording import Proof
from scenes import Scene

CHANGES = {"chmod", "copyfile", "copytree", "fsync", "ftruncate", "hardlink_to", "link", "mkdir",
           "mkdtemp", "move", "remove", "rename", "rmdir", "rmtree", "symlink", "symlink_to",
           "touch", "truncate", "unlink", "write_bytes", "write_text"}  # fmt: skip
WRITERS = {"CSVWriter", "ParquetWriter", "write_csv", "write_parquet", "write_table"}


def bypasses(source: str) -> list[int]:
    """Return the lines that change a disk by themselves, or let a library write to another path
    than the temporary one they were given."""
    lines = []
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        on_object = isinstance(call.func, ast.Attribute)
        name = call.func.attr if on_object else getattr(call.func, "id", "")
        texts = [a.value for a in call.args if isinstance(a, ast.Constant)]
        opens = name == "open" and any(set(str(t)) & set("wax+") and len(str(t)) < 4 for t in texts)
        renames = on_object and name == "replace" and len(call.args) == 1 and not call.keywords
        targets = {a.id for a in call.args[:2] if isinstance(a, ast.Name)}
        # ``sink`` is in memory.
        elsewhere = on_object and name in WRITERS and not targets & {"temporary", "sink", "stream"}
        if (on_object and name in CHANGES) or opens or renames or elsewhere:
            lines.append(call.lineno)
    return lines


@pytest.mark.parametrize("path", sorted(ROOT.glob("charrnn/**/*.py")), ids=lambda path: path.name)
def test_no_module_writes_by_itself(path: Path) -> None:
    # Writing a record batch to a writer that was made for a temporary file is no new file.
    lines = path.read_text().splitlines()
    found = [lines[n - 1].strip() for n in bypasses(path.read_text())]
    if path.name != "files.py":
        assert [line for line in found if "writer.write_table(" not in line] == []


SHARED = ("runs", "monitoring", "reports", "recipes", "integrations", "model/version.py",
          "training/state.py", "training/archive.py")  # fmt: skip


@pytest.mark.parametrize("place", SHARED)
def test_what_lies_in_a_shared_folder_is_read_through_the_seam(place: str) -> None:
    """Which refuses links and FIFOs; ``open_file`` and ``read_file``."""
    path = ROOT / "charrnn" / place
    found = []
    for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
        for call in (n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Call)):
            name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
            plain = isinstance(call.func, ast.Name) and call.func.id == "open"
            opened = name == "open" and not call.args
            if plain or opened or name in ("read_bytes", "read_text"):
                found.append(f"{file.name}:{call.lineno}")
    assert found == []


@pytest.mark.parametrize(
    "line",
    ["path.unlink()", "path.write_bytes(b'')", "os.rename(a, b)", "a.replace(b)",
     "open(path, 'wb')", "path.open('a')", "pq.write_table(table, path)", "frame.write_csv(path)",
     "shutil.rmtree(path)"],
)  # fmt: skip
def test_a_line_that_does_is_found(line: str) -> None:
    assert bypasses(line) == [1]


def test_everything_a_command_does_goes_through_the_seam(scene: Scene, proof: Proof) -> None:
    assert [o for o in scene.operations if o.startswith("BYPASS")] == []
    assert {o.split()[0] for o in scene.operations} >= {"open", "write", "fsync", "replace"}
    proof("P1", "operations: none outside the one seam", len(scene.operations))


def test_nothing_visible_depends_on_what_a_power_cut_can_lose(scene: Scene, proof: Proof) -> None:
    """A file's bytes are lost until it is fsynced, its name until its folder is; until then, what
    was removed may come back. When a name becomes visible, all below it must be safe; in the end,
    all that is there."""
    lost: dict[str, str] = {}  # path → what a power cut would take
    problems = []
    for operation in scene.operations:
        name, subject = operation.split(" ", 1)
        source, _, path = subject.rpartition(" > ")
        if name == "fsync":
            lost.pop(f"bytes {path}", None)
            lost = {
                k: p
                for k, p in lost.items()
                if k.startswith("bytes ") or str(Path(p).parent) != path
            }
        elif name in ("write", "truncate"):
            lost[f"bytes {path}"] = path
        elif name in ("open", "mkdir", "symlink"):
            lost.pop(f"removal of {path}", None)
            lost[f"name {path}"] = path
        elif name in ("unlink", "rmdir", "remove"):
            lost = {k: p for k, p in lost.items() if p != path}
            lost[f"removal of {path}"] = path
        elif name in ("rename", "replace"):
            under = {k: p for k, p in lost.items() if p == source or p.startswith(source + "/")}
            problems += [
                f"{k} is not safe before {operation}" for k in under if k != f"name {source}"
            ]
            lost = {k: p for k, p in lost.items() if k not in under}
            lost[f"name {path}"] = path
    # Locks hold nothing; an old name may come back from the dead, but no half of anything.
    problems += [
        f"{k} is not safe in the end"
        for k, p in lost.items()
        if not p.endswith("lock") and not k.startswith("removal")
    ]
    assert problems == []
    proof(
        "P1",
        "operations: fsync before and after each rename",
        len(scene.operations),
    )
