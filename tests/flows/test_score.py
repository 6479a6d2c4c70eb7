"""The score command: exit codes, one readable line per mistake, and no name where none belongs."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import CANARY, Command, complaint
from flat import read_manifest, score
from nasty import BUDGETS
from recording import Proof

from charrnn.model.version import set_alias
from charrnn.runs.verify import verify_run

pytestmark = pytest.mark.usefixtures("users_folder")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def people(tmp_path: Path) -> Path:
    path = tmp_path / "people.csv"
    path.write_text(f"id,name\n1,{CANARY}\n2,\n3,Burghof\n")
    return path


V1 = ("--model", "v0001", "--workers", "1")


# --- what goes right ----------------------------------------------------------------------------


def test_summary_counts_rows_and_names_the_result(command: Command, people: Path) -> None:
    code, out, error = command(people, *V1)
    assert code == 0
    assert "3: 2 scored, 0 abstained, 1 unscored (null_name 1)" in out
    latest = Path("outputs/predictions/people/latest")
    assert f"result      outputs/predictions/people/{latest.readlink()}" in out
    assert [line for line in error.splitlines() if not line.startswith("note: ")] == []
    assert verify_run(latest).rows == 3


def test_nothing_that_is_printed_holds_a_name(command: Command, people: Path) -> None:
    for arguments in ((), ("--force",), ("-o", "out.csv"), ("--probabilities",)):
        _, out, error = command(people, *V1, *arguments)
        assert CANARY not in out + error


def test_head_prints_the_first_rows_with_their_names(command: Command, people: Path) -> None:
    code, out, _ = command(people, *V1, "--head", "2")
    assert code == 0
    assert CANARY in out
    assert "Burghof" not in out
    assert "null_name" in out


@pytest.mark.parametrize("content", ["name\nKatoro\n", "name,a,b,c,d\nKatoro,1,2,3,4\n"])
@pytest.mark.parametrize("prefix", ["", "x_"])
def test_head_works_for_any_number_of_columns(
    command: Command, people: Path, content: str, prefix: str
) -> None:
    people.write_text(content)
    code, out, error = command(people, *V1, "--head", "5", "--prefix", prefix)
    assert code == 0, error
    assert "Katoro" in out


def test_head_of_an_empty_table_is_empty(command: Command, people: Path) -> None:
    people.write_text("id,name\n")
    assert command(people, *V1, "--head", "5")[0] == 0


def test_head_works_where_the_folder_looks_like_a_glob(command: Command, people: Path) -> None:
    code, out, error = command(people, *V1, "--head", "5", "-o", "scored[1]")
    assert code == 0, error
    assert CANARY in out


def test_second_time_there_is_nothing_to_do(command: Command, people: Path) -> None:
    command(people, *V1)
    code, out, _ = command(people, *V1)
    assert code == 0
    assert "nothing to do" in out
    assert "3: 2 scored" in out


def test_output_may_be_a_folder_or_a_file(command: Command, people: Path) -> None:
    assert command(people, *V1, "-o", "scored")[0] == 0
    assert verify_run(Path("scored/latest")).rows == 3
    code, out, _ = command(people, *V1, "-o", "deep/scored.parquet")
    assert code == 0
    assert "exported 3 rows to deep/scored.parquet" in out
    assert pq.read_table("deep/scored.parquet").num_rows == 3


def test_every_option_reaches_the_run(command: Command, people: Path) -> None:
    people.write_text(f"id,surname\n1,{CANARY}\n")
    code, _, error = command(
        people, *V1, "--name-column", "surname", "--top-k", "2", "--probabilities", "--prefix",
        "p_", "--min-confidence", "0.25", "--batch-size", "auto", "--partition-rows", "7",
        "--device", "cpu", "--models", "outputs/models",
    )  # fmt: skip
    assert code == 0, error
    manifest = read_manifest(Path("outputs/predictions/people/latest"))
    expected = {"name_column": "surname", "top_k": 2, "probabilities": True, "prefix": "p_",
                "min_confidence": 0.25, "partition_rows": 7}  # fmt: skip
    assert {key: manifest["options"][key] for key in expected} == expected
    assert manifest["device"] == "cpu"


def test_alias_is_a_model(command: Command, people: Path) -> None:
    set_alias(Path("outputs/models"), "champion", "v0001")
    assert command(people, "--model", "champion")[0] == 0


def test_multiline_cells_are_accepted_where_they_are_asked_for(
    command: Command, people: Path
) -> None:
    people.write_text(f'id,name\n1,"{CANARY}\nB"\n2,Burghof\n')
    code, _, error = command(people, *V1)
    assert "accept such cells" in complaint(code, 65, error)
    assert command(people, *V1, "--multiline")[0] == 0
    frame = pl.read_parquet("outputs/predictions/people/latest/rows")
    assert frame["name"].to_list() == [f"{CANARY}\nB", "Burghof"]


@pytest.mark.parametrize("source", ["in", "in/*.csv", "in/"])
def test_folder_and_glob_are_inputs(command: Command, source: str) -> None:
    Path("in").mkdir()
    for number in range(3):
        Path(f"in/{number}.csv").write_text(f"id,name\n{number},Katoro\n")
    assert command(source, *V1)[0] == 0
    frame = pl.read_parquet("outputs/predictions/in/latest/rows")
    assert frame["id"].to_list() == ["0", "1", "2"]


# --- what goes wrong ----------------------------------------------------------------------------


def test_missing_input_exits_66_and_leaves_nothing(command: Command, people: Path) -> None:
    code, _, error = command("poeple.csv", *V1)
    assert "did you mean 'people.csv'" in complaint(code, 66, error)
    assert not Path("outputs/predictions").exists()


def test_missing_column_exits_65_with_the_nearest(command: Command, people: Path) -> None:
    people.write_text(f"id,Name\n1,{CANARY}\n")
    code, _, error = command(people, *V1)
    line = complaint(code, 65, error)
    assert "columns: id, Name; did you mean 'Name'?" in line


def test_column_that_is_not_text_exits_65(command: Command, tmp_path: Path) -> None:
    pq.write_table(pa.table({"name": [1, 2]}), tmp_path / "people.parquet")
    code, _, error = command("people.parquet", *V1)
    assert "column 'name' is int64, expected text" in complaint(code, 65, error)


@pytest.mark.parametrize("name", ["people.csv", "people.parquet", "people.csv.gz"])
def test_empty_file_exits_65(command: Command, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    code, _, error = command(name, *V1)
    assert "is empty" in complaint(code, 65, error)


@pytest.mark.parametrize(
    "content",
    [
        f"id,name\n1,{CANARY},x\n",
        f'id,name\n1,"{CANARY}\n2,{CANARY}\n',
        f"id,id,name\n1,1,{CANARY}\n",
        f"id,name,status\n1,{CANARY},x\n",
        f"id,name\n1,{CANARY}\0\n",
        f"id,name\r1,{CANARY}\r",
    ],
    ids=["ragged", "quote", "repeated column", "clash", "nul", "cr"],
)
def test_broken_table_exits_65_without_a_cell_in_the_message(
    command: Command, people: Path, content: str
) -> None:
    people.write_text(content, newline="")
    code, out, error = command(people, *V1)
    complaint(code, 65, error)
    assert CANARY not in out
    assert not Path("outputs/predictions/people/latest").exists()


def test_other_encoding_exits_65_with_the_command_that_converts(
    command: Command, people: Path
) -> None:
    people.write_bytes(f"id,name\n1,{CANARY}é\n".encode("latin-1"))
    code, _, error = command(people, *V1)
    assert "iconv" in complaint(code, 65, error)


def test_file_of_another_kind_exits_65(command: Command) -> None:
    Path("people.xlsx").write_bytes(b"x")
    code, _, error = command("people.xlsx", *V1)
    assert ".parquet, .pq, .csv" in complaint(code, 65, error)


def test_unknown_model_exits_78_with_those_that_exist(command: Command, people: Path) -> None:
    code, _, error = command(people, "--model", "v00001")
    line = complaint(code, 78, error)
    assert "did you mean 'v0001'" in line
    assert "pretrained" in line


def test_damaged_model_exits_78(command: Command, people: Path) -> None:
    path = Path("outputs/models/v0001/weights.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    code, _, error = command(people, *V1)
    assert "weights.safetensors has changed" in complaint(code, 78, error)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--device", "gpu"),
        ("--device", "cuda:77"),
        ("--top-k", "0"),
        ("--min-confidence", "7"),
        ("--min-confidence", "nan"),
        ("--batch-size", "0"),
        ("--partition-rows", "0"),
        ("--workers", "-1"),
    ],
    ids=" ".join,
)
def test_option_that_makes_no_sense_exits_64(
    command: Command, people: Path, arguments: tuple[str, ...]
) -> None:
    code, _, error = command(people, "--model", "v0001", *arguments)
    complaint(code, 64, error)


def test_address_exits_64(command: Command) -> None:
    code, _, error = command("https://example.org/people.csv", *V1)
    assert "give a local path" in complaint(code, 64, error)


@pytest.mark.parametrize(
    "arguments",
    [("--no-such-flag",), ("--top-k", "many"), ("--batch-size", "x"), ("a.csv", "b.csv"), ()],
)
def test_wrong_command_line_exits_2(command: Command, arguments: tuple[str, ...]) -> None:
    code, _, error = command(*arguments)
    assert complaint(code, 2, error).endswith(" (see --help)")


@pytest.mark.parametrize(
    ("content", "arguments", "expected"),
    [
        ("id,nom\n1,Katoro\n", V1, 65),  # no such column, found when it has been staged
        ("name\nKatoro\n", (*V1, "--top-k", "0"), 64),
        ("name\nKatoro\n", (*V1, "--prior", "none.csv"), 66),
        ("name\nKatoro\n", ("--model", "v0009"), 78),
        ("", V1, 65),
        ('name\n"Katoro\n', V1, 65),
    ],
)
def test_what_is_refused_leaves_no_folder(
    command: Command, tmp_path: Path, content: str, arguments: tuple[str, ...], expected: int
) -> None:
    (tmp_path / "people.csv").write_text(content)
    code, _, error = command("people.csv", *arguments)
    complaint(code, expected, error)
    assert list(Path("outputs/predictions").glob("*")) == []


def test_what_is_refused_leaves_earlier_runs_and_finished_parts(
    command: Command, people: Path, tmp_path: Path
) -> None:
    assert command(people, *V1)[0] == 0
    destination = Path("outputs/predictions/people")
    finished = destination / ".staging-0123456789abcdef"
    finished.mkdir()
    (finished / "part-00000.json").write_text("{}")
    before = sorted(destination.iterdir())
    code, _, error = command(people, *V1, "--top-k", "0")
    complaint(code, 64, error)
    assert sorted(destination.iterdir()) == before


@pytest.mark.parametrize("output", ["taken", "taken/deeper", "taken/out.parquet", "folder.csv"])
def test_destination_that_cannot_be_made_exits_73(
    command: Command, people: Path, output: str
) -> None:
    Path("taken").write_text("a file")
    Path("folder.csv").mkdir()
    code, _, error = command(people, *V1, "-o", output)
    complaint(code, 73, error)
    assert Path("taken").read_text() == "a file"


def test_changed_input_columns_exit_65_naming_both_files(command: Command) -> None:
    Path("in").mkdir()
    Path("in/a.csv").write_text(f"id,name\n1,{CANARY}\n")
    Path("in/b.csv").write_text(f"name\n{CANARY}\n")
    code, _, error = command("in", *V1)
    line = complaint(code, 65, error)
    assert "in/a.csv" in line
    assert "in/b.csv" in line


@pytest.mark.parametrize("output", ["people.csv", "../{here}/people.csv"])
def test_output_that_is_the_input_is_refused_and_the_input_kept(
    command: Command, people: Path, tmp_path: Path, output: str
) -> None:
    content = people.read_bytes()
    code, _, error = command(people, *V1, "-o", output.format(here=tmp_path.name))
    assert people.read_bytes() == content, "the input was overwritten"
    assert code in (64, 73), error


@pytest.mark.parametrize("output", ["", "scored"])
def test_earlier_output_inside_the_input_folder_is_no_input(
    command: Command, people: Path, output: str
) -> None:
    for _ in range(2):
        code, out, error = command(".", *V1, *(("-o", output) if output else ()))
        assert code == 0, error
    assert "nothing to do" in out
    assert "3: 2 scored" in out


def test_rejected_lines_are_counted_and_listed_without_their_text(
    command: Command, proof: Proof
) -> None:
    Path("p.csv").write_bytes(b"id,name\n1,Katoro\n2\n3,Kat\xff\n4,Zanzibarova,5\n5,Burgmann\n")
    code, _, error = command("p.csv", *V1)
    assert "reject bad lines" in complaint(code, 65, error)
    code, out, error = command("p.csv", *V1, "--on-bad-line", "reject", "--max-rejected", "2")
    assert "3 of 5 rows are bad" in complaint(code, 65, error)
    (report,) = Path("outputs/predictions/p").glob("[!.]*")
    assert f"; {report} lists all of them" in error
    assert pl.read_parquet(report)["line"].to_list() == [3, 4, 5]
    assert pl.read_parquet(report).columns == ["input", "file", "line", "record", "reason"]
    code, out, error = command("p.csv", *V1, "--on-bad-line", "reject", "--max-rejected", "60%")
    assert code == 0, error
    assert "rejected    3 more (ragged_row 2, invalid_utf8 1), see rejects.parquet" in out
    run = Path("outputs/predictions/p/latest")
    assert verify_run(run).rejected == {"ragged_row": 2, "invalid_utf8": 1}
    assert pl.read_parquet(run / "rows")["id"].to_list() == ["1", "5"]
    rejects = pl.read_parquet(run / "rejects.parquet")
    assert rejects["line"].to_list() == [3, 4, 5]
    assert rejects["reason"].to_list() == ["ragged_row", "invalid_utf8", "ragged_row"]
    proof("P8", BUDGETS, 3)


# --- verify, help, the other commands -----------------------------------------------------------


def test_verify_proves_a_run(command: Command, people: Path) -> None:
    command(people, *V1)
    code, out, _ = command("verify", "outputs/predictions/people/latest")
    assert code == 0
    assert out == "outputs/predictions/people/latest is whole: 3 rows in 1 parts\n"


def test_verify_of_a_damaged_run_exits_65(command: Command, people: Path) -> None:
    command(people, *V1)
    (Path("outputs/predictions/people/latest") / "report.html").write_text("x")
    code, _, error = command("verify", "outputs/predictions/people/latest")
    assert "report.html has changed" in complaint(code, 65, error)


@pytest.mark.parametrize("where", ["nowhere", ".", "people.csv"])
def test_verify_of_what_is_no_run_exits_66(command: Command, people: Path, where: str) -> None:
    code, _, error = command("verify", where)
    assert "is not a run" in complaint(code, 66, error)


def test_verify_without_a_run_exits_2(command: Command) -> None:
    assert command("verify")[0] == 2


@pytest.mark.parametrize("name", ["ingest", "train", "score", "pipeline"])
def test_help_has_examples_and_exit_codes(name: str, tmp_path: Path) -> None:
    """As a person runs it; without torch being imported, or it would take seconds."""
    script = ROOT / "flows" / f"{name}.py"
    program = (
        "import runpy, sys\n"
        "try:\n"
        "    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "finally:\n"
        "    assert not {'torch', 'polars', 'prefect'} & set(sys.modules)\n"
    )
    program = f"import sys; sys.argv = [{str(script)!r}, '--help']\n" + program
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, check=False, cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert f"examples:\n  python flows/{name}.py" in done.stdout
    assert "exit codes: 0 done, 2 wrong command line" in done.stdout
    assert "130 Ctrl-C" in done.stdout


def test_help_of_verify_has_an_example(command: Command) -> None:
    code, out, _ = command("verify", "--help")
    assert code == 0
    assert "score.py verify outputs/predictions/people/latest" in out


# --- signals ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many_names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough different names in enough row groups that a run takes a few seconds."""
    draw = random.Random(1)
    letters = "abcdefghijklmnopqrstuvwxyz"
    names = ["".join(draw.choices(letters, k=draw.randint(3, 12))) for _ in range(12_000)]
    path = tmp_path_factory.mktemp("many") / "many.parquet"
    pq.write_table(pa.table({"id": range(12_000), "name": names}), path, row_group_size=500)
    return path


