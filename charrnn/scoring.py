"""The engine: names in, one row of predictions per name out, in order.

Equal names are scored once: the names become codes into a table of distinct names, the distinct
names are encoded, cut into exact-length batches and run through the network, and every column of
the answer is the distinct answer taken by code. Logits become probabilities and ranked labels on
the device; only those come back.

The row contract: every input row appears exactly once, in order, its own columns untouched, with
a status (``scored``, ``abstained``, ``unscored``) and, unless it was scored, a reason.
"""

from __future__ import annotations

__all__ = [
    "Predictions",
    "ScoreOptions",
    "Scorer",
    "pick_device",
    "score_partition",
    "score_partitions",
]

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from charrnn.errors import ConfigError, DataError
from charrnn.inference import batches
from charrnn.runs import Receipt, RunPlan, part_path, read_receipt, write_part, write_receipt
from charrnn.tables import Partition, is_text, read_partition
from charrnn.versions import ModelVersion, resolve
from charrnn.vocabulary import Encoded

STATUSES = ("scored", "abstained", "unscored")
# Why a name was not scored; None (index 0) means it was.
REASONS = (
    None,
    "null_name",
    "empty_name",
    "too_long",
    "unknown_script",
    "no_letters",
    "low_confidence",
)
_SCORED, _ABSTAINED, _UNSCORED = range(3)
_BATCH_SIZE = {"cpu": 1024, "cuda": 32768}  # names of one length in one forward pass


@dataclass(frozen=True)
class ScoreOptions:
    """What is asked of the engine; all of it is part of a run's fingerprint.

    Args:
        name_column: the input column that holds the names.
        top_k: how many labels to give per name, most likely first, at least 1.
        probabilities: also give one column per label.
        prefix: put before every column of ours.
        min_confidence: abstain below this confidence, 0 to 1; 0 never abstains.
        max_length: longest name that is scored, in characters.
        max_unknown: largest share of characters outside the model's vocabulary, 0 to 1.

    Raises:
        ConfigError: a value is out of range.
    """

    name_column: str = "name"
    top_k: int = 3
    probabilities: bool = False
    prefix: str = ""
    min_confidence: float = 0.0
    max_length: int = 256
    max_unknown: float = 0.3

    def __post_init__(self) -> None:
        if self.top_k < 1 or self.max_length < 1:
            raise ConfigError("top_k and max_length must be at least 1")
        if not (0 <= self.min_confidence <= 1 and 0 <= self.max_unknown <= 1):
            raise ConfigError("min_confidence and max_unknown must be between 0 and 1")

    def columns(self, labels: Sequence[str]) -> list[str]:
        """Return the names of the columns that scoring adds, in order."""
        names: list[str] = []
        for rank in range(1, min(self.top_k, len(labels)) + 1):
            suffix = "" if rank == 1 else f"_{rank}"
            names += [f"language{suffix}", f"confidence{suffix}"]
        names += ["status", "reason"]
        if self.probabilities:
            names += [f"probability_{label}" for label in labels]
        return [self.prefix + name for name in names]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Predictions:
    """Answers for N names (L labels, k ranks).

    Attributes:
        ranked: label ids, most likely first, ``(N, k)``; meaningless where reason is not 0.
        confidence: their probabilities, float32 ``(N, k)``.
        probabilities: of every label, float32 ``(N, L)``, or None when not asked for.
        status: index into ``STATUSES``, uint8 ``(N,)``.
        reason: index into ``REASONS``, uint8 ``(N,)``.
    """

    ranked: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float32]
    probabilities: npt.NDArray[np.float32] | None
    status: npt.NDArray[np.uint8]
    reason: npt.NDArray[np.uint8]


