"""Compare two models on one table: which rows would change if the challenger took over?

Both models score the distinct names of each partition. The table has no true labels, so a
comparison says what changes, not which model is right: for that, see ``recipes.evaluate``.

A comparison is published like a run (see ``publish``): a folder of its own, by one rename, with a
manifest, a report, ``SHA256SUMS``, and on request the rows that change, as parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from charrnn.model.labels import shared_label_name
from charrnn.runs.execute import default_workers, run_partitions
from charrnn.runs.manifest import (
    ComparisonManifest,
    ConfidenceChanges,
    ModelRef,
    PartRecord,
    RunFacts,
)
from charrnn.runs.parts import part_name, part_path, write_part
from charrnn.runs.plan import RunPlan
from charrnn.scoring.columns import Predictions
from charrnn.scoring.inputs import names_in
from charrnn.scoring.options import SCORED, ScoreOptions
from charrnn.scoring.scorer import Scorer
from charrnn.tables.columns import as_large_string
from charrnn.tables.row_groups import Partition, read_groups

CHANGES = (-1.0, -0.5, -0.2, -0.1, -0.05, -0.01, 0.01, 0.05, 0.1, 0.2, 0.5, 1.0)  # bin edges


@dataclass(frozen=True)
class ModelPair:
    """The model in use and the one that may replace it, ready to score."""

    champion: Scorer
    challenger: Scorer

    @property
    def label_name(self) -> str:
        """What the labels of both models are, "label" where these differ."""
        scorers = (self.champion, self.challenger)
        return shared_label_name(scorer.version.label_name for scorer in scorers)

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of either model, sorted, then ``no_label``."""
        labels = {*self.champion.version.labels, *self.challenger.version.labels}
        return (*sorted(labels), no_label(self.label_name))


def no_label(label_name: str) -> str:
    """Return what stands for rows without a label.

    >>> no_label("language")
    '(no language)'
    """
    return f"(no {label_name})"


@dataclass(frozen=True)
class Comparison:
    """What two models say about the rows of a partition, or of all of them.

    Attributes:
        labels: of either model, sorted, then ``no_label``: K of them.
        pairs: rows by the champion's label and the challenger's, int64 ``(K, K)``.
        distinct: distinct names, counted within each partition.
        confidence: summed over the rows with a label from both: the champion's, the
            challenger's, float64 ``(2,)``.
        changes: of those rows, how many gain or lose how much confidence; bins of ``CHANGES``.
    """

    labels: tuple[str, ...]
    pairs: npt.NDArray[np.int64]
    distinct: int
    confidence: npt.NDArray[np.float64]
    changes: npt.NDArray[np.int64]

    def __add__(self, other: Comparison) -> Comparison:
        return Comparison(
            self.labels,
            self.pairs + other.pairs,
            self.distinct + other.distinct,
            self.confidence + other.confidence,
            self.changes + other.changes,
        )

    def counts(self) -> dict[str, Any]:
        """Return the fields of a ``ComparisonManifest`` that count rows and labels."""
        pairs, labels = self.pairs, self.labels
        rows, both = int(pairs.sum()), int(pairs[:-1, :-1].sum())
        agreed = int(np.trace(pairs[:-1, :-1]))
        flips = [
            (labels[i], labels[j], int(pairs[i, j]))
            for i, j in np.argwhere(pairs).tolist()
            if i != j
        ]
        of_labels = zip(labels, pairs.sum(axis=1).tolist(), pairs.sum(axis=0).tolist(), strict=True)
        class_rows = [row for row in of_labels if row[1] or row[2]]
        return {
            "compared": rows,
            "distinct": self.distinct,
            "answered_by_both": both,
            "agreed": agreed,
            "agreement": agreed / both if both else None,
            "changed": rows - int(np.trace(pairs)),
            "mean_confidence": tuple((self.confidence / both).tolist()) if both else None,
            "confidence_changes": ConfidenceChanges(CHANGES, tuple(self.changes.tolist())),
            "flips": tuple(sorted(flips, key=lambda flip: (-flip[2], flip[:2]))),
            "class_rows": tuple(sorted(class_rows, key=lambda row: (-row[1], row[0]))),
        }


