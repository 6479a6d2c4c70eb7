"""Columns of any number of rows in bounded memory.

A column is appended block by block. It stays in memory while it is small; then it goes into a file
without a name, which is mapped when the column is whole. The kernel may drop the pages of such a
file when memory is short, and the file is gone with the process, however that ends.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from charrnn.files import translate_os_errors, unnamed_file
from charrnn.model.normalise import string_buffers

BLOCK = 2**18  # rows that are worked on at a time
IN_MEMORY = 2**24  # bytes of a column

Scalar = TypeVar("Scalar", bound=np.generic)


class Column(Generic[Scalar]):
    """An array ``(N,)`` that is made by blocks.

    Args:
        dtype: of the array; blocks are cast to it.
        scratch: folder for the file of a large column, made if missing; None for the system's
            folder for temporary files.
    """

    def __init__(self, dtype: type[Scalar], scratch: Path | None) -> None:
        self._dtype, self._scratch = np.dtype(dtype), scratch or Path(tempfile.gettempdir())
        self._blocks: list[npt.NDArray[Scalar]] = []
        self._bytes = 0
        self._file: IO[bytes] | None = None

    def append(self, block: npt.NDArray[Any]) -> None:
        """Add a block, ``(B,)``, behind those that are there."""
        self._blocks.append(np.ascontiguousarray(block, self._dtype))
        self._bytes += self._blocks[-1].nbytes
        if self._bytes > IN_MEMORY:
            self._write()

    def _write(self) -> None:
        self._file = self._file or unnamed_file(self._scratch)
        with translate_os_errors(self._scratch):
            for block in self._blocks:
                self._file.write(block.data)
            self._file.flush()
        self._blocks.clear()

    def whole(self) -> npt.NDArray[Scalar]:
        """Return the array, ``(N,)``, read-only where mapped; nothing can be appended any more."""
        if self._file is None:
            return np.concatenate([np.empty(0, self._dtype), *self._blocks])
        with self._file as file:
            mapped = mmap.mmap(file.fileno(), self._bytes, access=mmap.ACCESS_READ)
        return np.frombuffer(mapped, self._dtype)


class Texts:
    """A large_string array without nulls that is made by blocks; see ``Column``."""

    def __init__(self, scratch: Path | None) -> None:
        self._offsets, self._data = Column(np.int64, scratch), Column(np.uint8, scratch)
        self._offsets.append(np.zeros(1, np.int64))
        self._bytes = 0

    def append(self, block: pa.LargeStringArray) -> None:
        """Add a block behind those that are there."""
        offsets, data = string_buffers(block)
        self._offsets.append(offsets[1:] + self._bytes)
        self._data.append(np.frombuffer(data, np.uint8))
        self._bytes += len(data)

    def whole(self) -> pa.LargeStringArray:
        """Return the array, ``(N,)``; nothing can be appended any more."""
        offsets, data = self._offsets.whole(), self._data.whole()
        buffers = [pa.py_buffer(offsets), pa.py_buffer(data)]
        return pa.LargeStringArray.from_buffers(len(offsets) - 1, *buffers)


def column_of(
    blocks: Iterable[npt.NDArray[Any]], dtype: type[Scalar], scratch: Path | None
) -> npt.NDArray[Scalar]:
    """Return the blocks as one column, ``(N,)``."""
    column = Column(dtype, scratch)
    for block in blocks:
        column.append(block)
    return column.whole()


def blocks_of(count: int) -> Iterator[slice]:
    """Yield slices of ``BLOCK`` rows that cover ``count`` rows.

    >>> list(blocks_of(3))
    [slice(0, 3, None)]
    """
    for first in range(0, count, BLOCK):
        yield slice(first, min(first + BLOCK, count))
