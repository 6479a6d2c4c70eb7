"""Score the names that a table repeats before its partitions, which then share the answers.

Which names these are depends on the input alone: neither on workers nor on which parts are finished
already, so that a part has the same bytes however it came about.
"""

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from charrnn.runs.execute import default_workers, run_partitions
from charrnn.runs.plan import RunPlan
from charrnn.scoring.columns import Predictions
from charrnn.scoring.inputs import names_in
from charrnn.scoring.options import ComputeOptions, ScoreOptions
from charrnn.scoring.pool import NamePool, slots_of
from charrnn.scoring.scorer import Scorer
from charrnn.tables.columns import as_large_string
from charrnn.tables.row_groups import PARTITION_BYTES, RowGroup, read_groups

_LEAST_PARTITIONS = 4  # fewer have little to share
_SAMPLED_ROWS = 2**22  # rows that are looked at, about, and half of the row groups at most
_SAMPLED_GROUPS = 2**8  # row groups that are read for that, at most
_SAMPLED_AT_ONCE = 2**20  # rows of a row group that is read, at most
_MOST_DISTINCT = 0.5  # of the first row group's rows: above, names hardly repeat
_NAMES = 2**19  # in a pool, at most,
_LONGEST = 2**6  # bytes of each, at most,
_VALUES = 2**26  # and these times labels, at most, where every label has a column
_BLOCK = 2**15  # names that a worker scores at a time; sorted, so that they share prefixes


def name_pool(
    plan: RunPlan, scorer: Scorer, options: ScoreOptions, compute: ComputeOptions
) -> NamePool | None:
    """Return answers for names that come in several partitions; None where there are too few
    partitions, or names hardly repeat, and on a GPU, which answers faster than a pool is asked.

    Args:
        options: with a settled prior.
    """
    if scorer.device.type != "cpu" or len(plan.partitions) < _LEAST_PARTITIONS:
        return None
    workers = compute.workers or default_workers(scorer.device)

    def each(groups: Sequence[RowGroup]) -> list[pa.LargeStringArray]:
        return run_partitions(
            groups, lambda group: _distinct(group, options), workers=workers,
            stopping=scorer.stopping,
        )  # fmt: skip

    wide = options.probabilities or options.coverage_target
    most = min(_NAMES, _VALUES // len(scorer.version.labels)) if wide else _NAMES
    names = _repeated(_sample(plan), each, most)
    if names is None:
        return None
    pa.default_memory_pool().release_unused()  # what reading the sample took, some 40 MB
    # Before the workers: threads of Polars that start when these have ended take over what glibc
    # keeps for them, up to 64 MB each, and the workers of the partitions take as much again.
    slots = slots_of(names)
    blocks = [names.slice(first, _BLOCK) for first in range(0, len(names), _BLOCK)]
    predictions = run_partitions(
        blocks, lambda block: scorer.predict(block, options), workers=workers,
        stopping=scorer.stopping,
    )  # fmt: skip
    return NamePool(names, Predictions.joined(predictions), slots)


def _sample(plan: RunPlan) -> list[RowGroup]:
    """Return row groups from all over the input."""
    groups = [group for partition in plan.partitions for group in partition.groups if group.rows]
    rows = sum(group.rows for group in groups)
    step = max(2, -(-rows // _SAMPLED_ROWS), -(-len(groups) // _SAMPLED_GROUPS))
    return [
        group
        for group in groups[::step]
        if group.rows <= _SAMPLED_AT_ONCE and group.size <= PARTITION_BYTES
    ]


def _distinct(group: RowGroup, options: ScoreOptions) -> pa.LargeStringArray:
    """Return the distinct names of a row group that are not too long, large_string."""
    columns = list(options.name_fields.values())
    names = pc.unique(as_large_string(names_in(read_groups([group], columns), options)))
    return names.filter(pc.less_equal(pc.binary_length(names), _LONGEST))  # drops null


def _repeated(
    sample: list[RowGroup],
    each: Callable[[Sequence[RowGroup]], list[pa.LargeStringArray]],
    most: int,
) -> pa.LargeStringArray | None:
    """Return the names of the sample, sorted, those that most of its groups have where there are
    too many; None where names hardly repeat."""
    first = each(sample[:1])
    if not sample or len(first[0]) > _MOST_DISTINCT * sample[0].rows:
        return None
    counts = pc.value_counts(pa.concat_arrays([*first, *each(sample[1:])]))
    names = counts.field("values")
    if len(names) > most:
        often = np.argsort(-counts.field("counts").to_numpy(), kind="stable")
        names = names.take(pa.array(often[:most]))
    return pl.Series(names).sort().to_arrow().cast(pa.large_string()) if len(names) else None
