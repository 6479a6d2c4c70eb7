"""What callers of the library hand over: scored row by row, or refused by one line."""

import datetime
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from recording import Proof

from charrnn.errors import DataError
from charrnn.model.version import ModelVersion
from charrnn.scoring.inputs import arrow_table, names_array
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
}


@pytest.mark.parametrize("form", FORMS)
def test_names_of_any_form_are_scored_in_order(scorer: Scorer, form: str, proof: Proof) -> None:
    frame = scorer.score(FORMS[form]())
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
    "lazy": pl.LazyFrame({"name": [CANARY]}),
    "dict": {"name": [CANARY]},
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


def test_a_message_says_where_the_odd_value_is() -> None:
    with pytest.raises(DataError, match=r"got int at index 2"):
        names_array([CANARY, None, 3])
    with pytest.raises(DataError, match=r"surrogate pair at index 1"):
        names_array([CANARY, "\udc00"])
    with pytest.raises(DataError, match=r"LazyFrame.*collect\(\)"):
        arrow_table(pl.LazyFrame({"name": [CANARY]}))
