"""Parts of a run: one Parquet file per partition, and the receipt that says it is finished."""

import hashlib
import os
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from msgspec import Meta

from charrnn.errors import DataError, StorageError
from charrnn.files import (
    closing_reader,
    json_bytes,
    open_file,
    read_file,
    sha256_of_open,
    write_bytes,
    writing_to,
)
from charrnn.model.facts import Count, Digest, Profile
from charrnn.runs.folders import ROWS
from charrnn.runs.manifest import PartRecord
from charrnn.runs.plan import RunPlan
from charrnn.tables.columns import value_type
from charrnn.tables.parquet_types import writer_options
from charrnn.tables.row_groups import Partition

_BATCH_ROWS = 1024  # rows that are encoded at a time, at most: what Arrow takes by default,
_BATCH_BYTES = 2**22  # and of a column about so many bytes; a page has one batch at least


@dataclass(frozen=True)
class PartReceipt:
    """What is known of one finished part; written beside it once the part is durable.

    ``statuses``, ``reasons`` and ``labels`` count rows; ``confidence_sum`` adds up the confidence
    of the scored ones; ``reused`` says that an earlier try had finished the part.
    ``digest`` is that of the other fields, in the file.
    """

    index: Count
    first_row: Count
    rows: Count
    size: Count
    sha256: Digest
    statuses: dict[str, Count]
    reasons: dict[str, Count]
    labels: dict[str, Count]
    confidence_sum: Annotated[float, Meta(ge=0)]
    profile: Profile
    reused: bool = False
    digest: str = ""

    @property
    def record(self) -> PartRecord:
        """The part as a manifest lists it."""
        return PartRecord(part_name(self.index), self.first_row, self.rows, self.size, self.sha256)


def write_part(table: pa.Table, path: Path, plan: RunPlan, partition: Partition) -> str:
    """Write one part atomically and return its SHA-256; its footer says which rows of which run it
    holds. Dictionaries that scoring added are stored as such and read as text: categories would
    differ between runs, and pandas counts those that do not occur.

    Raises:
        StorageError: the file on the disk is not the file that was written.
    """
    own = plan.source.schema.names
    fields = (f if f.name in own else f.with_type(value_type(f.type)) for f in table.schema)
    metadata = {
        **(table.schema.metadata or {}),
        b"charrnn.fingerprint": plan.key.fingerprint.encode(),
        b"charrnn.part": str(partition.index).encode(),
        b"charrnn.first_row": str(partition.first_row).encode(),
    }
    # What Arrow reads types and metadata of columns from; it writes it itself with store_schema.
    metadata[b"ARROW:schema"] = b64encode(pa.schema(fields, metadata).serialize())
    options = {**parquet_options(table, own), **plan.source.parquet, "store_schema": False}
    with writing_to(path) as temporary:
        with pq.ParquetWriter(temporary, table.schema, **options) as writer:
            writer.write_table(table)
            writer.add_key_value_metadata(metadata)
        try:
            temporary.flush()
            whole = pq.read_metadata(temporary).num_rows == table.num_rows
        except pa.ArrowException:
            whole = False
        if not whole:
            raise StorageError(f"{path} could not be read back; check the disk and run this again")
        return sha256_of_open(temporary)


def parquet_options(table: pa.Table, input_columns: Sequence[str]) -> dict[str, Any]:
    """Return how parts are written, as options of ``pyarrow.parquet.write_table``; statistics are
    written for ``input_columns``.

    Pages carry checksums; those of large cells have few rows, since a writer has a page in memory
    several times. Floats are split by byte (BYTE_STREAM_SPLIT), which compresses probabilities
    best. Columns get a dictionary where values repeat.
    """
    floats = [f.name for f in table.schema if pa.types.is_float32(f.type)]
    return {
        "compression": "zstd",
        "compression_level": 1,
        "write_page_checksum": True,
        "write_statistics": list(input_columns),
        "write_batch_size": min(map(_batch_rows, table.columns), default=_BATCH_ROWS),
        "use_dictionary": [
            name for name in table.column_names if name not in floats and _repeats(table[name])
        ],
        "use_byte_stream_split": floats or False,
    }


