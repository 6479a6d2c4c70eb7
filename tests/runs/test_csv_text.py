"""Every flat type has a text in CSV that tells its values; others are refused before scoring."""

import datetime
import io
import uuid
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pytest

from charrnn.errors import DataError
from charrnn.runs.export import check_exportable, csv_column, has_csv_text
from tests.recording import Proof

BYTES = [b"\xff\x00", None, b"ab"]
CASES = {
    "uuid": (pa.array([b"\x01" * 16, None], pa.uuid()), [str(uuid.UUID(bytes=b"\x01" * 16)), ""]),
    "json": (pa.ExtensionArray.from_storage(pa.json_(), pa.array(["{}", None])), ["{}", ""]),
    "binary": (pa.array([None, *BYTES], pa.binary())[1:], ["ff00", "", "6162"]),
    "large binary": (pa.array(BYTES, pa.large_binary()), ["ff00", "", "6162"]),
    "binary view": (pa.array(BYTES, pa.binary_view()), ["ff00", "", "6162"]),
    "fixed-size binary": (pa.array(BYTES, pa.binary(2)), ["ff00", "", "6162"]),
    "dictionary of binary": (pa.array(BYTES).dictionary_encode(), ["ff00", "", "6162"]),
    "dictionary of numbers": (pa.array([5, None]).dictionary_encode(), ["5", ""]),
    "dictionary of text": (pa.array(["a", None]).dictionary_encode(), ["a", ""]),
    "text view": (pa.array(["a", None], pa.string_view()), ["a", ""]),
    "decimal": (pa.array([Decimal("1.50"), None], pa.decimal256(50, 2)), ["1.50", ""]),
    "time": (pa.array([1, None], pa.time64("us")), ["00:00:00.000001", ""]),
    "duration": (pa.array([1500, None], pa.duration("ms")), ["1500", ""]),
    "zoned": (
        pa.array([0, None], pa.timestamp("ms", "Europe/Berlin")),
        ["1970-01-01 01:00:00.000+0100", ""],
    ),
    "far year": (pa.array([10**15, 0], pa.timestamp("s")), [str(10**15), "1970-01-01 00:00:00"]),
    "date": (pa.array([datetime.date(9999, 12, 31), None]), ["9999-12-31", ""]),
    "float16": (pa.array([1.5, None], pa.float16()), ["1.5", ""]),
    "null": (pa.nulls(2), ["", ""]),
    "bool": (pa.array([True, None]), ["true", ""]),
    "bool8": (pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1], pa.int8())), ["1"]),
    "unsigned": (pa.array([2**64 - 1, None], pa.uint64()), [str(2**64 - 1), ""]),
    "run-end encoded": (pa.RunEndEncodedArray.from_arrays([2], ["a"]), ["a", "a"]),
}


@pytest.mark.parametrize("kind", CASES)
def test_every_flat_type_has_a_text(kind: str, proof: Proof) -> None:
    array, expected = CASES[kind]
    column = csv_column(pa.chunked_array([array]))
    rows, sink = pa.array(range(len(array))), io.BytesIO()
    pacsv.write_csv(pa.table({"row": rows, "x": column}), sink)
    texts = [line.split(",", 1)[1].strip('"') for line in sink.getvalue().decode().splitlines()[1:]]
    assert texts == expected
    assert has_csv_text(array.type)
    proof("P9", "types of columns in a CSV export: text that tells their values", 1)


@pytest.mark.parametrize(
    "data_type",
    [pa.list_(pa.int8()), pa.struct({"a": pa.int8()}), pa.map_(pa.string(), pa.int8()),
     pa.month_day_nano_interval(), pa.dictionary(pa.int8(), pa.list_(pa.int8()))],
    ids=str,
)  # fmt: skip
def test_type_without_a_text_is_refused(data_type: pa.DataType) -> None:
    with pytest.raises(DataError, match=r"column 'x' is .* does not fit into CSV"):
        check_exportable(pa.schema({"x": data_type}), Path("out.csv"))
    check_exportable(pa.schema({"x": data_type}), Path("out.parquet"))