@pytest.fixture(scope="module")
def undisturbed(
    many_names: Path, models: Path, tmp_path_factory: pytest.TempPathFactory
) -> pl.DataFrame:
    """What a run over the same names gives that nobody stops."""
    folder = tmp_path_factory.mktemp("undisturbed")
    published = score(str(many_names), model="v0001", models=models,
                      output=str(folder), partition_rows=500, device="cpu")  # fmt: skip
    return pl.read_parquet(Path(published) / "rows")


def started(source: Path, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(ROOT / "flows/score.py"), str(source), "--model", "v0001",
         "--workers", "1", "--partition-rows", "500", "--device", "cpu"],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={"PYTHONPATH": str(ROOT), "HOME": str(folder), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("number", "expected", "word"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "terminated"),
        pytest.param(signal.SIGKILL, -9, "", marks=pytest.mark.slow),  # as in faults/test_resume
    ],
    ids=["ctrl-c", "sigterm", "sigkill"],
)
def test_stopped_run_is_invisible_and_goes_on_where_it_stopped(
    command: Command,
    many_names: Path,
    undisturbed: pl.DataFrame,
    tmp_path: Path,
    number: int,
    expected: int,
    word: str,
    proof: Proof,
) -> None:
    destination = tmp_path / "outputs/predictions/many"
    process = started(many_names, tmp_path)
    try:
        while not list(destination.glob(".staging-*/part-00002.json")):
            assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.01)  # the part itself is the signal; nothing depends on how long it takes
        process.send_signal(number)
        out, error = process.communicate(timeout=120)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == expected, error
    assert out == ""
    assert "Traceback" not in error
    assert word in error
    assert not word or "run the same command again to go on" in error
    assert [p.name for p in destination.iterdir() if not p.name.startswith(".")] == []

    finished = {p.name[:10]: (p.parent / f"rows/{p.stem}.parquet").stat().st_ino
                for p in destination.glob(".staging-*/part-*.json")}  # fmt: skip
    assert 3 <= len(finished) < 24
    options = ("--model", "v0001", "--workers", "2", "--partition-rows", "500")
    assert command(many_names, *options)[0] == 0
    latest = destination / "latest"
    assert verify_run(latest).rows == 12_000
    for part, inode in finished.items():
        again = (latest / f"rows/{part}.parquet").stat().st_ino
        assert again == inode, "finished work was done again"
    assert pl.read_parquet(latest / "rows").equals(undisturbed)
    assert not list(destination.glob(".staging-*"))
    proof(
        "P1, P2",
        "SIGTERM, Ctrl-C or SIGKILL to a process that scores; the rerun keeps its parts",
        1,
    )
