"""Lakehouse: append a published run to a Delta table, exactly once.

The fingerprint of the run is the *application transaction* of the append, committed in one step
with the rows. Delta does not refuse a transaction that is there already, so it is looked for first;
and an append whose table moved on meanwhile is not retried blindly, but looked for again. So a kill
at any moment, a rerun, or two processes at once leave the rows of a fingerprint in the table once.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from charrnn.errors import BusyError, DataError, missing_package, storage_error
from charrnn.runs.manifest import RunManifest, read_run
from charrnn.runs.parts import read_part_batches
from charrnn.tables.columns import is_text

RUN_COLUMN = "charrnn_run"  # which run a row of the table came from
_ATTEMPTS = 20  # times that another writer may be faster
_BATCH_ROWS = 2**17


def append_run(run: Path, uri: str) -> bool:
    """Append the rows of a published run to the Delta table at ``uri``, creating it if need be;
    return False where the rows of this fingerprint are in the table already.

    The table gets the run's columns (see ``_delta_type``) and ``charrnn_run``, the run's name. Rows
    are streamed: memory does not grow with the run. Credentials for object storage come from the
    environment (``AWS_…``).

    Raises:
        ConfigError: the package deltalake is missing.
        DataError: a part is damaged, a column has a type that Delta has not, or the table has other
            columns; nothing was appended.
        BusyError: others kept writing to the table.
        StorageError: the table cannot be read or written.
    """
    try:
        import deltalake
    except ImportError:
        raise missing_package("Delta Lake", "delta") from None
    manifest = read_run(run)
    application = f"charrnn-{manifest.fingerprint}"
    schema = _delta_schema(run, manifest)
    for _ in range(_ATTEMPTS):
        table = _open(uri)
        if table is not None and table.transaction_version(application) is not None:
            return False
        if table is not None:
            _check_columns(table, schema, uri)
        rows = _Rows(run, manifest, schema)
        try:
            deltalake.write_deltalake(
                uri if table is None else table,
                pa.RecordBatchReader.from_batches(schema, rows.batches()),
                mode="error" if table is None else "append",
                commit_properties=deltalake.CommitProperties(
                    app_transactions=[deltalake.Transaction(application, version=1)],
                    custom_metadata={"run": run.name, "model": manifest.model.name},
                    max_commit_retries=0,  # every retry has to look for the transaction again
                ),
            )
        except Exception as error:
            if rows.problem is not None:
                raise rows.problem from None
            if _moved_on(uri, table):
                continue
            raise storage_error(f"the Delta table {uri} cannot be written", error) from error
        return True
    raise BusyError(f"others wrote to {uri} first {_ATTEMPTS} times; run this again")


def _open(uri: str) -> Any:
    """Return the table as it is now, or None where there is none."""
    from deltalake import DeltaTable

    try:
        return DeltaTable(uri) if DeltaTable.is_deltatable(uri) else None
    except Exception as error:
        raise storage_error(f"the Delta table {uri} cannot be read", error) from error


def _moved_on(uri: str, table: Any) -> bool:
    """Whether somebody has written to the table since it was opened."""
    now = _open(uri)
    return now is not None and (table is None or now.version() != table.version())


class _Rows:
    """The rows of a run as Delta takes them. What goes wrong in the middle is kept in ``problem``:
    on its way through the writer it becomes an exception without a type."""

    def __init__(self, run: Path, manifest: RunManifest, schema: pa.Schema) -> None:
        self.run, self.manifest, self.schema = run, manifest, schema
        self.problem: DataError | None = None

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield record batches, page checksums verified."""
        rows = 0
        for part in self.manifest.parts:
            path = self.run / part.name
            try:
                for batch in read_part_batches(path, _BATCH_ROWS):
                    rows += batch.num_rows
                    yield self._converted(batch)
            except DataError as error:
                self._fail(str(error), error)
            except pa.ArrowException as error:
                self._fail(f"{path} has a value that Delta cannot hold", error)
        if rows != self.manifest.rows:
            self._fail(f"{self.run} has {rows:,} rows, its manifest {self.manifest.rows:,}")

    def _converted(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        run = pa.repeat(pa.scalar(self.run.name), batch.num_rows)
        columns = [c.cast(f.type) for c, f in zip(batch.columns, self.schema, strict=False)]
        return pa.RecordBatch.from_arrays([*columns, run], schema=self.schema)

    def _fail(self, message: str, cause: Exception | None = None) -> NoReturn:
        self.problem = DataError(f"{message}; nothing was appended")
        raise self.problem from cause


def _delta_schema(run: Path, manifest: RunManifest) -> pa.Schema:
    """Return the columns that the table gets for the run.

    Raises:
        DataError: Delta has no type for a column, or a column has the name of ours.
    """
    from deltalake import Schema

    schema = pq.read_schema(run / manifest.parts[0].name).remove_metadata()
    if RUN_COLUMN in schema.names:
        raise DataError(f"the run has a column {RUN_COLUMN!r}, which the Delta table would get")
    fields = [pa.field(field.name, _delta_type(field.type)) for field in schema]
    for old, new in zip(schema, fields, strict=True):
        try:
            Schema.from_arrow(pa.schema([new]))
        except Exception:  # deltalake raises nothing narrower
            raise DataError(
                f"column {old.name!r} is {old.type}, which Delta has no type for; cast it before "
                "scoring; nothing was appended"
            ) from None
    return pa.schema([*fields, pa.field(RUN_COLUMN, pa.string())])


def _delta_type(kind: pa.DataType) -> pa.DataType:
    """Return the Arrow type in which Delta can hold the values of ``kind``: it has neither
    dictionaries, unsigned integers, time zones nor times finer than microseconds."""
    if pa.types.is_dictionary(kind):
        return _delta_type(kind.value_type)
    if is_text(kind) or pa.types.is_null(kind):
        return pa.string()
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", "UTC" if kind.tz else None)
    if pa.types.is_decimal(kind) and kind.precision <= 38:
        return pa.decimal128(kind.precision, kind.scale)
    if pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return pa.binary()
    wider = {
        pa.uint8(): pa.int16(),
        pa.uint16(): pa.int32(),
        pa.uint32(): pa.int64(),
        pa.uint64(): pa.int64(),  # a value of 2**63 or more is refused
        pa.float16(): pa.float32(),
        pa.date64(): pa.date32(),
    }
    return wider.get(kind, kind)


def _check_columns(table: Any, schema: pa.Schema, uri: str) -> None:
    """Raise DataError unless the table has the same columns."""
    from deltalake import Schema

    ours, theirs = (
        {f.name: str(f.type) for f in pa.schema(columns.to_arrow())}
        for columns in (Schema.from_arrow(schema), table.schema())
    )
    differing = [n for n in {**ours, **theirs} if ours.get(n) != theirs.get(n)]
    if differing:
        detail = "; ".join(
            f"{n!r} is {theirs.get(n, 'absent')} there and {ours.get(n, 'absent')} here"
            for n in differing
        )
        raise DataError(f"{uri} has other columns: {detail}; append to another table")
