"""Shares of the labels by groups of a run's rows: counted, expected, and corrected with intervals.

Rows are counted part by part. The distinct names of each group, or a sample of them, are scored
again with all probabilities; ``model.quantify`` makes shares of them. The corrected share is of the
rows with a name that the model knows: scored ones, and those of a low confidence.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from charrnn.errors import ConfigError, DataError, percent
from charrnn.model.quantify import Group, Quantifier, Shares, sampled
from charrnn.runs.folders import run_name
from charrnn.runs.manifest import RunManifest
from charrnn.runs.parts import part_schema, read_part
from charrnn.scoring.inputs import names_in
from charrnn.scoring.options import NAME_PARTS, ScoreOptions
from charrnn.scoring.scorer import Scorer
from charrnn.tables.columns import check_weights, is_text, name_column_of

FEWEST_ROWS = 10  # of a group: a smaller one can be about a single person
MOST_GROUPS = 1000  # each takes about a second
MAX_UNFAMILIAR = 0.5  # of the rows with a name that could be scored
SMALLEST_SHARE = 0.0005  # of a label that no row has, to be listed
_DAY = r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])([T ].*)?$"  # a date or a time, as text
RUN = "run"  # column of the runs, where there are two
_ALL = ""  # a column that is 0 in all rows, which are the groups where there is no grouping
NUMBERS = ("rows", "distinct", "scored", "raw", "expected", "share", "low", "high")
CHANGES = ("before", "after", "change", "low", "high")


@dataclass(frozen=True)
class Grouping:
    """How rows are grouped: the columns ``by``, of which ``period`` (or "") orders groups in time;
    ``weight`` is a column that says how often a row counts, or ""."""

    by: tuple[str, ...]
    period: str = ""
    weight: str = ""


@dataclass(frozen=True)
class Counts:
    """Rows of a run, or of two, counted; G groups, the largest first.

    Attributes:
        groups: a row per group: the columns of the grouping, ``rows``, ``weight``, ``scored``,
            ``scored_weight``, ``unfamiliar`` and ``answered``.
        labels: ``group`` (its number), ``label``, ``weight`` of the scored rows.
        names: ``group``, ``name``, ``weight``, of rows whose shares are estimated; without rows
            where the run keeps no names.
        kept: whether the run keeps its names as they are.
    """

    groups: pl.DataFrame
    labels: pl.DataFrame
    names: pl.DataFrame
    kept: bool


def grouping_of(
    run: Path, manifest: RunManifest, by: Sequence[str], weight: str, *, two_runs: bool
) -> Grouping:
    """Return the grouping by columns of a run; a column of dates (of a CSV: text such as
    2026-11-27), or one called month, orders the groups in time, and so do two runs.

    Raises:
        DataError: there is no such column, or it cannot be grouped by.
        ConfigError: a column is given twice, is that of the names, or has the name of one of ours.
    """
    first, scoring = run / manifest.parts[0].name, manifest.options.scoring
    schema = part_schema(first)
    found = tuple(name_column_of(schema.names, column, "by") for column in by)
    names, ours = {*scoring.name_fields.values()}, {*NUMBERS, "label", "refused", "group"}
    for column in found:
        kind = schema.field(column).type
        if column in names or column in ours or found.count(column) > 1:
            why = "a column of names" if column in names else "the name of another column"
            raise ConfigError(
                f"rows cannot be grouped by {column!r}, which is {why}; choose another column, or "
                "rename it",
                option="by",
            )
        if pa.types.is_nested(kind) or pa.types.is_floating(kind):
            raise DataError(
                f"column {column!r} is {kind}, expected text, whole numbers or dates; cast it, or "
                "choose another column",
                option="by",
            )
    if weight:
        weight = name_column_of(schema.names, weight, "weight")
        kind = schema.field(weight).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise DataError(
                f"column {weight!r} is {kind}, expected numbers; cast it, or choose another column",
                option="weight",
            )
    dated = [c for c in found if c.lower() == "month" or _has_dates(first, schema.field(c))]
    period = RUN if two_runs else next(iter(dated), "")
    return Grouping((RUN, *found) if two_runs else found, period, weight)


def _has_dates(part: Path, field: pa.Field) -> bool:
    """Whether a column holds dates, in a CSV as text."""
    if not is_text(field.type):
        return bool(pa.types.is_temporal(field.type))
    frame = pl.DataFrame(read_part(part, columns=[field.name]))
    texts = frame[field.name].cast(pl.String).drop_nulls()
    return len(texts) > 0 and bool(texts.str.contains(_DAY).all())


def count_rows(runs: Sequence[tuple[Path, RunManifest]], grouping: Grouping) -> Counts:
    """Count the rows of one run, or of two, by group.

    Raises:
        DataError: a part is damaged, a weight is negative or not finite, or there are more than
            ``MOST_GROUPS`` groups.
    """
    keys = [_ALL, *grouping.by]
    sums = [
        tuple(_sums(_columns(run / part.name, run, manifest, grouping), keys))
        for run, manifest in runs
        for part in manifest.parts
    ]
    groups, labels, names = (
        pl.concat(parts, how="vertical_relaxed").group_by(keys + more).agg(pl.all().sum())
        for parts, more in zip(zip(*sums, strict=True), ([], ["label"], ["name"]), strict=True)
    )
    if groups.height > MOST_GROUPS:
        raise DataError(
            f"the rows have {groups.height:,} groups, at most {MOST_GROUPS:,} are estimated; "
            "group by fewer columns, or by one of fewer values",
            option="by",
        )
    groups = groups.sort([pl.col("rows"), *keys], descending=[True] + [False] * len(keys))
    number = groups.select(keys).with_row_index("group")
    labels, names = (
        f.join(number, on=keys, how="left", nulls_equal=True).drop(keys) for f in (labels, names)
    )
    kept = all(manifest.options.names == "keep" for _, manifest in runs)
    return Counts(groups.drop(_ALL), labels, names.sort("group", "name"), kept)


def _columns(path: Path, run: Path, manifest: RunManifest, grouping: Grouping) -> pl.DataFrame:
    """Return what is counted of a part: ``_ALL``, the columns of the grouping, ``weight``,
    ``label``, ``status``, ``reason`` and ``name``, null where the run keeps none."""
    scoring = manifest.options.scoring
    ours = {c: scoring.prefix + c for c in (scoring.label_name, "status", "reason")}
    fields = [] if manifest.options.names == "omit" else [*scoring.name_fields.values()]
    by = [column for column in grouping.by if column != RUN]
    read = dict.fromkeys([*by, *fields, *ours.values(), *filter(None, [grouping.weight])])
    table = read_part(path, columns=list(read))
    frame = pl.DataFrame(table)
    name = pl.Series(names_in(table, scoring)) if fields else pl.lit(None)
    weight = pl.col(grouping.weight).cast(pl.Float64).fill_null(0) if grouping.weight else pl.lit(1)
    key = {_ALL: pl.lit(0), **{column: _key(frame, column) for column in by}}
    if RUN in grouping.by:
        key[RUN] = pl.lit(run_name(run))
    label = pl.col(ours[scoring.label_name]).cast(pl.String)
    text = {c: pl.col(ours[c]).cast(pl.String) for c in ("status", "reason")}
    made = frame.select(**key, weight=weight.cast(pl.Float64), label=label, **text)
    check_weights(made["weight"].to_numpy(), grouping.weight, "weight")
    return made.with_columns(name=name.cast(pl.String))


def _key(frame: pl.DataFrame, column: str) -> pl.Expr:
    """Return a column as groups have it: dates and times by month, dictionaries as text."""
    kind, text = frame.schema[column], pl.col(column).cast(pl.String)
    if kind.is_temporal():
        return pl.col(column).dt.strftime("%Y-%m")
    if kind.is_integer():
        return pl.col(column)
    return pl.when(text.str.contains(_DAY)).then(text.str.slice(0, 7)).otherwise(text)


def _sums(frame: pl.DataFrame, by: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Yield the sums of a part: by group, by group and label, by group and name."""
    weight, scored = pl.col("weight"), pl.col("status") == "scored"
    unfamiliar = pl.col("reason").eq_missing("unfamiliar")
    yield frame.group_by(by).agg(
        rows=pl.len().cast(pl.Int64), weight=weight.sum(), scored=scored.sum().cast(pl.Int64),
        scored_weight=weight.filter(scored).sum(), unfamiliar=unfamiliar.sum().cast(pl.Int64),
        answered=(pl.col("status") != "unscored").sum().cast(pl.Int64),
    )  # fmt: skip
    yield frame.filter(scored).group_by(*by, "label").agg(weight=weight.sum())
    known = scored | pl.col("reason").eq_missing("low_confidence")
    named = frame.filter(known & pl.col("name").is_not_null())
    yield named.group_by(*by, "name").agg(weight=weight.sum())


