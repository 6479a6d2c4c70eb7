"""Two models on one table: which rows would change if the challenger took over?

Every partition is read once and its names made distinct once; both models answer the distinct
names. There is no truth here, so a comparison says what changes, not which model is right: for
that, `train.py compare` has labelled names.

A comparison is published like a run (see ``runs``): a folder of its own, by one rename, with a
manifest, a report, ``SHA256SUMS``, and on request the rows that change, as parts.
"""

from __future__ import annotations

__all__ = ["CHANGES", "Comparison", "Part", "compare_partitions", "comparison_manifest"]

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from charrnn.runs.manifest import SCHEMA_VERSION
from charrnn.runs.parts import part_path, write_part
from charrnn.runs.plan import RunPlan
from charrnn.scoring.columns import Predictions
from charrnn.scoring.options import SCORED, ScoreOptions
from charrnn.scoring.scorer import Scorer
from charrnn.tables.columns import as_large_string
from charrnn.tables.row_groups import Partition, read_groups

CHANGES = (-1.0, -0.5, -0.2, -0.1, -0.05, -0.01, 0.01, 0.05, 0.1, 0.2, 0.5, 1.0)  # edges of bins
NONE = "(no language)"


@dataclass(frozen=True)
class Part:
    """The written rows that change of one partition, as a manifest lists it."""

    name: str
    first_row: int
    rows: int
    size: int
    sha256: str


@dataclass(frozen=True)
class Comparison:
    """What two models say about the rows of a partition, or of all of them.

    Attributes:
        labels: of either model, sorted, then ``NONE``: K of them.
        pairs: rows by the champion's label and the challenger's, int64 ``(K, K)``.
        distinct: distinct names, counted within each partition.
        confidence: summed over the rows with a language from both: the champion's, the
            challenger's, float64 ``(2,)``.
        changes: of those rows, how many gain or lose how much confidence; bins of ``CHANGES``.
    """

    labels: tuple[str, ...]
    pairs: npt.NDArray[np.int64]
    distinct: int
    confidence: npt.NDArray[np.float64]
    changes: npt.NDArray[np.int64]

    @property
    def rows(self) -> int:
        """All rows compared."""
        return int(self.pairs.sum())

    @property
    def both(self) -> int:
        """Rows to which both models give a language."""
        return int(self.pairs[:-1, :-1].sum())

    @property
    def agreed(self) -> int:
        """Rows to which both give the same language."""
        return int(np.trace(self.pairs[:-1, :-1]))

    @property
    def changed(self) -> int:
        """Rows whose language changes, appears or disappears."""
        return self.rows - int(np.trace(self.pairs))

    def __add__(self, other: Comparison) -> Comparison:
        return Comparison(
            self.labels,
            self.pairs + other.pairs,
            self.distinct + other.distinct,
            self.confidence + other.confidence,
            self.changes + other.changes,
        )

    def flips(self) -> list[tuple[str, str, int]]:
        """Return (champion's label, challenger's label, rows) of what changes, most rows first."""
        found = [
            (self.labels[i], self.labels[j], int(self.pairs[i, j]))
            for i, j in np.argwhere(self.pairs).tolist()
            if i != j
        ]
        return sorted(found, key=lambda flip: (-flip[2], flip[:2]))

    def class_rows(self) -> list[tuple[str, int, int]]:
        """Return (label, champion's rows, challenger's rows), the champion's largest first."""
        ours, theirs = self.pairs.sum(axis=1).tolist(), self.pairs.sum(axis=0).tolist()
        found = [row for row in zip(self.labels, ours, theirs, strict=True) if row[1] or row[2]]
        return sorted(found, key=lambda row: (-row[1], row[0]))


def compare_partitions(
    plan: RunPlan,
    champion: Scorer,
    challenger: Scorer,
    options: ScoreOptions,
    *,
    every: int,
    write_flips: bool,
    workers: int,
    on_part: Callable[[int], None] = lambda rows: None,
) -> tuple[Comparison, list[Part]]:
    """Compare two models on every ``every``-th row of a plan's input, ``workers`` partitions at a
    time; with ``write_flips``, write the rows that change as parts into the plan's staging folder.

    ``on_part`` is called with the rows of each partition that is done.
    """
    labels = (*sorted({*champion.version.labels, *challenger.version.labels}), NONE)

    def compare(partition: Partition) -> tuple[int, Comparison, Part | None]:
        found, flips = _compare_partition(
            partition, champion, challenger, options, labels=labels, every=every
        )
        part = _write_flips(flips, plan, partition) if write_flips else None
        return partition.index, found, part

    done: dict[int, tuple[Comparison, Part | None]] = {}
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        pending = {pool.submit(compare, partition): partition for partition in plan.partitions}
        try:
            for finished in as_completed(pending):
                index, found, part = finished.result()
                done[index] = (found, part)
                on_part(pending[finished].rows)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    in_order = [done[partition.index] for partition in plan.partitions]
    whole = reduce(add, (found for found, _ in in_order))
    return whole, [part for _, part in in_order if part is not None]