def _batch_rows(column: pa.ChunkedArray, most: int = _BATCH_ROWS) -> int:
    """Return of how many rows a column takes ``_BATCH_BYTES`` on average, 1 to ``most``."""
    size: int = column.nbytes
    return max(1, min(most, _BATCH_BYTES * len(column) // max(1, size)))


def _repeats(column: pa.ChunkedArray) -> bool:
    """Whether the first values, up to 4,096, repeat often enough for a dictionary: twice on
    average."""
    first = column.slice(0, _batch_rows(column, 2**12))
    try:
        return bool(pc.count_distinct(first).as_py() <= len(first) / 2)
    except pa.ArrowNotImplementedError:  # dictionaries, for one, and lists
        return True


def part_name(index: int) -> str:
    """Return the path of a part below the folder of its run."""
    return f"{ROWS}/part-{index:05d}.parquet"


def part_path(folder: Path, index: int) -> Path:
    """Return the path of a part."""
    return folder / part_name(index)


def read_part(
    path: Path, *, metadata: bool = False, columns: Sequence[str] | None = None
) -> pa.Table:
    """Read all rows of a part, page checksums verified.

    Args:
        columns: those to read; None: all.
        metadata: keep the input's metadata; ours is dropped.

    Raises:
        DataError: the part is missing or damaged.
    """
    with _open_part(path) as file:
        table = file.read(columns=columns)
    notes = table.schema.metadata or {} if metadata else {}
    return table.replace_schema_metadata(
        {key: value for key, value in notes.items() if not key.startswith(b"charrnn.")} or None
    )


def part_schema(path: Path) -> pa.Schema:
    """Return the columns of a part, without metadata."""
    with _open_part(path) as file:
        return file.schema_arrow.remove_metadata()


def part_writer_options(path: Path) -> dict[str, bool]:
    """Return the options of ``ParquetWriter`` that a part was written with for its types."""
    with _open_part(path) as file:
        return writer_options(file.schema_arrow, file.schema)


def read_part_batches(path: Path, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a part in batches of at most ``batch_rows``; raises as ``read_part``."""
    with _open_part(path) as file:
        yield from file.iter_batches(batch_size=batch_rows)


@contextmanager
def _open_part(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        with closing_reader(pq.ParquetFile(path, page_checksum_verification=True)) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path} is damaged; restore it, or score the input again", option="force"
        ) from error


def write_receipt(folder: Path, receipt: PartReceipt) -> None:
    """Record that a part is finished; the part must be durable before."""
    signed = replace(receipt, digest=_digest_of(receipt))
    write_bytes(_receipt_path(folder, receipt.index), json_bytes(asdict(signed)))


def read_receipt(plan: RunPlan, partition: Partition) -> PartReceipt | None:
    """Return the receipt of a finished part that is unchanged since, or None."""
    try:
        content = read_file(_receipt_path(plan.staging, partition.index), mine=True)
        receipt = msgspec.json.decode(content, type=PartReceipt)
        part = part_path(plan.staging, partition.index)
        with open_file(part, mine=True) as file:
            size = file.seek(0, os.SEEK_END)
            whole = size == receipt.size and sha256_of_open(file) == receipt.sha256
        receipt.profile.check()
        sound = whole and receipt.digest == _digest_of(receipt)
    except (OSError, msgspec.MsgspecError, RecursionError, ValueError):
        return None
    rows = (receipt.index, receipt.first_row, receipt.rows)
    same_rows = rows == (partition.index, partition.first_row, partition.rows)
    counted = sum(receipt.statuses.values()) == receipt.profile.rows == receipt.rows
    return replace(receipt, reused=True) if sound and same_rows and counted else None


def _digest_of(receipt: PartReceipt) -> str:
    """Return the SHA-256 of what a receipt says: its counts go into the manifest unseen."""
    return hashlib.sha256(json_bytes(asdict(replace(receipt, digest="")))).hexdigest()


def count_values(column: pa.ChunkedArray) -> dict[str, int]:
    """Return how often each value occurs, nulls left out."""
    entries = column.drop_null().value_counts().to_pylist()
    return {entry["values"]: entry["counts"] for entry in entries}


def _receipt_path(folder: Path, index: int) -> Path:
    return folder / f"part-{index:05d}.json"