def compare_partitions(
    plan: RunPlan,
    models: ModelPair,
    *,
    every: int,
    write_flips: bool,
    workers: int | None,
    on_part: Callable[[int], None] = lambda rows: None,
) -> tuple[Comparison, list[PartRecord]]:
    """Compare two models on every ``every``-th row of a plan's input; failures and interrupts as
    in ``execute.run_partitions``.

    Args:
        write_flips: write the rows that change as parts into the plan's staging folder.
        workers: threads; None: see ``execute.default_workers``.
        on_part: called with the rows of each partition that is done.
    """

    def compare(partition: Partition) -> tuple[int, Comparison, PartRecord | None]:
        comparison, flips = _compare_partition(partition, plan.key.options.scoring, models, every)
        if not write_flips:
            return partition.rows, comparison, None
        path = part_path(plan.staging, partition.index)
        sha256, size = write_part(flips, path, plan, partition), path.stat().st_size
        name = part_name(partition.index)
        part = PartRecord(name, partition.first_row, flips.num_rows, size, sha256)
        return partition.rows, comparison, part

    models.challenger.stopping = models.champion.stopping  # both end at their next pass
    results = run_partitions(
        plan.partitions,
        compare,
        workers=workers or default_workers(models.champion.device),
        stopping=models.champion.stopping,
        on_result=lambda result: on_part(result[0]),
    )
    whole = reduce(add, (comparison for _, comparison, _ in results))
    return whole, [part for _, _, part in results if part is not None]


def _compare_partition(
    partition: Partition, options: ScoreOptions, models: ModelPair, every: int
) -> tuple[Comparison, pa.Table]:
    """Return the comparison of a partition, and the rows that change."""
    champion, challenger, labels = models.champion, models.challenger, models.labels
    names = as_large_string(names_in(read_groups(partition.groups), options))
    rows = np.arange(-partition.first_row % every, len(names), every)
    coded = names.take(pa.array(rows)).combine_chunks().dictionary_encode()
    codes, distinct = coded.indices, coded.dictionary
    ours, theirs = (scorer.predict(distinct, options) for scorer in (champion, challenger))
    a = _label_ids(ours, champion.version.labels, labels)
    b = _label_ids(theirs, challenger.version.labels, labels)
    K = len(labels)
    name_rows = np.bincount(codes.drop_null().to_numpy(), minlength=len(distinct))
    pairs = np.bincount(a * K + b, name_rows, K * K).astype(np.int64).reshape(K, K)
    pairs[K - 1, K - 1] += codes.null_count
    p, q = (scored.confidence[:, 0].astype(np.float64) for scored in (ours, theirs))
    both = (a < K - 1) & (b < K - 1)
    answered = name_rows * both
    bins = np.searchsorted(CHANGES[1:-1], q - p, side="right")
    comparison = Comparison(
        labels=labels,
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
    return comparison, pa.table(columns)


def _label_ids(
    predictions: Predictions, own: Sequence[str], labels: Sequence[str]
) -> npt.NDArray[np.int64]:
    """Return the label of each name as an index into ``labels``, the last where it has none."""
    place = np.array([labels.index(label) for label in own])
    return np.where(predictions.status == SCORED, place[predictions.ranked[:, 0]], len(labels) - 1)


def comparison_manifest(
    plan: RunPlan,
    models: ModelPair,
    comparison: Comparison,
    parts: Sequence[PartRecord],
    facts: RunFacts,
    *,
    sample: int,
    flips_written: bool,
) -> ComparisonManifest:
    """Return the manifest of a finished comparison."""
    return ComparisonManifest(
        **asdict(facts),
        **plan.facts(),
        **comparison.counts(),
        champion=ModelRef.of(models.champion.version),
        challenger=ModelRef.of(models.challenger.version),
        sample=sample,
        flips_written=flips_written,
        parts=tuple(parts),
    )
