"""The engine as a library: tables and Polars expressions."""

import subprocess
import sys
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from charrnn.errors import ConfigError, DataError
from charrnn.model.version import ModelVersion
from charrnn.scoring.scorer import Scorer

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def scorer(tiny_version: ModelVersion) -> Scorer:
    return Scorer(tiny_version)


def test_arrow_table_comes_back_with_its_columns_and_ours(
    scorer: Scorer, names_table: pa.Table
) -> None:
    found = scorer.score_table(names_table)
    assert found.select(names_table.column_names).equals(names_table)
    assert found.column_names[-2:] == ["status", "reason"]
    assert found.num_rows == names_table.num_rows


def test_polars_frame_comes_back_as_a_frame_with_the_same_answers(
    scorer: Scorer, names_table: pa.Table
) -> None:
    frame = pl.from_arrow(names_table)
    assert isinstance(frame, pl.DataFrame)
    found = scorer.score_table(frame, details=True)
    assert found.select(frame.columns).equals(frame)
    expected = pl.from_arrow(scorer.score_table(names_table, details=True))
    assert isinstance(expected, pl.DataFrame)
    text = [pl.col("language").cast(pl.String), "confidence", "ambiguous", "unfamiliarity"]
    assert found.select(text).equals(expected.select(text))


def test_table_errors_name_the_column(scorer: Scorer) -> None:
    frame = pl.DataFrame({"surname": ["Katoro"], "language": ["x"]})
    with pytest.raises(DataError, match=r"'name' not found.*did you mean 'surname'"):
        scorer.score_table(frame)
    with pytest.raises(DataError, match="already has column 'language'"):
        scorer.score_table(frame, name_column="surname")
    found = scorer.score_table(frame, name_column="surname", prefix="our_")
    assert found["language"].to_list() == ["x"]
    assert found["our_status"].to_list() == ["scored"]


def test_expression_gives_the_same_answers_eager_lazy_and_streaming(scorer: Scorer) -> None:
    names = ["Katoro", "Burgmann", None, "", "Aroevnko"] * 50
    frame = pl.DataFrame({"id": range(250), "surname": names})
    expression = scorer.expression("surname", top_k=1).alias("origin")
    expected = scorer.score(names, top_k=1)
    eager = frame.with_columns(expression).unnest("origin")
    lazy = frame.lazy().with_columns(expression).unnest("origin")
    for found in (eager, lazy.collect(), lazy.collect(engine="streaming")):
        assert found["id"].to_list() == list(range(250))
        assert found["confidence"].to_list() == pytest.approx(expected["confidence"].to_list())
        labels = found["language"].cast(pl.String).to_list()
        assert labels == expected["language"].cast(pl.String).to_list()


def test_expression_refuses_an_estimated_prior(scorer: Scorer) -> None:
    with pytest.raises(ConfigError, match="whole table"):
        scorer.expression("name", prior="estimate")


def test_expression_refuses_a_column_that_is_not_text(scorer: Scorer) -> None:
    with pytest.raises((DataError, pl.exceptions.ComputeError), match="expected text"):
        pl.DataFrame({"name": [1, 2]}).with_columns(scorer.expression())


def test_scoring_does_not_import_what_torch_compiles_with() -> None:
    """It takes a second and more of each start."""
    code = (
        "import sys; from charrnn import Scorer\n"
        "Scorer.load('pretrained').score(['Katoro', 'Müller'], details=True)\n"
        "assert 'torch' in sys.modules and 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


_ELSEWHERE = """
import os, pathlib, sys
sys.modules["fcntl"] = None
for flag in ("PATH", "DIRECTORY", "NOFOLLOW", "NONBLOCK", "NOCTTY", "CLOEXEC"):
    delattr(os, f"O_{flag}")
del os.geteuid, os.sched_getaffinity
from charrnn import Scorer, cli
from charrnn.errors import OutputError
from charrnn.recipes.requests import ScoreRequest
from charrnn.recipes.score import score
assert Scorer.load("pretrained-tiny").score(["Katoro"])["status"].to_list() == ["scored"]
pathlib.Path("people.csv").write_text("name\\nKatoro\\n")
try:
    score(ScoreRequest(source="people.csv"), cli.console_runner())
except OutputError as error:
    print(error)
"""


def test_where_there_is_no_flock_the_library_scores_and_a_run_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _ELSEWHERE], capture_output=True, text=True, check=True,
        cwd=tmp_path, env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout == (
        "cannot write outputs/predictions/people: runs and models are written on Linux only; use "
        "WSL or a container, or score in Python (charrnn.Scorer)\n"
    )
