"""The engine: names in, one row of predictions per name out, in order.

Equal names are scored once: the names become codes into a table of distinct names, the distinct
names are encoded and run through the network by an ``Engine``, and every column of
the answer is the distinct answer taken by code. Logits become probabilities and ranked labels on
the device; only those come back.

The row contract: every input row appears exactly once, in order, its own columns untouched, with
a status (``scored``, ``abstained``, ``unscored``) and, unless it was scored, a reason.
"""

from __future__ import annotations

__all__ = ["Scorer", "pick_device"]

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from charrnn.errors import CharrnnError, ConfigError, DataError
from charrnn.model.calibration import conformal_threshold
from charrnn.model.engine import Engine
from charrnn.model.novelty import name_hashes
from charrnn.model.priors import MODES, PriorEstimate, corrected, correction, estimate_prior
from charrnn.model.version import ModelVersion, resolve
from charrnn.model.vocabulary import Encoded
from charrnn.scoring.columns import Predictions, answer_columns
from charrnn.scoring.options import REASONS, ScoreOptions
from charrnn.tables.columns import as_large_string, check_name_column, check_no_clash, is_text

Table = TypeVar("Table", pa.Table, pl.DataFrame)
_BATCH_SIZE = {"cpu": 2**14, "cuda": 2**15}  # names in one pass


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
        self.engine = Engine(self.network, self.batch_size, self._check_stopping)
        self.stopping = threading.Event()  # set: whoever is scoring gives up at the next pass

    def replicas(self) -> list[Scorer]:
        """Return this scorer and, where it is on ``cuda`` without a number, one more for each
        further GPU of the machine."""
        every = self.device.type == "cuda" and self.device.index is None
        numbers = range(1, torch.cuda.device_count()) if every else range(0)
        others = [Scorer(self.version, f"cuda:{i}", self.batch_size) for i in numbers]
        for other in others:
            other.stopping = self.stopping
        return [self, *others]

    @classmethod
    def load(
        cls,
        model: str = "pretrained",
        *,
        models: Path | str | None = None,
        device: str = "cpu",
        batch_size: int | None = None,
    ) -> Scorer:
        """Load a scorer for ``pretrained``, ``pretrained-tiny``, or an alias or a version in the
        folder ``models``.

        Raises:
            ModelError: there is no such model, or it is damaged.
            ConfigError: there is no such device.
        """
        return cls(resolve(model, None if models is None else Path(models)), device, batch_size)

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
        name_column = ScoreOptions(**options).name_column
        table = self.score_table(pa.table({name_column: _text_array(names)}), **options)
        frame = pl.from_arrow(table)
        assert isinstance(frame, pl.DataFrame)
        return frame

    def score_table(self, table: Table, **options: Any) -> Table:
        """Score a table's names and return the table with our columns added, rows in order.

        Args:
            table: an Arrow table or a Polars DataFrame; the same kind is returned.
            options: fields of ``ScoreOptions``, such as ``name_column="surname"``.

        Raises:
            DataError: there is no such column, it is not text, or a column of ours exists already.
        """
        chosen = ScoreOptions(**options)
        source = table.to_arrow() if isinstance(table, pl.DataFrame) else table
        check_name_column(source.schema, chosen.name_column)
        check_no_clash(source.schema, chosen.columns(self.version.labels))
        found = self.columns(source[chosen.name_column], chosen)
        if isinstance(table, pl.DataFrame):
            return table.with_columns(pl.Series(n, pl.from_arrow(a)) for n, a in found.items())
        for name, column in found.items():
            source = source.append_column(name, column)
        return source

    def expression(self, names: str | pl.Expr = "name", **options: Any) -> pl.Expr:
        """Return a Polars expression that scores a column into a struct of our columns::

            frame.with_columns(scorer.expression("surname").alias("origin")).unnest("origin")

        It works on whole batches in eager, lazy and streaming queries. A prior of ``estimate``
        would be estimated for every batch anew, so it is refused: use ``score_table``.
        """
        chosen = ScoreOptions(**options)
        if chosen.prior == "estimate":
            raise ConfigError("prior estimate needs the whole table; use score_table")
        answers = self.columns(pa.array([], pa.string()), chosen)
        kind = pl.from_arrow(pa.table(answers)).to_struct("").dtype  # type: ignore[union-attr]

        def score_batch(batch: pl.Series) -> pl.Series:
            found = pl.from_arrow(pa.table(self.columns(_text_array(batch), chosen)))
            assert isinstance(found, pl.DataFrame)
            return found.to_struct(batch.name)

        column = pl.col(names) if isinstance(names, str) else names
        return column.map_batches(score_batch, return_dtype=kind)

    def columns(
        self, names: pa.Array | pa.ChunkedArray, options: ScoreOptions
    ) -> dict[str, pa.Array]:
        """Return the columns that scoring adds for N names, each of N rows, by name.

        Raises:
            DataError: ``names`` is not an array of text.
        """
        found, codes = self.answers(names, options)
        return answer_columns(found, codes, self.version.labels, options)

    def answers(
        self, names: pa.Array | pa.ChunkedArray, options: ScoreOptions
    ) -> tuple[Predictions, pa.Array]:
        """Return the answers for the distinct ones of N names, and which of them each row has,
        int32 ``(N,)``, null for a null name; raises as ``columns`` does."""
        settled = self.settle_prior(names, options)[0]
        codes, distinct = _distinct(names)
        return self.predict(distinct, settled), codes

    def settle_prior(
        self, names: pa.Array | pa.ChunkedArray, options: ScoreOptions
    ) -> tuple[ScoreOptions, PriorEstimate | None]:
        """Return options whose prior is known, and the estimate if one was asked for; ``names``
        is the table to be scored, or a sample of it."""
        if options.prior == "uniform":
            count = len(self.version.labels)
            return replace(options, prior=(1 / count,) * count), None
        if isinstance(options.prior, tuple) and len(options.prior) != len(self.version.labels):
            raise ConfigError(
                f"prior has {len(options.prior)} shares for {len(self.version.labels)} labels"
            )
        if isinstance(options.prior, str) and options.prior not in MODES:
            raise ConfigError(
                f"prior must be {', '.join(MODES)} or shares, got {options.prior!r}", option="prior"
            )
        if options.prior != "estimate":
            return options, None
        codes, distinct = _distinct(names)
        plain = replace(options, prior="train", probabilities=True, coverage_target=0.0)
        found = self.predict(distinct, plain)
        rows = codes.drop_null().to_numpy()
        estimate = estimate_prior(
            found.probabilities[rows[found.reason[rows] == 0]].astype(np.float64),
            self.version.validation_probabilities(),
            self.version.calibration.label_ids,
            self.version.priors,
        )
        return replace(options, prior=estimate.shares), estimate

    def predict(self, names: pa.Array, options: ScoreOptions) -> Predictions:
        """Score every name of a large_string array without nulls, equal or not; the prior must be
        ``train`` or shares (see ``settle_prior``)."""
        long = pc.greater(pc.utf8_length(names), options.max_length)
        kept = pc.if_else(long, "", names) if pc.any(long).as_py() else names
        encoded = self.version.vocabulary.encode(kept, latin=options.transliterate)
        reason = _reasons(encoded, long.to_numpy(zero_copy_only=False), options)
        found = Predictions.blank(reason, options, len(self.version.labels))
        found.lengths, found.unknown = encoded.lengths, encoded.unknown
        answer = self._answer(options, found.ranked.shape[1])
        batches = []
        for rows, logits in self.engine.logits(encoded, np.flatnonzero(reason == 0)):
            batches.append((rows, answer(logits)))
        if batches:
            chosen, answers = zip(*batches, strict=True)
            targets: list[npt.NDArray[Any]]
            targets = [found.ranked, found.confidence, found.probabilities, found.in_set]
            targets += found.uncorrected or ()
            for target, parts in zip(targets, zip(*answers, strict=True), strict=True):
                # Only here is a GPU waited for, once for all batches.
                target[np.concatenate(chosen)] = torch.cat(parts).cpu().numpy()
        if options.details:
            known = self.version.calibration
            found.ambiguous = np.isin(name_hashes(encoded), known.ambiguous)
            found.unfamiliarity = known.characters.unfamiliarity(encoded)
        found.abstain_below(options.min_confidence)
        return found

    def _check_stopping(self) -> None:
        if self.stopping.is_set():
            raise CharrnnError("scoring was stopped")

    def _answer(self, options: ScoreOptions, k: int) -> Callable[[Tensor], list[Tensor]]:
        """Return what turns logits, ``(B, L)``, into the first four arrays of ``Predictions`` and,
        where the prior is corrected, those before the correction."""
        weights, threshold = self._weights(options), self._set_threshold(options)

        def answer(logits: Tensor) -> list[Tensor]:
            p = torch.softmax(logits / self.version.temperature, dim=1)
            uncorrected = list[Tensor]()
            if weights is not None:
                top = p.max(dim=1)
                uncorrected = [top.indices, top.values]
                weighted = p * weights
                total = weighted.sum(dim=1, keepdim=True)
                p = torch.where(total > 0, weighted / total, p)  # nothing left: as it was
            values, ranked = _largest(p, k)
            nothing = p.new_empty(len(p), 0)
            in_set = p >= threshold.clamp(max=values[:, :1]) if options.coverage_target else nothing
            return [ranked, values, p if options.probabilities else nothing, in_set, *uncorrected]

        return answer

    def _weights(self, options: ScoreOptions) -> Tensor | None:
        """Return what multiplies the probabilities of each label, float32 ``(L,)``."""
        if isinstance(options.prior, str):
            return None
        shares = correction(options.prior, self.version.priors)
        return torch.from_numpy(shares.astype(np.float32)).to(self.device)

    def _set_threshold(self, options: ScoreOptions) -> Tensor:
        """Return the smallest probability that is in a prediction set."""
        if not options.coverage_target:
            return torch.zeros((), device=self.device)
        label_ids = self.version.calibration.label_ids
        probabilities = self.version.validation_probabilities()
        importance = None
        if not isinstance(options.prior, str):
            shares = correction(options.prior, self.version.priors)
            probabilities = corrected(probabilities, shares)
            importance = shares[label_ids]
        threshold = conformal_threshold(
            probabilities, label_ids, options.coverage_target, importance
        )
        return torch.tensor(threshold, dtype=torch.float32, device=self.device)