def estimate(
    counts: Counts, scorer: Scorer, options: ScoreOptions, seed: int = 0
) -> Iterator[tuple[Shares | None, int, str]]:
    """Yield for each group its shares (None where it has none), its distinct names, and why the
    data cannot say, or ""."""
    version = scorer.version
    quantifier = Quantifier(
        version.validation_probabilities(), version.calibration.label_ids, version.assumed_shares,
        version.pair_exponent, seed,
    )  # fmt: skip
    uncorrected = replace(
        options, prior="train", probabilities=True, top_k=1, min_confidence=0.0,
        coverage_target=0.0, families=False, details=False, max_unfamiliarity=1.0,
    )  # fmt: skip
    names_of = counts.names.partition_by("group", as_dict=True)
    for number, group in enumerate(counts.groups.iter_rows(named=True)):
        names = names_of.get((number,), counts.names.clear())
        refused = _cannot_say(group, counts.kept)
        if refused or not names.height:
            yield None, names.height, refused or "no row has a name that the model knows"
            continue
        chosen, rows = sampled(names["weight"].to_numpy(), seed)
        texts = names["name"].gather(chosen).to_arrow()
        found, codes = scorer.answers(texts, uncorrected)
        at = codes.to_numpy()
        both = found.parts[at] == NAME_PARTS.index("given+surname")
        answered = (found.reason[at] == 0) & (rows > 0)
        p = found.probabilities[at[answered]].astype(np.float64)
        shares = quantifier.shares(Group(p, rows[answered], both[answered]), number)
        yield shares, names.height, shares.refused


