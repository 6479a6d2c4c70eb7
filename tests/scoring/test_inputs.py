"""What callers of the library hand over: scored row by row, or refused by one line."""

import datetime
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from recording import Proof

import charrnn
from charrnn.errors import DataError
from charrnn.model.version import ModelVersion
from charrnn.scoring.inputs import names_array, readable_table
from charrnn.scoring.scorer import Scorer

CANARY = "Zanzibarova"
NAMES = ["Katoro", None, CANARY]
DONE = "what a caller hands to the library: scored row by row"
REFUSED = "what a caller hands to the library and is no text or no table: refused by a line"


@pytest.fixture(scope="module")
def scorer(tiny_version: ModelVersion) -> Scorer:
    return Scorer(tiny_version)


class NAType:
    """As the missing value of pandas: compares to nothing."""

    def __bool__(self) -> bool:
        raise TypeError("boolean value of NA is ambiguous")


class Exported:
    """A column or a table of another library, known by what it exports."""

    def __init__(self, content: Any) -> None:
        self.content = content

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.content.__arrow_c_stream__(requested_schema)


class Indexed:
    """A sequence of the old protocol."""

    def __getitem__(self, index: int) -> str | None:
        return NAMES[index]


class Mixed:
    """A column that Arrow cannot hold."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        raise pa.ArrowInvalid(f"cannot mix {CANARY} and int")


def generated() -> Iterator[str | None]:
    yield from NAMES


FORMS: dict[str, Callable[[], Any]] = {
    "list": lambda: NAMES,
    "tuple": lambda: tuple(NAMES),
    "generator": generated,
    "chain": lambda: itertools.chain(NAMES[:1], NAMES[1:]),
    "old sequence": Indexed,
    "nan": lambda: ["Katoro", float("nan"), CANARY],
    "numpy nan": lambda: ["Katoro", np.float64("nan"), CANARY],
    "pandas NA": lambda: ["Katoro", NAType(), CANARY],
    "numpy str": lambda: [np.str_("Katoro"), None, np.str_(CANARY)],
    "numpy objects": lambda: np.array(NAMES, object),
    "numpy objects and nan": lambda: np.array(["Katoro", np.nan, CANARY], object),
    "series": lambda: pl.Series(NAMES),
    "categorical": lambda: pl.Series(NAMES, dtype=pl.Categorical),
    "enum": lambda: pl.Series(NAMES, dtype=pl.Enum(["Katoro", CANARY])),
    "objects": lambda: pl.Series(NAMES, dtype=pl.Object),
    "array": lambda: pa.array(NAMES),
    "view": lambda: pa.array(NAMES, pa.string_view()),
    "exported": lambda: Exported(pa.chunked_array([NAMES])),
    "numpy strings": lambda: np.array(
        ["Katoro", np.nan, CANARY], np.dtypes.StringDType(na_object=np.nan)
    ),
    "numpy not a time": lambda: ["Katoro", np.datetime64("NaT"), CANARY],
    "pandas": lambda: pd.Series(NAMES),
    "pandas objects": lambda: pd.Series(["Katoro", pd.NaT, CANARY], dtype=object),
    "pandas string": lambda: pd.Series(NAMES, dtype="string"),
    "pandas categorical": lambda: pd.Series(NAMES, dtype="category"),
    "pandas of arrow": lambda: pd.Series(NAMES, dtype=pd.ArrowDtype(pa.large_string())),
    "pandas index": lambda: pd.Index(["Katoro", None, CANARY]),
    "pandas array": lambda: pd.array(NAMES, dtype="string"),
}


@pytest.mark.parametrize("form", FORMS)
def test_names_of_any_form_are_scored_in_order(scorer: Scorer, form: str, proof: Proof) -> None:
    names = FORMS[form]()
    frame = scorer.score(names)
    if isinstance(names, pd.Series | pd.Index):
        assert isinstance(frame, pd.DataFrame)
        frame = pl.from_pandas(frame)
    assert frame["name"].cast(pl.String).to_list() == NAMES
    assert frame["reason"].cast(pl.String).to_list() == [None, "null_name", None]
    proof("P9", DONE, 1)


@pytest.mark.parametrize(
    "names",
    [[], (), np.array([], object), pl.Series([], dtype=pl.Null), pa.nulls(0), iter([])],
    ids=lambda names: type(names).__name__,
)
def test_no_names_of_any_form_give_no_rows(scorer: Scorer, names: Any) -> None:
    assert scorer.score(names).height == 0


@pytest.mark.parametrize(
    "names", [[None], [float("nan")], pl.Series([None]), pa.nulls(1), np.array([np.nan])],
    ids=["None", "nan", "series", "arrow", "numpy"],
)  # fmt: skip
def test_missing_names_alone_are_null_names(scorer: Scorer, names: Any) -> None:
    assert scorer.score(names)["reason"].to_list() == ["null_name"]


NO_NAMES: dict[str, Any] = {
    "str": CANARY,
    "bytes": CANARY.encode(),
    "listed bytes": [CANARY.encode()],
    "bytearray": [bytearray(CANARY.encode())],
    "numpy bytes": np.array([CANARY.encode()]),
    "int": 5,
    "none": None,
    "nested": [[CANARY]],
    "two axes": np.array([[CANARY]]),
    "dict": {CANARY: 1},
    "set": {CANARY},
    "dates": [datetime.date(2020, 1, 1)],
    "mixed": [CANARY, 1],
    "truth": [True],
    "numbers": np.array([1.5, 2]),
    "int series": pl.Series([1]),
    "bool series": pl.Series([True]),
    "int128 series": pl.Series([1], dtype=pl.Int128),
    "list series": pl.Series([[CANARY]]),
    "struct series": pl.Series([{"a": CANARY}]),
    "binary series": pl.Series([CANARY.encode()]),
    "object series": pl.Series([object(), CANARY], dtype=pl.Object),
    "json": pa.array([f'"{CANARY}"'], pa.json_()),
    "uuid": pa.array([bytes(16)], pa.uuid()),
    "binary": pa.array([CANARY.encode()]),
    "lists": pa.array([[CANARY]]),
    "scalar": pa.scalar(CANARY),
    "frame": pl.DataFrame({"name": [CANARY]}),
    "lazy": pl.LazyFrame({"name": [CANARY]}),
    "table": pa.table({"name": [CANARY]}),
    "expression": pl.col("name"),
    "surrogate": [CANARY, "a\ud800"],
    "object surrogate": np.array([CANARY, "a\udfff"], object),
    "exported ints": Exported(pa.chunked_array([[1]])),
    "not exported": Mixed(),
    "pandas ints": pd.Series([1, 2]),
    "pandas mixed": pd.Series([CANARY, 1]),
    "pandas bytes": pd.Series([CANARY.encode()]),
    "pandas lists": pd.Series([[CANARY]]),
    "pandas dates": pd.Series([datetime.date(2020, 1, 1)]),
    "pandas times": pd.to_datetime(pd.Series(["2020-01-01"])),
    "pandas int categories": pd.Series([1, 2], dtype="category"),
    "pandas surrogate": pd.Series([CANARY, "a\ud800"], dtype=object),
    "pandas frame": pd.DataFrame({"name": [CANARY]}),
    "pandas levels": pd.MultiIndex.from_tuples([(CANARY, 1)]),
    "reader": pa.RecordBatchReader.from_batches(pa.schema([("name", pa.string())]), []),
}


@pytest.mark.parametrize("kind", NO_NAMES)
def test_what_holds_no_names_is_refused_by_a_line(scorer: Scorer, kind: str, proof: Proof) -> None:
    with pytest.raises(DataError, match=r"expected|Arrow cannot hold") as caught:
        scorer.score(NO_NAMES[kind])
    assert CANARY not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "extension<" not in str(caught.value)
    proof("P9", REFUSED, 1)


OTHER_COLUMNS = {
    "int128": pl.Series([1, None, 3], dtype=pl.Int128),
    "object": pl.Series([object(), None, 1], dtype=pl.Object),
    "null": pl.Series([None, None, None]),
    "bool": pl.Series([True, None, False]),
    "enum": pl.Series(["a", None, "b"], dtype=pl.Enum(["a", "b"])),
    "categorical": pl.Series(["a", None, "b"], dtype=pl.Categorical),
    "decimal": pl.Series(["1.5", None, "2"]).cast(pl.Decimal(10, 2)),
    "array": pl.Series([[1, 2], None, [3, 4]], dtype=pl.Array(pl.Int8, 2)),
    "struct": pl.Series([{"a": 1}, None, {"a": 2}]),
}


@pytest.mark.parametrize("kind", OTHER_COLUMNS)
def test_other_columns_of_a_frame_come_back_as_they_were(
    scorer: Scorer, kind: str, proof: Proof
) -> None:
    frame = pl.DataFrame([pl.Series("name", NAMES), OTHER_COLUMNS[kind].alias("other")])
    scored = scorer.score_table(frame)
    assert scored["other"].dtype == frame["other"].dtype
    assert scored["other"].to_list() == frame["other"].to_list()
    assert scored["reason"].cast(pl.String).to_list() == [None, "null_name", None]
    proof("P9", DONE, 1)


@pytest.mark.parametrize("kind", ["categorical", "enum", "objects"])
def test_name_column_of_a_frame_may_have_any_type_of_text(scorer: Scorer, kind: str) -> None:
    scored = scorer.score_table(pl.DataFrame({"name": FORMS[kind]()}))
    assert scored["reason"].cast(pl.String).to_list() == [None, "null_name", None]


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"name": NAMES}),
        pa.record_batch({"name": NAMES}),
        pa.RecordBatchReader.from_batches(pa.schema([("name", pa.string())]),
                                          [pa.record_batch({"name": NAMES})]),
        Exported(pa.table({"name": NAMES})),
    ],
    ids=["table", "batch", "reader", "exported"],
)  # fmt: skip
def test_tables_that_export_arrow_come_back_as_arrow(
    scorer: Scorer, table: Any, proof: Proof
) -> None:
    scored = scorer.score_table(table)
    assert isinstance(scored, pa.Table)
    assert scored["name"].to_pylist() == NAMES
    assert scored["reason"].to_pylist() == [None, "null_name", None]
    proof("P9", DONE, 1)


NO_TABLES: dict[str, Any] = {
    "lazy int names": pl.LazyFrame({"name": [1]}),
    "lazy clash": pl.LazyFrame({"name": [CANARY], "status": [CANARY]}),
    "dict": {"name": [CANARY]},
    "pandas series": pd.Series([CANARY], name="name"),
    "pandas levels": pd.DataFrame([[CANARY]], columns=pd.MultiIndex.from_tuples([("name", "a")])),
    "pandas int names": pd.DataFrame({"name": [1]}),
    "pandas mixed names": pd.DataFrame({"name": [CANARY, 1]}),
    "pandas clash": pd.DataFrame({"name": [CANARY], "status": [CANARY]}),
    "pandas twins": pd.DataFrame([[CANARY, CANARY]], columns=["name", "name"]),
    "rows": [{"name": CANARY}],
    "series": pl.Series("name", [CANARY]),
    "array": pa.array([CANARY]),
    "path": CANARY,
    "none": None,
    "numpy": np.array([[CANARY]]),
    "not exported": Mixed(),
    "int names": pl.DataFrame({"name": [1]}),
    "int128 names": pl.DataFrame({"name": pl.Series([1], dtype=pl.Int128)}),
    "arrow int names": pa.table({"name": [1]}),
    "arrow json": pa.table({"name": pa.array([f'"{CANARY}"'], pa.json_())}),
    "no names": pl.DataFrame({"id": [CANARY]}),
    "no columns": pl.DataFrame(),
    "twin names": pa.Table.from_arrays([pa.array([CANARY])] * 2, ["name", "name"]),
    "clash": pl.DataFrame({"name": [CANARY], "status": [CANARY]}),
}


@pytest.mark.parametrize("kind", NO_TABLES)
def test_what_is_no_table_of_names_is_refused_by_a_line(
    scorer: Scorer, kind: str, proof: Proof
) -> None:
    with pytest.raises(DataError) as caught:
        scorer.score_table(NO_TABLES[kind])
    assert CANARY not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "extension<" not in str(caught.value)
    proof("P9", REFUSED, 1)


def test_an_expression_on_another_type_is_refused_by_the_same_line(scorer: Scorer) -> None:
    frame = pl.DataFrame({"name": [1]})
    for query in (frame, frame.lazy()):
        with pytest.raises(DataError, match="expected text"):
            query.lazy().with_columns(scorer.expression("name").alias("x")).collect()


def test_a_message_says_where_the_odd_value_is(scorer: Scorer) -> None:
    with pytest.raises(DataError, match=r"got int at index 2"):
        names_array([CANARY, None, 3])
    with pytest.raises(DataError, match=r"surrogate pair at index 1"):
        names_array([CANARY, "\udc00"])
    with pytest.raises(DataError, match=r"cells of column 'id': .* got int at index 1; make text"):
        scorer.score_table(pd.DataFrame({"id": [CANARY, 1]}), name_column="id")
    with pytest.raises(DataError, match=r"cells of column 'id' are int64, expected text .*cast"):
        scorer.score_table(pd.DataFrame({"id": [1]}), name_column="id")


def test_a_pandas_frame_comes_back_with_its_index_and_its_columns(scorer: Scorer) -> None:
    """So does one whose index is not unique, whose columns are numbers, or that has no rows."""
    index = pd.MultiIndex.from_tuples([("a", 1), ("a", 1), ("b", 2)], names=["k", "n"])
    frame = pd.DataFrame({"name": NAMES, "n": [1, 2, 3]}, index=index)
    frame.attrs["source"] = "register"
    frame.columns.name = "field"
    before = frame.copy()
    scored = scorer.score_table(frame, details=True, coverage_target=0.9)
    assert isinstance(scored, pd.DataFrame)
    pd.testing.assert_frame_equal(frame, before)
    pd.testing.assert_frame_equal(scored[["name", "n"]], before)
    assert scored.attrs == {"source": "register"}
    assert scored["reason"].isna().tolist() == [True, False, True]
    types = scored.dtypes.astype(str).to_dict()
    assert types["language"] == types["status"] == "category"
    assert (types["confidence"], types["set_size"], types["ambiguous"]) == (
        "float32", "Int16", "boolean"
    )  # fmt: skip
    expected = scorer.score_table(pl.DataFrame({"name": NAMES}))
    assert scored["confidence"].to_numpy() == pytest.approx(
        expected["confidence"].fill_null(np.nan).to_numpy(), nan_ok=True
    )
    numbered = pd.DataFrame([[1, name] for name in NAMES])
    assert scorer.score_table(numbered, name_column="1")["status"].tolist()[1] == "unscored"
    assert len(scorer.score_table(frame[:0])) == 0


def test_a_pandas_series_comes_back_as_a_frame_with_its_index(scorer: Scorer) -> None:
    scored = scorer.score(pd.Series(NAMES, index=[7, 7, 3]))
    assert scored.index.tolist() == [7, 7, 3]
    assert scored.columns.tolist()[:3] == ["name", "language", "confidence"]


def test_a_lazy_frame_comes_back_lazy_and_is_scored_when_it_runs(scorer: Scorer) -> None:
    frame = pl.DataFrame({"id": range(30), "name": NAMES * 10})
    expected = scorer.score_table(frame, top_k=1)
    lazy = scorer.score_table(frame.lazy(), top_k=1)
    assert isinstance(lazy, pl.LazyFrame)
    assert lazy.collect_schema() == expected.schema
    for engine in ("in-memory", "streaming"):
        found = lazy.filter(pl.col("status") == "scored").select("id", "language", "confidence")
        frames = (found.collect(engine=engine), expected.filter(pl.col("status") == "scored"))
        assert frames[0].equals(frames[1].select("id", "language", "confidence"))
    estimated = scorer.score_table(frame.lazy(), prior="estimate").collect(engine="streaming")
    assert estimated.equals(scorer.score_table(frame, prior="estimate"))


def test_what_exports_one_array_of_rows_is_a_table(scorer: Scorer) -> None:
    class Array:
        def __arrow_c_array__(self, requested_schema: object = None) -> object:
            return pa.record_batch({"name": NAMES}).__arrow_c_array__(requested_schema)

    assert scorer.score_table(Array())["reason"].to_pylist() == [None, "null_name", None]
    assert readable_table(Array()).equals(pa.table({"name": NAMES}))


def test_the_library_needs_no_pandas() -> None:
    sources = Path(charrnn.__file__).parent.rglob("*.py")
    found = [path.name for path in sources if re.search(r"(import|from) pandas", path.read_text())]
    assert found == ["mlflow.py"]  # whose models take and give frames of pandas