def pick_device(device: str) -> torch.device:
    """Return the torch device for ``auto`` (``cuda`` where there is a GPU), ``cpu``, ``cuda`` (all
    GPUs, where partitions are scored) or ``cuda:N``.

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


def _largest(p: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the ``k`` largest of each row of ``(B, L)`` and where they are, ``(B, k)`` each; equal
    ones in the order of their labels, on every device."""
    if k > 8:
        ordered = torch.sort(p, dim=1, descending=True, stable=True)
        return ordered.values[:, :k], ordered.indices[:, :k]
    left, values, places = p.clone(), [], []
    for _ in range(k):
        value, place = left.max(dim=1, keepdim=True)  # of equal ones the first
        left.scatter_(1, place, -1.0)
        values.append(value)
        places.append(place)
    return torch.cat(values, dim=1), torch.cat(places, dim=1)


def _reasons(
    encoded: Encoded, long: npt.NDArray[np.bool_], options: ScoreOptions
) -> npt.NDArray[np.uint8]:
    """Return why each name is not scored, an index into ``REASONS``; 0 where it is."""
    unknown = encoded.unknown > options.max_unknown * encoded.lengths
    cases = [long, encoded.lengths == 0, unknown, encoded.letters == 0]
    names = ("too_long", "empty_name", "unknown_script", "no_letters")
    return np.select(cases, [REASONS.index(name) for name in names], 0).astype(np.uint8)


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
    text = as_large_string(names)
    array = text.combine_chunks() if isinstance(text, pa.ChunkedArray) else text
    encoded = array.dictionary_encode()
    return encoded.indices, encoded.dictionary