def _cannot_say(group: dict[str, Any], kept: bool) -> str:
    """Return why the shares of a group are not estimated, or ""."""
    if group["rows"] < FEWEST_ROWS:
        return f"fewer than {FEWEST_ROWS} rows"
    if not kept:
        return "the run does not keep its names, which are scored again; score with names keep"
    if group["unfamiliar"] > MAX_UNFAMILIAR * max(group["answered"], 1):
        part = group["unfamiliar"] / group["answered"]
        return f"{percent(part, 0)} of the rows with a name are unfamiliar to the model"
    return ""


@dataclass(frozen=True)
class ShareTables:
    """The shares by group and label, and how they change from one period to the next; None where
    there are no periods."""

    shares: pl.DataFrame
    changes: pl.DataFrame | None


def share_tables(
    counts: Counts,
    estimates: Sequence[tuple[Shares | None, int, str]],
    labels: Sequence[str],
    grouping: Grouping,
) -> ShareTables:
    """Return the tables of shares; a group of fewer than ``FEWEST_ROWS`` rows shows no number."""
    keys = list(grouping.by)
    rows: list[dict[str, Any]] = []
    raw_of = {k[0]: dict(zip(f["label"], f["weight"], strict=True))
              for k, f in counts.labels.partition_by("group", as_dict=True).items()}  # fmt: skip
    for number, group in enumerate(counts.groups.iter_rows(named=True)):
        shares, distinct, refused = estimates[number]
        row = {column: group[column] for column in keys}
        of_labels = list[dict[str, Any]]()
        if group["rows"] >= FEWEST_ROWS:
            row |= {"rows": group["rows"], "distinct": distinct or None, "scored": group["scored"]}
            total = max(group["scored_weight"], 1e-300)
            raw = {label: w / total for label, w in raw_of.get(number, {}).items()}
            of_labels = _numbers(shares, refused, raw, labels)
        rows += [row | numbers for numbers in of_labels or [{"refused": refused}]]
    schema = {**{c: counts.groups.schema[c] for c in keys}, "label": pl.String(),
              **{n: pl.Int64() if n in NUMBERS[:3] else pl.Float64() for n in NUMBERS},
              "refused": pl.String()}  # fmt: skip
    table = pl.DataFrame(rows, schema=schema)
    changes = _changes(counts, estimates, labels, grouping) if grouping.period else None
    return ShareTables(table, changes)


