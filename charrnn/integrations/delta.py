"""Append a published run to a Delta table, exactly once.

The run's fingerprint is the *application transaction* of the append, committed together with the
rows. Delta does not refuse a repeated transaction, so the table is searched for it first, and again
whenever another writer commits before us.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from charrnn.errors import BusyError, DataError, missing_package, storage_error, storage_errors
from charrnn.runs.folders import run_name
from charrnn.runs.manifest import RunManifest, read_run
from charrnn.runs.parts import part_schema, read_part_batches
from charrnn.tables.columns import differences, is_text

RUN_COLUMN = "charrnn_run"  # added to the table: name of the run that a row came from
_ATTEMPTS = 20  # commits of other writers in a row before giving up
_BATCH_ROWS = 2**17  # bounds the memory of an append


def append_run(run: Path, uri: str) -> bool:
    """Append the rows of a published run to the Delta table at ``uri``, which is created if
    necessary; return False if the table already has the rows of this fingerprint.

    The table has the run's columns, with types that Delta supports, and ``charrnn_run``, the run's
    name. Rows are streamed, so memory does not grow with the run. Credentials for object storage
    are those that deltalake finds.

    Raises:
        ConfigError: the package deltalake is missing.
        DataError: a part is damaged, Delta does not support a column's type, or the table has other
            columns; nothing is appended.
        BusyError: other writers kept committing first.
        StorageError: the table cannot be read or written.
    """
    try:
        import deltalake
    except ImportError:
        raise missing_package("Delta Lake", "delta") from None
    manifest = read_run(run)
    application = f"charrnn-{manifest.fingerprint}"
    schema = _delta_schema(run, manifest)
    reading = partial(storage_errors, f"the Delta table {uri} cannot be read")
    for _ in range(_ATTEMPTS):
        with reading():  # a table reads its log when it is first asked
            table = _open(uri)
            if table is not None:
                if table.transaction_version(application) is not None:
                    return False
                _check_columns(table, schema, uri)
        problems = list[DataError]()  # deltalake raises what it reads as an untyped exception
        rows = _batches(run, manifest, schema, problems)
        try:
            deltalake.write_deltalake(
                uri if table is None else table,
                pa.RecordBatchReader.from_batches(schema, rows),
                mode="error" if table is None else "append",
                commit_properties=deltalake.CommitProperties(
                    app_transactions=[deltalake.Transaction(application, version=1)],
                    custom_metadata={"run": run_name(run), "model": manifest.model.name},
                    max_commit_retries=0,  # the transaction must be searched before a retry
                ),
            )
        except Exception as error:
            if problems:
                raise problems[0] from None
            with reading():
                latest = _open(uri)
                if latest is not None and (table is None or latest.version() != table.version()):
                    continue  # another writer was first
            raise storage_error(f"the Delta table {uri} cannot be written", error) from error
        return True
    raise BusyError(f"other writers committed to {uri} first {_ATTEMPTS} times; run this again")


def _open(uri: str) -> Any:
    """Return the latest version of the table, None if it does not exist."""
    from deltalake import DeltaTable

    return DeltaTable(uri) if DeltaTable.is_deltatable(uri) else None


def _batches(
    run: Path, manifest: RunManifest, schema: pa.Schema, problems: list[DataError]
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a run as batches of ``schema``; raise DataError if a part is damaged or
    cannot be converted, and add it to ``problems``."""

    def failed(message: str) -> DataError:
        problems.append(DataError(f"{message}; nothing was appended"))
        return problems[-1]

    rows = 0
    for part in manifest.parts:
        path = run / part.name
        try:
            for batch in read_part_batches(path, _BATCH_ROWS):
                rows += batch.num_rows
                columns = [c.cast(f.type) for c, f in zip(batch.columns, schema, strict=False)]
                columns.append(pa.repeat(pa.scalar(run_name(run)), batch.num_rows))
                yield pa.RecordBatch.from_arrays(columns, schema=schema)
        except DataError as error:
            raise failed(str(error)) from error
        except pa.ArrowException as error:
            raise failed(f"{path} has a value that Delta does not support") from error
    if rows != manifest.rows:
        raise failed(f"{run} has {rows:,} rows, its manifest {manifest.rows:,}")


def _delta_schema(run: Path, manifest: RunManifest) -> pa.Schema:
    """Return the table's schema for a run; raise DataError if Delta does not support a column's
    type, or a column is called ``RUN_COLUMN``."""
    from deltalake import Schema

    schema = part_schema(run / manifest.parts[0].name)
    if RUN_COLUMN in schema.names:
        raise DataError(f"the run already has a column {RUN_COLUMN!r}, which the Delta table adds")
    fields = [pa.field(field.name, _delta_type(field.type)) for field in schema]
    for old, new in zip(schema, fields, strict=True):
        try:
            Schema.from_arrow(pa.schema([new]))
        except Exception:  # deltalake raises nothing narrower
            raise DataError(
                f"column {old.name!r} is {old.type}, which Delta does not support; nothing was "
                "appended, cast it before scoring"
            ) from None
    return pa.schema([*fields, pa.field(RUN_COLUMN, pa.string())])


def _delta_type(arrow_type: pa.DataType) -> pa.DataType:
    """Return the type that Delta supports for values of ``arrow_type``: it has no dictionaries,
    unsigned integers, time zones other than UTC, or times finer than microseconds."""
    if pa.types.is_dictionary(arrow_type):
        return _delta_type(arrow_type.value_type)
    if is_text(arrow_type) or pa.types.is_null(arrow_type):
        return pa.string()
    if pa.types.is_timestamp(arrow_type):
        return pa.timestamp("us", "UTC" if arrow_type.tz else None)
    if pa.types.is_decimal(arrow_type) and arrow_type.precision <= 38:
        return pa.decimal128(arrow_type.precision, arrow_type.scale)
    if pa.types.is_large_binary(arrow_type) or pa.types.is_fixed_size_binary(arrow_type):
        return pa.binary()
    converted = {
        pa.uint8(): pa.int16(),
        pa.uint16(): pa.int32(),
        pa.uint32(): pa.int64(),
        pa.uint64(): pa.int64(),  # values of 2**63 or more are refused
        pa.float16(): pa.float32(),
        pa.date64(): pa.date32(),
    }
    return converted.get(arrow_type, arrow_type)


def _check_columns(table: Any, schema: pa.Schema, uri: str) -> None:
    """Raise DataError unless the table's columns are those of ``schema``, in any order."""
    from deltalake import Schema

    different = differences(
        pa.schema(table.schema().to_arrow()),
        pa.schema(Schema.from_arrow(schema).to_arrow()),
        " in the table",
        " in the run",
    )
    if different:
        raise DataError(
            f"{uri} has other columns: {different}; append to another table", option="delta"
        )