class Scorer:
    """A model version on a device, ready to score names."""

    def __init__(
        self, version: ModelVersion, device: str = "cpu", batch_size: int | None = None
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise ConfigError(f"batch size is {batch_size}; it must be at least 1")
        self.version = version
        self.device = pick_device(device)
        self.batch_size = batch_size or _BATCH_SIZE[self.device.type]
        self.network = version.network(self.device)

    @classmethod
    def load(
        cls,
        model: str = "pretrained",
        *,
        models: Path | str = "outputs/models",
        device: str = "cpu",
        batch_size: int | None = None,
    ) -> Scorer:
        """Load a scorer for ``pretrained``, ``pretrained-tiny``, an alias or a version in the
        folder ``models``.

        Raises:
            ModelError: there is no such model, or it does not verify.
            ConfigError: there is no such device.
        """
        return cls(resolve(model, Path(models)), device, batch_size)

    def score(
        self, names: Sequence[str | None] | pl.Series | pa.Array | pa.ChunkedArray, **options: Any
    ) -> pl.DataFrame:
        """Score names and return one row per name, in order.

        Args:
            names: a list, Polars Series or Arrow array of strings; None is allowed.
            options: fields of ``ScoreOptions``, such as ``top_k=5``.

        Returns:
            The names in column ``name``, then ``language``, ``confidence``, …, ``status`` and
            ``reason`` as in the README's table.
        """
        chosen = ScoreOptions(**options)
        if chosen.name_column in chosen.columns(self.version.labels):
            raise ConfigError(
                f"column {chosen.name_column!r} would be both the names and an answer; "
                "give another name_column, or a prefix"
            )
        array = _text_array(names)
        table = pa.table({chosen.name_column: array, **self.columns(array, chosen)})
        frame = pl.from_arrow(table)
        assert isinstance(frame, pl.DataFrame)
        return frame

    def columns(
        self, names: pa.Array | pa.ChunkedArray, options: ScoreOptions
    ) -> dict[str, pa.Array]:
        """Return the columns that scoring adds for N names, each of N rows, by name.

        Raises:
            DataError: ``names`` is not an array of text.
        """
        codes, distinct = _distinct(names)
        predictions = self.predict(distinct, options)
        return _columns(predictions, codes, self.version.labels, options)

    def predict(self, names: pa.Array, options: ScoreOptions) -> Predictions:
        """Score every name of a large_string array without nulls, equal or not."""
        short = pc.less_equal(pc.utf8_length(names), options.max_length)
        encoded = self.version.vocabulary.encode(pc.if_else(short, names, ""))
        reason = np.select(
            [
                ~short.to_numpy(zero_copy_only=False),
                encoded.lengths == 0,
                encoded.unknown > options.max_unknown * encoded.lengths,
                encoded.letters == 0,
            ],
            [REASONS.index(r) for r in ("too_long", "empty_name", "unknown_script", "no_letters")],
            default=0,
        ).astype(np.uint8)
        k = min(options.top_k, len(self.version.labels))
        every = np.zeros((len(names), len(self.version.labels) if options.probabilities else 0))
        probabilities = every.astype(np.float32)
        ranked = np.zeros((len(names), k), np.int64)
        confidence = np.zeros((len(names), k), np.float32)
        scoreable = np.flatnonzero(reason == 0)
        for batch in batches(encoded.lengths[scoreable], self.batch_size):
            rows = scoreable[batch]
            of_all = self._probabilities(encoded, rows)
            # A stable sort, so that equal probabilities rank by label on every device.
            values, order = torch.sort(of_all, dim=1, descending=True, stable=True)
            ranked[rows] = order[:, :k].cpu().numpy()
            confidence[rows] = values[:, :k].cpu().numpy()
            if options.probabilities:
                probabilities[rows] = of_all.cpu().numpy()
        doubtful = (reason == 0) & (confidence[:, 0] < options.min_confidence)
        status = np.where(reason == 0, _SCORED, _UNSCORED)
        reason[doubtful] = REASONS.index("low_confidence")
        status[doubtful] = _ABSTAINED
        return Predictions(
            ranked=ranked,
            confidence=confidence,
            probabilities=probabilities if options.probabilities else None,
            status=status.astype(np.uint8),
            reason=reason,
        )

    @torch.inference_mode()
    def _probabilities(self, encoded: Encoded, rows: npt.NDArray[np.int64]) -> Tensor:
        """Return the calibrated probabilities of names of one length, ``(B, L)``."""
        ids, _ = encoded.padded(rows)
        logits = self.network(torch.from_numpy(ids).to(self.device))
        return torch.softmax(logits / self.version.temperature, dim=1)


def score_partition(
    partition: Partition, plan: RunPlan, scorer: Scorer, options: ScoreOptions
) -> Receipt:
    """Score one partition and write its part and receipt; a finished part is left alone."""
    done = read_receipt(plan, partition)
    if done is not None:
        return done
    table = read_partition(partition)
    for name, column in scorer.columns(table[options.name_column], options).items():
        table = table.append_column(name, column)
    part = part_path(plan.staging, partition.index)
    sha256 = write_part(table, part, plan, partition)
    counts = {
        name: _counts(table[options.prefix + name]) for name in ("status", "reason", "language")
    }
    scored = pc.equal(table[options.prefix + "status"], "scored")
    confidence = pc.sum(pc.if_else(scored, table[options.prefix + "confidence"], 0.0)).as_py()
    receipt = Receipt(
        index=partition.index,
        first_row=partition.first_row,
        rows=table.num_rows,
        size=part.stat().st_size,
        sha256=sha256,
        statuses=counts["status"],
        reasons=counts["reason"],
        labels=counts["language"],
        confidence_sum=float(confidence or 0.0),
    )
    write_receipt(plan.staging, receipt)
    return receipt


def score_partitions(
    plan: RunPlan,
    scorer: Scorer,
    options: ScoreOptions,
    *,
    workers: int,
    on_part: Callable[[Receipt], None] = lambda receipt: None,
) -> list[Receipt]:
    """Score every partition of a plan, ``workers`` at a time; return the receipts in order.

    Each worker reads, scores and writes a partition of its own, so that reading, computing and
    writing overlap; torch, numpy, Arrow and zstd all work outside Python's lock. ``on_part`` is
    called as parts finish. The first failure stops the run; finished parts stay for a rerun.
    """
    receipts: dict[int, Receipt] = {}
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        pending = [
            pool.submit(score_partition, partition, plan, scorer, options)
            for partition in plan.partitions
        ]
        try:
            for finished in as_completed(pending):
                receipt = finished.result()
                receipts[receipt.index] = receipt
                on_part(receipt)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [receipts[partition.index] for partition in plan.partitions]


def pick_device(device: str) -> torch.device:
    """Return the torch device for ``auto`` (a GPU where there is one), ``cpu``, ``cuda`` or
    ``cuda:N``.

    Raises:
        ConfigError: there is no such device.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        chosen = None
    if chosen is None or chosen.type not in _BATCH_SIZE:
        raise ConfigError(f"unknown device {device!r}; use auto, cpu, cuda or cuda:N")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"there is no device {device!r} on this machine; use --device cpu")
    return chosen


def _text_array(names: Sequence[str | None] | pl.Series | pa.Array) -> pa.Array:
    """Return names as an Arrow array of text; raise DataError when they are something else."""
    if isinstance(names, pl.Series):
        if names.dtype not in (pl.String, pl.Categorical, pl.Enum, pl.Null):
            raise DataError(f"names are {names.dtype}; expected text (String)")
        return names.cast(pl.String).to_arrow()
    if isinstance(names, pa.Array | pa.ChunkedArray):
        return names
    listed = list(names)
    if isinstance(names, str) or not all(name is None or isinstance(name, str) for name in listed):
        raise DataError("names must be a list of texts (or None)")
    return pa.array(listed, pa.string())


def _distinct(names: pa.Array | pa.ChunkedArray) -> tuple[pa.Array, pa.Array]:
    """Return codes, int32 with null for null, and the distinct names, large_string, they index."""
    if not is_text(names.type):
        raise DataError(f"names are {names.type}; expected text (string)")
    if pa.types.is_dictionary(names.type):
        names = names.cast(names.type.value_type)
    # string_view has no hash kernel, and 2 GB of names overflow a string array.
    names = names.cast(pa.large_string())
    array = names.combine_chunks() if isinstance(names, pa.ChunkedArray) else names
    encoded = array.dictionary_encode()
    return encoded.indices, encoded.dictionary


def _columns(
    predictions: Predictions, codes: pa.Array, labels: Sequence[str], options: ScoreOptions
) -> dict[str, pa.Array]:
    """Spread the answers for distinct names over all rows."""
    known = predictions.reason == 0
    weak = predictions.status == _ABSTAINED  # keeps its confidences, gives no label
    arrays: list[pa.Array] = []
    for rank in range(predictions.ranked.shape[1]):
        arrays.append(_labels(predictions.ranked[:, rank], ~known, codes, labels))
        arrays.append(pa.array(predictions.confidence[:, rank], mask=~(known | weak)).take(codes))
    null = REASONS.index("null_name")
    status = pa.array(predictions.status).take(codes).fill_null(_UNSCORED)
    reason = pa.array(predictions.reason).take(codes).fill_null(null)
    arrays.append(pa.DictionaryArray.from_arrays(status.cast(pa.int8()), list(STATUSES)))
    given = pc.if_else(
        pc.equal(reason, 0), None, pc.subtract(reason.cast(pa.int8()), pa.scalar(1, pa.int8()))
    )
    arrays.append(pa.DictionaryArray.from_arrays(given, list(REASONS[1:])))
    if predictions.probabilities is not None:
        for column in predictions.probabilities.T:
            arrays.append(pa.array(np.ascontiguousarray(column), mask=~(known | weak)).take(codes))
    return dict(zip(options.columns(labels), arrays, strict=True))


def _labels(
    ids: npt.NDArray[np.int64],
    absent: npt.NDArray[np.bool_],
    codes: pa.Array,
    labels: Sequence[str],
) -> pa.Array:
    width = np.int8 if len(labels) <= 127 else np.int32
    indices = pa.array(ids.astype(width), mask=absent).take(codes)
    return pa.DictionaryArray.from_arrays(indices, pa.array(labels))


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    """Return how often each value occurs, nulls left out."""
    entries = column.drop_null().value_counts().to_pylist()
    return {entry["values"]: entry["counts"] for entry in entries}