def _numbers(
    shares: Shares | None, refused: str, raw: dict[str, float], labels: Sequence[str]
) -> list[dict[str, Any]]:
    """Return a row for each label, the largest shares first; where the data cannot say, for the
    labels counted alone, by their counts."""
    said = None if refused else shares
    ranks = np.array([raw.get(label, 0.0) for label in labels]) if said is None else said.share
    rows = list[dict[str, Any]]()
    for i in np.argsort(-ranks, kind="stable").tolist():
        if labels[i] not in raw and (said is None or said.share[i] < SMALLEST_SHARE):
            continue
        numbers = {"raw": raw.get(labels[i], 0.0)}
        if shares is not None:
            numbers["expected"] = float(shares.expected[i])
        if said is not None:
            numbers |= {n: float(getattr(said, n)[i]) for n in ("share", "low", "high")}
        why_not = refused if said is None else _too_alike(said, i, labels) or None
        rows.append({"label": labels[i], **numbers, "refused": why_not})
    return rows


def _too_alike(shares: Shares, label: int, labels: Sequence[str]) -> str:
    """Return the sentence about labels that one cannot be told apart from, or ""."""
    others = list(shares.alike[label])
    if not others:
        return ""
    together = float(shares.share[[label, *others]].sum())
    return f"too like {', '.join(labels[i] for i in others)}; together {percent(together)}"


def _changes(
    counts: Counts,
    estimates: Sequence[tuple[Shares | None, int, str]],
    labels: Sequence[str],
    grouping: Grouping,
) -> pl.DataFrame:
    """Return the change of each share from one period to the next, with its interval: the same
    draws of what is not known about the model are on both sides."""
    others = [column for column in grouping.by if column != grouping.period]
    numbered = counts.groups.with_row_index("group").sort(grouping.period, nulls_last=True)
    rows = []
    for key, periods in numbered.group_by(others or [pl.lit(0)], maintain_order=True):
        for first, second in pairwise(periods.iter_rows(named=True)):
            one, other = (estimates[g["group"]][0] for g in (first, second))
            if one is None or other is None or one.refused or other.refused:
                continue
            difference = other.draws - one.draws
            ends = np.quantile(difference, [0.025, 0.975], axis=0)
            mean = difference.mean(axis=0)
            low, high = np.minimum(ends[0], mean), np.maximum(ends[1], mean)
            numbers = np.stack([one.share, other.share, mean, low, high], axis=1)  # (L, 5)
            at_least = np.maximum(one.share, other.share) >= SMALLEST_SHARE
            rows += [
                {**dict(zip(others, key, strict=False)), "from": str(first[grouping.period]),
                 "to": str(second[grouping.period]), "label": labels[i],
                 **dict(zip(CHANGES, numbers[i].tolist(), strict=True)),
                 "refused": _too_alike(one, i, labels) or _too_alike(other, i, labels) or None}
                for i in np.argsort(-np.abs(other.share - one.share), kind="stable").tolist()
                if at_least[i]
            ]  # fmt: skip
    schema = {**{c: counts.groups.schema[c] for c in others}, "from": pl.String(),
              "to": pl.String(), "label": pl.String(),
              **dict.fromkeys(CHANGES, pl.Float64()), "refused": pl.String()}  # fmt: skip
    return pl.DataFrame(rows, schema=schema)
