"""Cut the rows of an input into partitions, the units of work."""

from __future__ import annotations

__all__ = ["PARTITION_ROWS", "Partition", "cut"]

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from charrnn.row_groups import Group, TableFile

PARTITION_ROWS = 2**20
PARTITION_BYTES = 2**28  # of uncompressed Parquet: bounds the memory that wide tables take
_SHARES = 8  # an input is cut in so many partitions at least,
_SMALL_PARTITION = 2**19  # unless they had fewer rows: smaller ones find fewer equal names


@dataclass(frozen=True)
class Partition:
    """Some groups of rows, side by side, of one file or of several small ones; ``index`` is its
    place in the output, ``first_row`` the number of rows before it in the whole input."""

    index: int
    groups: tuple[Group, ...]
    first_row: int

    @property
    def rows(self) -> int:
        return sum(group.rows for group in self.groups)


def cut(tables: Sequence[TableFile], partition_rows: int) -> list[Partition]:
    """Cut the input into partitions of at most about ``partition_rows`` rows and
    ``PARTITION_BYTES``, along row groups; at least one, so that an empty input has a part too.
    Small files make one partition together.

    A few million rows are cut smaller, so that there is a share for every worker; the cut depends
    on the input alone, so that a rerun finds its parts whatever the machine."""
    rows = sum(table.rows for table in tables)
    partition_rows = min(partition_rows, max(_SMALL_PARTITION, -(-rows // _SHARES)))
    every = [group for table in tables for group in table.groups]
    partitions: list[Partition] = []
    first_row = 0
    for groups in _together((group for group in every if group.rows), partition_rows):
        partitions.append(Partition(len(partitions), groups, first_row))
        first_row += partitions[-1].rows
    return partitions or [Partition(0, (every[0],), 0)]


def _together(groups: Iterable[Group], most_rows: int) -> Iterator[tuple[Group, ...]]:
    """Yield groups that make one partition."""
    taken: list[Group] = []
    rows = size = 0
    for group in groups:
        if taken and (rows + group.rows > most_rows or size + group.size > PARTITION_BYTES):
            yield tuple(taken)
            taken, rows, size = [], 0, 0
        taken.append(group)
        rows, size = rows + group.rows, size + group.size
    if taken:
        yield tuple(taken)
