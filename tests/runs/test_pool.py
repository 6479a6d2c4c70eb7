"""Names that come in several partitions are scored once, and every row has the answer of before."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from flat import key_of

from charrnn.model.version import resolve
from charrnn.runs import pool as pool_module
from charrnn.runs.execute import score_partitions
from charrnn.runs.parts import part_path, read_part
from charrnn.runs.plan import RunPlan, plan_run
from charrnn.runs.pool import name_pool
from charrnn.scoring.options import ComputeOptions, ScoreOptions
from charrnn.scoring.pool import NamePool, slots_of
from charrnn.scoring.scorer import Scorer, fitted_options

ONE, TWO = ComputeOptions(workers=1), ComputeOptions(workers=2)
ROWS = 400  # of a partition


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer(resolve("pretrained-tiny", None))


def plan_of(names: list[str | None], options: ScoreOptions, scorer: Scorer, root: Path) -> RunPlan:
    path = root / "people.parquet"
    pq.write_table(pa.table({"name": pa.array(names, pa.string())}), path, row_group_size=ROWS)
    return plan_run(key_of(path, scorer.version, options, ROWS), root / "runs", [])


def repeated_names(count: int) -> list[str | None]:
    draw = np.random.default_rng(0)
    stems = ["Valo", "Miro Tasku", "Okarin", "Ünder", "", "12", "x" * 70, "x" * 300, None]
    return [
        None if (stem := stems[draw.integers(9)]) is None else f"{stem}{'aeiou'[draw.integers(5)]}"
        for _ in range(count)
    ]


@pytest.mark.parametrize(
    "options",
    [
        ScoreOptions(),
        ScoreOptions(probabilities=True, coverage_target=0.9, families=True, details=True),
        ScoreOptions(prior="uniform", min_confidence=0.5),
    ],
    ids=["default", "every column", "prior"],
)
def test_rows_have_the_same_answers_with_a_pool_and_the_same_bytes_however_they_are_made(
    options: ScoreOptions, scorer: Scorer, tmp_path: Path
) -> None:
    options = fitted_options(options, scorer.version)
    plan = plan_of(repeated_names(6 * ROWS), options, scorer, tmp_path)
    settled, _ = scorer.settle_prior(pa.array([], pa.string()), options)
    alone = replace(plan, destination=tmp_path / "alone")
    score_partitions(alone, scorer, settled, TWO)
    parts = []
    for folder, compute in (("one", ONE), ("two", TWO)):
        pool = name_pool(plan, scorer, settled, compute)
        assert pool is not None
        assert 0 < len(pool.names) < 40
        pooled = replace(plan, destination=tmp_path / folder, pool=pool)
        if folder == "two":  # as a rerun finds it, whose other parts were finished before
            finished = replace(pooled, partitions=plan.partitions[2:4])
            score_partitions(finished, scorer, settled, TWO)
        score_partitions(pooled, scorer, settled, compute)
        parts.append([part_path(pooled.staging, p.index).read_bytes() for p in plan.partitions])
    assert parts[0] == parts[1]
    for partition in plan.partitions:
        one = read_part(part_path(alone.staging, partition.index))
        two = read_part(part_path(pooled.staging, partition.index))
        assert one.schema == two.schema
        for name in one.column_names:
            if pa.types.is_float32(one[name].type):
                assert one[name].is_null() == two[name].is_null()
                found, expected = (
                    column.fill_null(0.0).to_numpy() for column in (two[name], one[name])
                )
                np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
            else:
                assert one[name].to_pylist() == two[name].to_pylist(), name


def test_there_is_no_pool_where_names_hardly_repeat_or_partitions_are_few(
    scorer: Scorer, tmp_path: Path
) -> None:
    options = fitted_options(ScoreOptions(), scorer.version)
    unlike = [f"Name {i}" for i in range(6 * ROWS)]
    assert name_pool(plan_of(unlike, options, scorer, tmp_path), scorer, options, ONE) is None
    few = plan_of(repeated_names(3 * ROWS), options, scorer, tmp_path)
    assert name_pool(few, scorer, options, ONE) is None


def test_a_pool_that_is_full_has_the_names_that_most_row_groups_have(
    scorer: Scorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "_NAMES", 2)
    options = fitted_options(ScoreOptions(), scorer.version)
    names = [f"Only {i // ROWS}" if i % 3 else f"Often {i % 2}" for i in range(6 * ROWS)]
    pool = name_pool(plan_of(names, options, scorer, tmp_path), scorer, options, ONE)
    assert pool is not None
    assert pool.names.to_pylist() == ["Often 0", "Often 1"]


def test_names_that_share_a_slot_are_not_taken_for_each_other(scorer: Scorer) -> None:
    options = fitted_options(ScoreOptions(), scorer.version)
    names = pl.Series([f"Kalla{i}" for i in range(200)]).to_arrow().cast(pa.large_string())
    pooled = names.slice(50)
    pool = NamePool(pooled, scorer.predict(pooled, options), slots_of(pooled))
    crowded = replace(pool, slots=np.repeat(np.int32([0, 7]), 64))  # two names for all hashes
    expected = scorer.predict(names, options)
    for some in (pool, crowded):
        asked = list[str]()

        def predict(rest: pa.Array, asked: list[str] = asked) -> object:
            asked += rest.to_pylist()
            return scorer.predict(rest, options)

        found = some.complete(names, predict)
        assert np.array_equal(found.ranked[:, 0], expected.ranked[:, 0])
        np.testing.assert_allclose(found.confidence, expected.confidence, rtol=0, atol=1e-5)
        assert set(names.slice(0, 50).to_pylist()) <= set(asked)
    assert len(asked) >= 198
