"""Score the partitions of a plan on this machine."""

import itertools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from charrnn.errors import StorageError
from charrnn.model.gpu import use_own_stream
from charrnn.monitoring.profile import profile_of_rows
from charrnn.runs.parts import (
    PartReceipt,
    count_values,
    part_path,
    read_receipt,
    write_part,
    write_receipt,
)
from charrnn.runs.plan import RunPlan
from charrnn.scoring.columns import prediction_columns
from charrnn.scoring.dictionary import added_columns
from charrnn.scoring.inputs import names_in
from charrnn.scoring.names import hide_names
from charrnn.scoring.options import ComputeOptions, ScoreOptions
from charrnn.scoring.scorer import OnShare, Scorer
from charrnn.tables.columns import without_notes
from charrnn.tables.row_groups import Partition, read_groups

_MOST_WORKERS = 8  # threads on a CPU: more hardly gain, and each holds a partition in memory
# Seconds between two looks for a signal: Polars replaces the handler of Ctrl-C by one that does not
# interrupt a thread that waits.
_SIGNAL_SECONDS = 0.2

Work = TypeVar("Work")
Result = TypeVar("Result")
OnRows = Callable[[int], None]
# Scores every partition of a plan and returns the receipts in order: here, or on a Ray cluster.
Executor = Callable[[RunPlan, Scorer, ScoreOptions, ComputeOptions, OnRows], list[PartReceipt]]


def score_partition(
    partition: Partition,
    plan: RunPlan,
    scorer: Scorer,
    options: ScoreOptions,
    on_share: OnShare = lambda share: None,
) -> PartReceipt:
    """Score one partition and write its part and receipt; a finished part is left alone.

    Args:
        on_share: see ``Scorer.answers``.

    Raises:
        DataError: the input is damaged. StorageError: the device lacks memory, or the disk fails.
    """
    finished = read_receipt(plan, partition)
    if finished is not None:
        return finished
    table = read_groups(partition.groups, schema=plan.source.schema)
    labels, label_column = scorer.version.labels, options.prefix + options.label_name
    try:
        names = names_in(table, options)
        predictions, codes = scorer.answers(names, options, plan.pool, on_share)
    except StorageError as error:  # of a device without memory
        last = partition.first_row + partition.rows - 1
        raise StorageError(
            f"rows {partition.first_row:,} to {last:,}: {error}", option=error.option
        ) from error
    policy = plan.key.options.names
    table = hide_names(table, options.name_fields.values(), policy, plan.name_key)
    # Metadata of the input may hold a name.
    schema = table.schema if policy == "keep" else without_notes(table.schema)
    fields, arrays = list(schema), table.columns
    columns = prediction_columns(predictions, codes, labels, options)
    if plan.key.options.stamp:
        columns |= _stamps(partition, plan, options.prefix)
    for name, added in added_columns(options, labels, stamp=plan.key.options.stamp).items():
        notes = {"description": added.meaning}
        fields.append(pa.field(name, columns[name].type, metadata=notes))
        arrays.append(columns[name])
    table = pa.Table.from_arrays(arrays, schema=pa.schema(fields, schema.metadata))
    part = part_path(plan.staging, partition.index)
    sha256 = write_part(table, part, plan, partition)
    scored = table[label_column].is_valid()
    confidence = pc.sum(pc.if_else(scored, table[options.prefix + "confidence"], 0.0)).as_py()
    receipt = PartReceipt(
        index=partition.index,
        first_row=partition.first_row,
        rows=table.num_rows,
        size=part.stat().st_size,
        sha256=sha256,
        statuses=count_values(table[options.prefix + "status"]),
        reasons=count_values(table[options.prefix + "reason"]),
        labels=count_values(table[label_column]),
        confidence_sum=float(confidence or 0.0),
        profile=profile_of_rows(predictions, codes, labels),
    )
    write_receipt(plan.staging, receipt)
    return receipt


def _stamps(partition: Partition, plan: RunPlan, prefix: str) -> dict[str, pa.Array]:
    """Return the columns of ``dictionary.STAMPS`` for the rows of a partition."""
    rows, model = partition.rows, plan.key.model
    texts = {"fingerprint": plan.key.fingerprint, "model": f"{model.name}@{model.digest[:12]}"}
    columns: dict[str, pa.Array] = {
        name: pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), pa.array([text]))
        for name, text in texts.items()
    }
    columns["row"] = pa.array(np.arange(partition.first_row, partition.first_row + rows))
    return {prefix + name: column for name, column in columns.items()}


def score_partitions(
    plan: RunPlan,
    scorer: Scorer,
    options: ScoreOptions,
    compute: ComputeOptions,
    on_rows: OnRows = lambda rows: None,
) -> list[PartReceipt]:
    """Score every partition of a plan in threads of this process; return the receipts in order.

    Each worker reads, scores and writes a partition of its own, so that reading, computing and
    writing overlap; torch, NumPy, Arrow and zstd release Python's lock. Where there are several
    GPUs, workers take turns in getting one. See ``run_partitions`` for failures.

    Args:
        options: with a settled prior (see ``Scorer.settle_prior``).
        on_rows: called, one call at a time, with the number of rows done since the last call: those
            of a block of names whose scoring has begun, and what is left when a part is finished.
    """
    replicas, own = itertools.cycle(scorer.replicas()), threading.local()
    telling = threading.Lock()

    def start_worker() -> None:
        own.scorer = next(replicas)
        use_own_stream(own.scorer.device)

    def score(partition: Partition) -> PartReceipt:
        told = 0

        def on_share(share: float) -> None:
            nonlocal told
            rows = int(partition.rows * share) - told
            told += rows
            with telling:
                on_rows(rows)

        receipt = score_partition(partition, plan, own.scorer, options, on_share)
        on_share(1.0)
        return receipt

    return run_partitions(
        plan.partitions,
        score,
        workers=compute.workers or default_workers(scorer.device),
        stopping=scorer.stopping,
        start_worker=start_worker,
    )


def default_workers(device: torch.device) -> int:
    """Return how many partitions to score at a time: one per processor, at most 8 on a CPU. (Beside
    a GPU, workers only read, encode and write.)"""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (cores or 1) if device.type == "cuda" else min(_MOST_WORKERS, cores or 1)


def run_partitions(
    partitions: Sequence[Work],
    work: Callable[[Work], Result],
    *,
    workers: int,
    stopping: threading.Event,
    start_worker: Callable[[], None] = lambda: None,
    on_result: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Call ``work`` for every partition, or another piece of work, some at a time; return the
    results in order.

    The first failure, or an interrupt, stops the rest: ``stopping`` is set, which scorers look at
    before every pass, partitions in work are dropped, and finished parts stay for a rerun.

    Args:
        workers: threads.
        stopping: shared by the scorers that ``work`` uses.
        start_worker: called once in every thread, which runs torch on one core.
        on_result: called with each result as it is there.
    """

    def start() -> None:
        torch.set_num_threads(1)
        start_worker()

    with ThreadPoolExecutor(workers, initializer=start) as pool:
        try:
            pending = [pool.submit(work, partition) for partition in partitions]
        except BaseException:  # a signal: the pool may not know the thread that it was starting
            stopping.set()
            raise
        try:
            unfinished = set(pending)
            while unfinished:
                done, unfinished = wait(unfinished, _SIGNAL_SECONDS, FIRST_COMPLETED)
                for finished in done:
                    on_result(finished.result())
        except BaseException:
            stopping.set()
            pool.shutdown(cancel_futures=True)
            stopping.clear()
            raise
    return [finished.result() for finished in pending]
