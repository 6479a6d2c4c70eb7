"""Score the partitions of a plan on this machine."""

from __future__ import annotations

__all__ = ["score_partition", "score_partitions"]

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict

import pyarrow.compute as pc
import torch

from charrnn.errors import ConfigError, StorageError
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
from charrnn.scoring.columns import answer_columns
from charrnn.scoring.names import hide_names
from charrnn.scoring.options import ScoreOptions
from charrnn.scoring.scorer import Scorer
from charrnn.tables.row_groups import Partition, read_groups


def score_partition(
    partition: Partition, plan: RunPlan, scorer: Scorer, options: ScoreOptions
) -> PartReceipt:
    """Score one partition and write its part and receipt; a finished part is left alone."""
    done = read_receipt(plan, partition)
    if done is not None:
        return done
    table = read_groups(partition.groups)
    labels = scorer.version.labels
    try:
        found, codes = scorer.answers(table[options.name_column], options)
    except StorageError as error:  # of a device without memory
        last = partition.first_row + partition.rows - 1
        raise StorageError(f"rows {partition.first_row:,} to {last:,}: {error}") from error
    for name, column in answer_columns(found, codes, labels, options).items():
        table = table.append_column(name, column)
    table = hide_names(table, options.name_column, plan.options["names"], plan.name_key)
    part = part_path(plan.staging, partition.index)
    sha256 = write_part(table, part, plan, partition)
    counts = {
        name: count_values(table[options.prefix + name])
        for name in ("status", "reason", "language")
    }
    scored = table[options.prefix + "language"].is_valid()
    confidence = pc.sum(pc.if_else(scored, table[options.prefix + "confidence"], 0.0)).as_py()
    receipt = PartReceipt(
        index=partition.index,
        first_row=partition.first_row,
        rows=table.num_rows,
        size=part.stat().st_size,
        sha256=sha256,
        statuses=counts["status"],
        reasons=counts["reason"],
        labels=counts["language"],
        confidence_sum=float(confidence or 0.0),
        profile=asdict(profile_of_rows(found, codes, labels)),
    )
    write_receipt(plan.staging, receipt)
    return receipt


def score_partitions(
    plan: RunPlan,
    scorer: Scorer,
    options: ScoreOptions,
    *,
    workers: int,
    on_part: Callable[[PartReceipt], None] = lambda receipt: None,
) -> list[PartReceipt]:
    """Score every partition of a plan, ``workers`` at a time; return the receipts in order.

    Each worker reads, scores and writes a partition of its own, so that reading, computing and
    writing overlap; torch, numpy, Arrow and zstd all work outside Python's lock. Workers take turns
    in getting a GPU of their own, where there are several. ``on_part`` is called as parts finish.
    The first failure, or an interrupt, stops the run: parts in work are dropped at their next
    pass, finished ones stay for a rerun.
    """
    if workers < 1:
        raise ConfigError(f"workers are {workers}; there must be at least 1")
    receipts: dict[int, PartReceipt] = {}
    replicas, own = itertools.cycle(scorer.replicas()), threading.local()

    def start_worker() -> None:
        torch.set_num_threads(1)
        own.scorer = next(replicas)

    def work(partition: Partition) -> PartReceipt:
        return score_partition(partition, plan, own.scorer, options)

    with ThreadPoolExecutor(workers, initializer=start_worker) as pool:
        pending = [pool.submit(work, partition) for partition in plan.partitions]
        try:
            for finished in as_completed(pending):
                receipt = finished.result()
                receipts[receipt.index] = receipt
                on_part(receipt)
        except BaseException:
            scorer.stopping.set()
            pool.shutdown(cancel_futures=True)
            scorer.stopping.clear()
            raise
    return [receipts[partition.index] for partition in plan.partitions]