def _compare_partition(
    partition: Partition,
    champion: Scorer,
    challenger: Scorer,
    options: ScoreOptions,
    *,
    labels: Sequence[str],
    every: int,
) -> tuple[Comparison, pa.Table]:
    names = as_large_string(read_groups(partition.groups)[options.name_column])
    rows = np.arange(-partition.first_row % every, len(names), every)
    coded = names.take(pa.array(rows)).combine_chunks().dictionary_encode()
    codes, distinct = coded.indices, coded.dictionary
    ours, theirs = (scorer.predict(distinct, options) for scorer in (champion, challenger))
    a = _label_ids(ours, champion.version.labels, labels)
    b = _label_ids(theirs, challenger.version.labels, labels)
    K = len(labels)
    of_name = np.bincount(codes.drop_null().to_numpy(), minlength=len(distinct))  # rows
    pairs = np.bincount(a * K + b, of_name, K * K).astype(np.int64).reshape(K, K)
    pairs[K - 1, K - 1] += codes.null_count
    p, q = (found.confidence[:, 0].astype(np.float64) for found in (ours, theirs))
    both = (a < K - 1) & (b < K - 1)
    answered = of_name * both
    bins = np.searchsorted(CHANGES[1:-1], q - p, side="right")
    found = Comparison(
        labels=tuple(labels),
        pairs=pairs,
        distinct=len(distinct),
        confidence=np.array([p @ answered, q @ answered]),
        changes=np.bincount(bins, answered, len(CHANGES) - 1).astype(np.int64),
    )
    flipped = np.flatnonzero(pa.array(a != b).take(codes).fill_null(False).to_numpy(False))
    which = codes.take(pa.array(flipped)).to_numpy()
    columns: dict[str, pa.Array] = {"row": pa.array(partition.first_row + rows[flipped])}
    for side, ids, confidence in (("champion", a, p), ("challenger", b, q)):
        none = ids[which] == K - 1
        codes_of = pa.array(ids[which].astype(np.int32), mask=none)
        columns[side] = pa.DictionaryArray.from_arrays(codes_of, pa.array(labels[:-1], pa.string()))
        columns[f"{side}_confidence"] = pa.array(confidence[which].astype(np.float32), mask=none)
    return found, pa.table(columns)


def _label_ids(
    found: Predictions, own: Sequence[str], labels: Sequence[str]
) -> npt.NDArray[np.int64]:
    """Return the label of each name as an index into ``labels``, the last where it has none."""
    place = np.array([labels.index(label) for label in own])
    return np.where(found.status == SCORED, place[found.ranked[:, 0]], len(labels) - 1)


def _write_flips(flips: pa.Table, plan: RunPlan, partition: Partition) -> Part:
    path: Path = part_path(plan.staging, partition.index)
    sha256 = write_part(flips, path, plan, partition)
    return Part(path.name, partition.first_row, flips.num_rows, path.stat().st_size, sha256)


def comparison_manifest(
    plan: RunPlan, found: Comparison, parts: Sequence[Part], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the manifest of a comparison; ``facts`` adds what only the caller knows: both models,
    the time, durations, libraries, device."""
    rows, both = found.rows, found.both
    return {
        "kind": "comparison",
        "schema_version": SCHEMA_VERSION,
        "fingerprint": plan.fingerprint,
        **facts,
        "options": plan.options,
        "inputs": [
            {"name": f.path.name, "size": f.size, "sha256": f.sha256} for f in plan.source.files
        ],
        "input_counts": plan.source.counts,
        "rows": plan.source.rows,
        "compared": rows,
        "distinct": found.distinct,
        "answered_by_both": both,
        "agreed": found.agreed,
        "agreement": found.agreed / both if both else None,
        "changed": found.changed,
        "mean_confidence": (found.confidence / both).tolist() if both else None,
        "confidence_changes": {"edges": list(CHANGES), "rows": found.changes.tolist()},
        "flips": [list(flip) for flip in found.flips()],
        "class_rows": [list(row) for row in found.class_rows()],
        "parts": [vars(part) for part in parts],
    }
