"""Score names: labels, confidences and statuses for a column of names, in order.

Equal names are scored once: a table's names become codes into an array of its distinct names, every
output column is computed for these and spread over the rows by code. Softmax and ranking run on the
device; only their results are copied back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from charrnn.errors import CharrnnError, ConfigError, DataError
from charrnn.model.calibration import conformal_threshold
from charrnn.model.engine import Engine, first_of
from charrnn.model.families import families_of
from charrnn.model.gpu import KERNEL_NAMES, KernelEngine, kernel_suits
from charrnn.model.labels import LANGUAGE, plural
from charrnn.model.novelty import joint_novelty, name_hashes, surprise
from charrnn.model.priors import MODES, PriorEstimate, corrected, correction, estimate_prior
from charrnn.model.version import ModelVersion, resolve
from charrnn.model.vocabulary import GIVEN, Counts, Encoded
from charrnn.scoring.columns import Predictions, prediction_columns
from charrnn.scoring.dictionary import added_columns
from charrnn.scoring.explain import Explanation, explanation_of
from charrnn.scoring.inputs import (
    as_pandas,
    cells_of,
    headers_of,
    is_pandas,
    names_array,
    one_name,
    readable_table,
    with_columns,
)
from charrnn.scoring.name_parts import NameParts
from charrnn.scoring.options import NAME_PARTS, REASONS, ScoreOptions
from charrnn.scoring.pool import NamePool
from charrnn.tables.columns import as_large_string, check_no_clash, name_column_of

Table = TypeVar("Table", pa.Table, pl.DataFrame, pl.LazyFrame)
_BATCH_SIZE = {"cpu": 2**14, "cuda": 2**15}  # names per forward pass, by device type
_PAIR_LOGITS = 2**24  # names of two parts scored at a time, x labels: bounds the logits kept
OnShare = Callable[[float], None]
# Called before every pass of this thread's network with the number of its texts
_on_pass: ContextVar[Callable[[int], None]] = ContextVar("on_pass", default=lambda texts: None)
_MAX_REPEATED = 8  # top_k up to which taking the maximum k times is faster than sorting; on a CPU,
_SORTED_AS_FAST = 64  # so many labels are sorted by their bits in the time of one more maximum


class Scorer:
    """A model version on a device, ready to score names.

    Args:
        version: the model.
        device: see ``pick_device``.
        batch_size: names per forward pass, at least 1; None: what suits the device.

    Attributes:
        stopping: set it from another thread to make scoring raise CharrnnError at its next pass.
    """

    def __init__(
        self, version: ModelVersion, device: str = "cpu", batch_size: int | None = None
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise ConfigError(f"batch_size must be ≥ 1, got {batch_size}", option="batch_size")
        self.version = version
        self.device = pick_device(device)
        self.network = version.network(self.device)
        suits = self.device.type == "cuda" and kernel_suits(self.network)
        self.batch_size = batch_size or (KERNEL_NAMES if suits else _BATCH_SIZE[self.device.type])
        engine = KernelEngine if suits else Engine
        self.engine = engine(self.network, self.batch_size, self._before_pass)
        self.stopping = threading.Event()

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

    def replicas(self) -> list[Scorer]:
        """Return this scorer and, if its device is ``cuda`` without a number, one for each other
        GPU of the machine; all share ``stopping``."""
        all_gpus = self.device.type == "cuda" and self.device.index is None
        numbers = range(1, torch.cuda.device_count()) if all_gpus else range(0)
        others = [Scorer(self.version, f"cuda:{i}", self.batch_size) for i in numbers]
        for other in others:
            other.stopping = self.stopping
        return [self, *others]

    @overload
    def score(self, names: pl.Series | Sequence[str | None], **options: Any) -> pl.DataFrame: ...
    @overload
    def score(self, names: Any, **options: Any) -> Any: ...
    def score(self, names: Any, **options: Any) -> Any:
        """Score names and return one row per name, in order.

        >>> scorer = Scorer.load("pretrained-tiny")
        >>> frame = scorer.score(["Nakamura", "O’Neill", None], top_k=1)
        >>> frame.columns
        ['name', 'language', 'confidence', 'status', 'reason']
        >>> frame.select("language", "status", "reason").rows()
        [('Japanese', 'scored', None), ('Irish', 'scored', None), (None, 'unscored', 'null_name')]

        Args:
            names: N names: a list, Polars or pandas Series or Arrow array of strings, or what
                ``names_array`` reads; None and NaN are null.
            options: fields of ``ScoreOptions``, such as ``top_k=5``.

        Returns:
            A Polars DataFrame (of a pandas Series or Index a pandas DataFrame, with its index) of
            N rows: the names, then the columns that ``ScoreOptions.columns`` lists. Labels,
            statuses and reasons are categorical, confidences and probabilities Float32.
        """
        fields = ScoreOptions(**options).name_fields
        if (column := fields.get("name_column")) is None:
            raise ConfigError(
                f"names are one column, {' and '.join(fields)} are about a table; use score_table",
                option=next(iter(fields)),
            )
        table = self.score_table(pa.table({column: names_array(names)}), **options)
        if is_pandas(names, "Series", "Index"):
            return as_pandas(table, getattr(names, "index", None))
        return pl.from_arrow(table)

    def score_table(self, table: Table, **options: Any) -> Table:
        """Return a table with the columns of ``score`` for its names added, rows in order.

        Args:
            table: a Polars DataFrame or LazyFrame, a pandas DataFrame or an Arrow table; the same
                type is returned, of pandas with its index. A lazy frame is scored when the query
                runs, batch by batch, and with the prior ``estimate`` as a whole. A table of another
                library that exports Arrow (DuckDB, a RecordBatchReader) comes back as an Arrow
                table.
            options: fields of ``ScoreOptions``, such as ``name_column="surname"``, or
                ``surname_column="last", given_column="first"``.

        Raises:
            DataError: a column of names is missing or not text, or the table already has one of the
                added columns.
        """
        score_options = fitted_options(ScoreOptions(**options), self.version)
        if isinstance(table, pl.LazyFrame):
            no_rows = self.score_table(table.collect_schema().to_frame(), **options)
            return table.map_batches(
                lambda batch: self.score_table(batch, **options),
                schema=no_rows.schema,
                streamable=score_options.prior != "estimate",
            )
        whole = readable_table(table)
        headers = headers_of(whole)
        columns = {f: name_column_of(headers, c, f) for f, c in score_options.name_fields.items()}
        check_no_clash(headers, added_columns(score_options, self.version.labels))
        cells = {field: cells_of(whole, column) for field, column in columns.items()}
        scored: Table = with_columns(whole, self.columns(one_name(cells), score_options))
        return scored

    def expression(self, names: str | pl.Expr = "name", **options: Any) -> pl.Expr:
        """Return a Polars expression that scores a column into a struct of the columns of
        ``score``::

            frame.with_columns(scorer.expression("surname").alias("origin")).unnest("origin")

        It scores whole batches in eager, lazy and streaming queries. With ``given_column`` or
        ``surname_column``, leave ``names`` out.

        Raises:
            ConfigError: the prior is ``estimate``, which needs the whole table: use
                ``score_table``.
        """
        score_options = fitted_options(ScoreOptions(**options), self.version)
        if score_options.prior == "estimate":
            raise ConfigError(
                "prior 'estimate' needs the whole table; use score_table", option="prior"
            )
        no_rows = self.columns(pa.array([], pa.string()), score_options)
        dtype = pl.from_arrow(pa.table(no_rows)).to_struct("").dtype  # type: ignore[union-attr]
        fields = score_options.name_fields
        in_parts = "name_column" not in fields

        def score_batch(batch: pl.Series) -> pl.Series:
            parts = batch.struct.unnest() if in_parts else {"name_column": batch}
            cells = {f: names_array(parts[f]) for f in fields}
            frame = pl.from_arrow(pa.table(self.columns(one_name(cells), score_options)))
            assert isinstance(frame, pl.DataFrame)
            return frame.to_struct(batch.name)

        column = pl.col(names) if isinstance(names, str) else names
        if in_parts:
            column = pl.struct([pl.col(c).alias(f) for f, c in fields.items()])
        return column.map_batches(score_batch, return_dtype=dtype)

    def columns(
        self, names: pa.Array | pa.ChunkedArray, options: ScoreOptions
    ) -> dict[str, pa.Array]:
        """Return the columns that scoring adds for N names: column name → array ``(N,)``.

        Labels, label sets, statuses and reasons are dictionary arrays of strings; confidences and
        probabilities are float32, ``set_size`` is int16 and ``ambiguous`` bool. Columns about the
        label are null where a name was not scored.

        Raises:
            DataError: ``names`` is not an array of text.
            ConfigError: the prior does not fit the model's labels; see ``fitted_options``.
        """
        fitted = fitted_options(options, self.version)
        predictions, codes = self.answers(names, fitted)
        return prediction_columns(predictions, codes, self.version.labels, fitted)

    def explain(
        self, name: str, top_k: int = 3, *, part: Literal["surname", "given"] = "surname"
    ) -> Explanation:
        """Return what speaks for the answer to one name, under the default options of ``score``::

            scorer.explain("Nakamura").ngrams[:3]

        Args:
            top_k: how many labels to return, at least the answer and the runner-up.
            part: whether it is a surname or a given name.

        Raises:
            DataError: ``name`` is no text, or scoring would give it no label.
            ConfigError: the model does not know given names, or ``top_k`` is out of range.
        """
        if part == "given" and not self.version.knows_given:
            raise ConfigError(
                f"model {self.version.name} knows surnames only, got a given name; choose another "
                "model, or explain it as a surname",
                option="part",
            )
        if self.version.config.label_groups:
            raise ConfigError(
                f"model {self.version.name} has {len(self.version.labels):,} labels in groups, and "
                "answers of such models are not explained"
            )
        marked = GIVEN + name if part == "given" and isinstance(name, str) else name
        names = as_large_string(names_array([marked], "name"))
        options = ScoreOptions(top_k=top_k, name_order="surname")
        reason = REASONS[self.predict(names.fill_null(""), options).reason[0]]
        if reason is not None:
            raise DataError(f"name gets no answer ({reason}), so there is nothing to explain")
        encoded = self.version.vocabulary.encode(names, latin=options.transliterate)
        return explanation_of(self.version, self.network, encoded, top_k)

    def answers(
        self,
        names: pa.Array | pa.ChunkedArray,
        options: ScoreOptions,
        pool: NamePool | None = None,
        on_share: OnShare = lambda share: None,
    ) -> tuple[Predictions, pa.Array]:
        """Return the predictions for the D distinct ones of N names, and int32 ``(N,)``: the index
        of each row's name among them, null for a null name. Raises as ``columns`` does.

        Args:
            pool: predictions of this model with these options that are there already.
            on_share: called before every pass with the share of the work that is begun, 0 to 1.
        """
        settled, _ = self.settle_prior(names, options)
        codes, distinct = _distinct(names)
        if pool is None:
            return self.predict(distinct, settled, on_share), codes
        return pool.complete(distinct, lambda rest: self.predict(rest, settled, on_share)), codes

    def settle_prior(
        self, names: pa.Array | pa.ChunkedArray, options: ScoreOptions
    ) -> tuple[ScoreOptions, PriorEstimate | None]:
        """Return options whose prior is ``train`` or a tuple of L shares, and the estimate if the
        prior is ``estimate``.

        Args:
            names: the names of the whole table or of a sample of it; read for ``estimate`` only.

        Raises:
            DataError: ``names`` is not an array of text.
            ConfigError: the prior is not known, or does not have one share per label.
        """
        label_count = len(self.version.labels)
        if isinstance(options.prior, tuple) and len(options.prior) != label_count:
            raise ConfigError(
                f"prior has {len(options.prior)} shares, expected one for each of the "
                f"{label_count} labels",
                option="prior",
            )
        if isinstance(options.prior, str) and options.prior not in MODES:
            raise ConfigError(
                f"prior must be {', '.join(MODES)} or shares, got {options.prior!r}", option="prior"
            )
        if options.prior == "uniform":
            return replace(options, prior=(1 / label_count,) * label_count), None
        if options.prior != "estimate":
            return options, None
        codes, distinct = _distinct(names)
        uncorrected = replace(options, prior="train", probabilities=True, coverage_target=0.0)
        predictions = self.predict(distinct, uncorrected)
        rows = codes.drop_null().to_numpy()
        scored = rows[predictions.reason[rows] == 0]
        estimate = estimate_prior(
            predictions.probabilities[scored].astype(np.float64),
            self.version.validation_probabilities(),
            self.version.calibration.label_ids,
            self.version.assumed_shares,
        )
        return replace(options, prior=estimate.shares), estimate

    def predict(
        self,
        names: pa.Array,
        options: ScoreOptions,
        on_share: OnShare = lambda share: None,
    ) -> Predictions:
        """Return the predictions for every name of a large_string array ``(D,)`` without nulls;
        the prior of ``options`` is settled (see ``settle_prior``).

        Names of several words are split (see ``split_names``) if the model knows given names.
        With a surname s and a given name g, the probability of a label l is proportional to
        ``(p(l|s) p(l|g) / p(l)) ** pair_exponent``, p(l) being the version's ``assumed_shares``. A
        part that cannot be scored leaves the other.

        Raises:
            ConfigError: see ``check_parts``.
        """
        check_parts(options, self.version)
        parts = NameParts.of(names, options.name_order, knows_given=self.version.knows_given)
        too_long = pc.greater(pc.utf8_length(parts.texts), options.max_length)
        texts = pc.if_else(too_long, "", parts.texts) if pc.any(too_long).as_py() else parts.texts
        encoded = self.version.vocabulary.encode(texts, latin=options.transliterate)
        _on_pass.set(_share_of(len(encoded), on_share))
        reason = _reasons(encoded, too_long.to_numpy(zero_copy_only=False), options)
        if parts.surname is None or parts.given is None:
            predictions = self._blank(reason, options)
            predictions.lengths, predictions.unknown = encoded.lengths, encoded.unknown
            self._rank(predictions, encoded, np.flatnonzero(reason == 0), options)
            predictions.ambiguous = self._ambiguous(encoded) if options.details else None
        else:
            predictions = self._predict_parts(
                encoded, reason, (parts.surname, parts.given), parts.first_given, options
            )
        predictions.abstain(options.min_confidence, self._max_unfamiliarity(options))
        return predictions

    def _predict_parts(
        self,
        encoded: Encoded,
        text_reason: npt.NDArray[np.uint8],
        parts: tuple[Counts, Counts],
        first_given: int,
        options: ScoreOptions,
    ) -> Predictions:
        """Return the predictions for D names of parts.

        Args:
            encoded: the U texts, given names from ``first_given`` on, without their mark.
            text_reason: why a text cannot be scored, uint8 ``(U,)``.
            parts: index of each name's surname and given name among the texts, int64 ``(D,)``
                each; -1 for none.
        """
        s, g = parts
        # One more text, the last, so at -1: the part that a name lacks.
        reasons = np.append(text_reason, np.uint8(REASONS.index("empty_name")))
        has_surname, has_given = reasons[s] == 0, reasons[g] == 0
        reason = np.where(has_surname | has_given, 0, reasons[np.where(s >= 0, s, g)])
        predictions = self._blank(reason.astype(np.uint8), options)
        for field in ("lengths", "unknown"):
            counts = np.append(getattr(encoded, field), 0)
            setattr(predictions, field, counts[s] + counts[g])
        both = has_surname & has_given
        predictions.parts[both] = NAME_PARTS.index("given+surname")
        predictions.parts[has_given & ~has_surname] = NAME_PARTS.index("given")
        marked = encoded.marked(first_given, GIVEN)
        only = np.where(has_surname, s, g)  # of names of which one part is scored
        alone = np.flatnonzero(has_surname ^ has_given)
        if len(alone):
            texts, text_of_name = np.unique(only[alone], return_inverse=True)
            found = self._blank(np.zeros(len(texts), np.uint8), options)
            self._rank(found, marked.take(texts), np.arange(len(texts)), options)
            for target, values in zip(predictions.ranks(), found.ranks(), strict=True):
                target[alone] = values[text_of_name]
        self._rank_pairs(predictions, marked, np.flatnonzero(both), parts, options)
        if options.details:
            ambiguous, other = self._ambiguous(marked), np.where(both, g, only)
            predictions.ambiguous = ambiguous[only] & ambiguous[other]
        return predictions

    def _ambiguous(self, encoded: Encoded) -> npt.NDArray[np.bool_]:
        """Return whether each text has several labels in the training data."""
        return np.isin(name_hashes(encoded), self.version.calibration.ambiguous)

    def _blank(self, reason: npt.NDArray[np.uint8], options: ScoreOptions) -> Predictions:
        needed = options.details or self._max_unfamiliarity(options) < 1
        return Predictions.blank(reason, options, len(self.version.labels), unfamiliarity=needed)

    def _max_unfamiliarity(self, options: ScoreOptions) -> float:
        if options.max_unfamiliarity is None:
            return self.version.max_unfamiliarity
        return options.max_unfamiliarity

    @torch.inference_mode()
    def _rank_pairs(
        self,
        predictions: Predictions,
        encoded: Encoded,
        names: Counts,
        parts: tuple[Counts, Counts],
        options: ScoreOptions,
    ) -> None:
        """Fill in the predictions for names of two parts, both scored; ``names`` are indices. The
        logits of their texts are kept, block by block of names."""
        version, s, g = self.version, *parts
        rank = self._ranking(options, predictions.ranked.shape[1])
        shares = torch.from_numpy(version.assumed_shares.astype(np.float32)).to(self.device)
        log_shares = torch.where(shares > 0, shares.log(), torch.inf)  # 0: never the label
        size = max(1, _PAIR_LOGITS // len(shares))
        ordered = names[np.argsort(s[names], kind="stable")]  # a surname is in one block
        batches = []
        for first in range(0, len(ordered), size):
            block = ordered[first : first + size]
            texts, places = np.unique(np.concatenate((s[block], g[block])), return_inverse=True)
            log_p = torch.empty(len(texts), len(shares), device=self.device)
            novelty = torch.empty(len(texts), device=self.device)
            for rows, of_labels, logits in self._log_probabilities(encoded, texts):
                at = torch.from_numpy(np.searchsorted(texts, rows)).to(self.device)
                log_p[at], novelty[at] = of_labels, self._novelty(logits)
            pairs = torch.from_numpy(places.reshape(2, -1)).to(self.device)
            for start in range(0, len(block), self.batch_size):
                one, other = pairs[:, start : start + self.batch_size]
                joint = log_p[one].add_(log_p[other]).sub_(log_shares).mul_(version.pair_exponent)
                some = block[start : start + self.batch_size]
                found = rank(torch.softmax(joint, dim=1))
                if predictions.unfamiliarity is not None:
                    found.append(joint_novelty(novelty[one], novelty[other]))
                batches.append((some, found))
        _fill_in(predictions, batches)

    def _log_probabilities(
        self, encoded: Encoded, rows: Counts
    ) -> Iterator[tuple[Counts, Tensor, Tensor]]:
        """Yield row numbers, ``(B,)``, the log probabilities of the labels of these texts, float32
        ``(B, L)``, and their logits, ``(B, K)``, until each of ``rows`` was yielded once."""
        L, known = len(self.version.labels), self.version.known_names
        temperature: float | Tensor = self.version.temperature
        of_each, hashes = None, np.zeros(len(encoded), np.int64)
        if (given := encoded.given).any():
            of_each = torch.from_numpy(self.version.temperatures(given).astype(np.float32))
        if len(known):
            hashes[rows] = name_hashes(encoded.take(rows))
        for batch, logits in self.engine.logits(encoded, rows):
            if of_each is not None:
                temperature = of_each[batch].to(self.device)  # (B, 1)
            log_p = torch.log_softmax(logits[:, :L] / temperature, dim=1)
            yield batch, known.mix_into(log_p, hashes[batch]), logits

    def _rank(
        self, predictions: Predictions, encoded: Encoded, rows: Counts, options: ScoreOptions
    ) -> None:
        """Fill in the network's predictions for the names ``rows``. On a GPU all batches are
        queued first and their results copied together, so that the CPU waits once."""
        k = predictions.ranked.shape[1]
        needs_logits = options.probabilities or options.coverage_target or options.families
        needs_logits = needs_logits or self.version.given_temperature is not None
        needs_logits = needs_logits or predictions.unfamiliarity is not None
        needs_logits = needs_logits or len(self.version.known_names) > 0
        weights = self._prior_weights(options)
        if not needs_logits and self.engine.ranks(k, prior=weights is not None):
            ranked = self.engine.ranked(encoded, rows, k, self.version.temperature, weights)
            uncorrected = predictions.uncorrected or ()
            targets: list[npt.NDArray[Any]] = [predictions.ranked, predictions.confidence]
            for target, values in zip([*targets, *uncorrected], ranked, strict=True):
                target[rows] = values
            return
        rank, batches = self._ranking(options, k), []
        for batch, log_p, logits in self._log_probabilities(encoded, rows):
            found = rank(log_p.exp_())
            if predictions.unfamiliarity is not None:
                found.append(self._novelty(logits))
            batches.append((batch, found))
        _fill_in(predictions, batches)

    def _novelty(self, logits: Tensor) -> Tensor:
        scale = self.version.calibration.novelty
        return scale.novelty(surprise(logits, len(self.version.labels)))

    def _before_pass(self, texts: int) -> None:
        if self.stopping.is_set():
            raise CharrnnError("scoring was stopped")
        _on_pass.get()(texts)

    def _ranking(self, options: ScoreOptions, k: int) -> Callable[[Tensor], list[Tensor]]:
        """Return the function from probabilities ``(B, L)`` to the values of
        ``Predictions.ranks``, without ``unfamiliarity``."""
        weights, threshold = self._prior_weights(options), self._set_threshold(options)
        of_family = families_of(self.version.labels if options.families else ())[1]
        members = torch.from_numpy(of_family).to(self.device)  # (L, F)

        def rank(p: Tensor) -> list[Tensor]:
            uncorrected = list[Tensor]()
            if weights is not None:
                top = p.max(dim=1)
                uncorrected = [top.indices, top.values]
                weighted = p * weights
                total = weighted.sum(dim=1, keepdim=True)
                p = torch.where(total > 0, weighted / total, p)  # all weights 0: uncorrected
            values, ranked = _largest(p, k)
            empty = p.new_empty(len(p), 0)
            in_set = p >= threshold.clamp(max=values[:, :1]) if options.coverage_target else empty
            family = list[Tensor]()
            if options.families:
                top = (p @ members).max(dim=1)
                family = [top.indices, top.values.clamp(max=1)]
            probabilities = p if options.probabilities else empty
            return [ranked, values, probabilities, in_set, *family, *uncorrected]

        return rank

    def _prior_weights(self, options: ScoreOptions) -> Tensor | None:
        """Return the factors of the prior correction, float32 ``(L,)``; None without a prior."""
        if isinstance(options.prior, str):
            return None
        weights = correction(options.prior, self.version.assumed_shares)
        return torch.from_numpy(weights.astype(np.float32)).to(self.device)

    def _set_threshold(self, options: ScoreOptions) -> Tensor:
        """Return the smallest probability in a prediction set, float32 ``()``."""
        if not options.coverage_target:
            return torch.zeros((), device=self.device)
        label_ids = self.version.calibration.label_ids
        probabilities, importance = self.version.validation_probabilities(), None
        if not isinstance(options.prior, str):
            weights = correction(options.prior, self.version.assumed_shares)
            probabilities, importance = corrected(probabilities, weights), weights[label_ids]
        target = options.coverage_target
        threshold = conformal_threshold(probabilities, label_ids, target, importance)
        return torch.tensor(threshold, dtype=torch.float32, device=self.device)


def fitted_options(options: ScoreOptions, version: ModelVersion) -> ScoreOptions:
    """Return the options with the label's column named as the version has it, unless they name it.

    Raises:
        ConfigError: they do not fit the version: see ``check_parts``; or they ask for families of
            labels that are no languages.
    """
    check_parts(options, version)
    if options.families and version.label_name != LANGUAGE:
        raise ConfigError(
            f"families are those of languages, and the labels of model {version.name} are "
            f"{plural(version.label_name)}; leave them out",
            option="families",
        )
    return replace(options, label_as=options.label_as or version.label_name)


def check_parts(options: ScoreOptions, version: ModelVersion) -> None:
    """Raise ConfigError if there are only given names, and the model does not know any."""
    if list(options.name_fields) == ["given_column"] and not version.knows_given:
        raise ConfigError(
            f"model {version.name} knows surnames only, and given_column is the only column of "
            "names; name a surname_column, or use a model that knows given names",
            option="surname_column",
        )


def pick_device(device: str) -> torch.device:
    """Return the torch device for ``auto`` (``cuda`` if there is a GPU), ``cpu``, ``cuda`` (all
    GPUs, when partitions are scored) or ``cuda:N``.

    Raises:
        ConfigError: there is no such device.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch_device = torch.device(device)
    except RuntimeError:
        torch_device = None
    if torch_device is None or torch_device.type not in _BATCH_SIZE:
        raise ConfigError(
            f"device must be auto, cpu, cuda or cuda:N, got {device!r}", option="device"
        )
    if torch_device.type == "cuda" and (torch_device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"there is no device {device!r} on this machine; use cpu", option="device"
        )
    return torch_device


def _share_of(texts: int, on_share: OnShare) -> Callable[[int], None]:
    """Return a function that is told of passes and tells ``on_share`` the share of ``texts`` they
    add up to; a text can be in several passes."""
    begun = 0

    def on_pass(more: int) -> None:
        nonlocal begun
        begun += more
        on_share(min(1.0, begun / texts))

    return on_pass


def _fill_in(predictions: Predictions, batches: list[tuple[Counts, list[Tensor]]]) -> None:
    """Copy what a ranking of batches of names found, in order of ``Predictions.ranks``."""
    if batches:
        row_batches, ranked_batches = zip(*batches, strict=True)
        rows = np.concatenate(row_batches)
        for target, parts in zip(
            predictions.ranks(), zip(*ranked_batches, strict=True), strict=True
        ):
            target[rows] = torch.cat(parts).cpu().numpy()


def _largest(p: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the ``k`` largest values of each row of ``(B, L)`` and their label ids, ``(B, k)``
    each; equal values in label order, on every device."""
    many = k > _MAX_REPEATED
    if p.device.type == "cpu" and (many or p.shape[1] < (k - 1) * _SORTED_AS_FAST):
        ranked = first_of(~p.numpy().view(np.uint32), k)  # the bits of p, which is ≥ 0, grow with p
        return p.gather(1, ranked), ranked
    if many:
        ordered = torch.sort(p, dim=1, descending=True, stable=True)
        return ordered.values[:, :k], ordered.indices[:, :k]
    remaining, values, label_ids = p.clone(), [], []
    for _ in range(k):
        value, label_id = remaining.max(dim=1, keepdim=True)  # the first of equal values
        remaining.scatter_(1, label_id, -1.0)
        values.append(value)
        label_ids.append(label_id)
    return torch.cat(values, dim=1), torch.cat(label_ids, dim=1)


def unscorable(encoded: Encoded, names: pa.LargeStringArray) -> npt.NDArray[np.uint8]:
    """Return why scoring gives each of N encoded names no label under its default options, index in
    ``REASONS``, uint8 ``(N,)``; 0 where it gives one."""
    options = ScoreOptions()
    too_long = pc.utf8_length(names).to_numpy() > options.max_length
    return _reasons(encoded, too_long, options)


def _reasons(
    encoded: Encoded, too_long: npt.NDArray[np.bool_], options: ScoreOptions
) -> npt.NDArray[np.uint8]:
    """Return why each of D names is not scored, index in ``REASONS``, uint8 ``(D,)``."""
    unknown = encoded.unknown > options.max_unknown * encoded.lengths
    cases = [too_long, encoded.lengths == 0, unknown, encoded.letters == 0]
    names = ("too_long", "empty_name", "unknown_script", "no_letters")
    return np.select(cases, [REASONS.index(name) for name in names], 0).astype(np.uint8)


def _distinct(names: pa.Array | pa.ChunkedArray) -> tuple[pa.Array, pa.Array]:
    """Return the code of each of N names, int32 ``(N,)``, null for null; and the D distinct names
    that the codes index, large_string ``(D,)``."""
    text = as_large_string(names_array(names))
    array = text.combine_chunks() if isinstance(text, pa.ChunkedArray) else text
    encoded = array.dictionary_encode()
    return encoded.indices, encoded.dictionary
