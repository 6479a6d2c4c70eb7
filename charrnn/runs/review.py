"""Names of a run that a person should look at, and their labels, read back.

Each reason ranks the distinct names; the best of each are taken in turn, so that none crowds out
the others. ``drawn`` is a random sample: a version is measured without bias on it alone.
"""

from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from charrnn.errors import DataError
from charrnn.runs.export import restore_formulas
from charrnn.runs.manifest import RunManifest
from charrnn.runs.parts import part_schema, read_part
from charrnn.tables.columns import as_large_string
from charrnn.tables.row_groups import read_groups
from charrnn.tables.source import Source

REASONS = ("matters", "uncertain", "unfamiliar", "ambiguous", "drawn")
NAMES = {"name_column": "name", "surname_column": "surname", "given_column": "given"}
OURS = ("rows", "answer", "confidence", "second", "second_confidence", "reasons")


def names_to_review(run: Path, manifest: RunManifest, count: int, seed: int = 0) -> pl.DataFrame:
    """Return at most ``count`` names of a run with their answers, the reasons to look at them, and
    an empty column for the right label, called what the run calls labels.

    Reasons: ``matters`` (the most rows times doubt, so that a wrong answer moves the shares),
    ``uncertain`` (two labels are nearly as probable), ``unfamiliar``, ``ambiguous`` (with details
    only), ``drawn`` (at random).

    Raises:
        DataError: the run does not keep its names, is damaged, or has no answer.
    """
    if manifest.options.names != "keep":
        raise DataError(
            "the run does not keep its names, so that nobody can look at them; score the table "
            "with names keep",
            option="names",
        )
    keys = [NAMES[field] for field in manifest.options.scoring.name_fields]
    parts = [_answers(run / part.name, manifest) for part in manifest.parts]
    answers = pl.concat(parts).group_by(keys).agg(pl.col("rows").sum(), pl.exclude("rows").first())
    answers = answers.filter(pl.col("status") != "unscored").sort(keys)
    if not answers.height:
        raise DataError(f"{run} has no row with an answer; there is nothing to look at")
    empty = pl.lit("").alias(manifest.options.scoring.label_name)
    return _chosen(answers, count, seed).select(*keys, *OURS, empty)


def _answers(path: Path, manifest: RunManifest) -> pl.DataFrame:
    """Return the distinct names of a part with their rows and answers."""
    scoring = manifest.options.scoring
    label, there = scoring.label_name, part_schema(path).names
    names = {NAMES[field]: column for field, column in scoring.name_fields.items()}
    theirs = {"answer": label, "confidence": "confidence", "second": f"{label}_2",
              "second_confidence": "confidence_2", "status": "status", "reason": "reason",
              "ambiguous": "ambiguous"}  # fmt: skip
    kinds = {"confidence": pl.Float32, "second_confidence": pl.Float32, "ambiguous": pl.Boolean}
    columns = {**names, **{ours: scoring.prefix + added for ours, added in theirs.items()}}
    read = [column for column in dict.fromkeys(columns.values()) if column in there]
    frame = pl.DataFrame(read_part(path, columns=read))
    frame = frame.select(
        (pl.col(c) if c in there else pl.lit(None)).cast(kinds.get(ours, pl.String)).alias(ours)
        for ours, c in columns.items()
    )
    return frame.group_by(*names).agg(pl.exclude(*names).first(), rows=pl.len().cast(pl.Int64))


def _chosen(answers: pl.DataFrame, count: int, seed: int) -> pl.DataFrame:
    """Return the names that are first by any reason, with the reasons for which they are."""
    doubt = pl.col("rows") * (1 - pl.col("confidence"))
    scored = pl.col("status") == "scored"
    margin = pl.col("confidence") - pl.col("second_confidence")
    kind = pl.col("reason").eq_missing("unfamiliar")
    orders = {  # smaller is earlier; null is not at all
        "matters": pl.when(scored).then(-doubt),
        "uncertain": pl.when(scored).then(margin.fill_null(pl.col("confidence"))),
        "unfamiliar": pl.when(kind).then(-pl.col("rows")),
        "ambiguous": pl.when(pl.col("ambiguous").fill_null(False)).then(-doubt),
        "drawn": pl.int_range(pl.len()).shuffle(seed),
    }
    ranks = {f"_{reason}": order.rank("ordinal") for reason, order in orders.items()}
    ranked = answers.with_columns(**ranks)
    first = pl.min_horizontal(f"_{reason}" for reason in REASONS)
    chosen = ranked.with_columns(_first=first).sort("_first", maintain_order=True).head(count)
    last = int(chosen["_first"].max())  # type: ignore[arg-type]
    named = [pl.when(pl.col(f"_{r}") <= last).then(pl.lit(r)) for r in REASONS]
    return chosen.with_columns(reasons=pl.concat_str(named, separator="; ", ignore_nulls=True))


def reviewed_labels(source: Source, path: str) -> pa.Table:
    """Return the rows of a reviewed table that have a label: names, label, and their ``rows`` as
    ``names_to_review`` wrote them; columns may be in another order.

    Raises:
        DataError: it is no such table, or no row has a label.
    """
    headers = source.schema.names
    names = [column for column in NAMES.values() if column in headers]
    labels = [column for column in headers if column not in {*NAMES.values(), *OURS}]
    if not names or len(labels) != 1:
        raise DataError(
            f"{path} is no reviewed table: expected a column of names, such as name, and one for "
            f"the right label besides {', '.join(OURS)}; got {len(names)} and {len(labels)}"
        )
    columns = [*names, *labels, *(["rows"] if "rows" in headers else [])]
    table = pa.concat_tables(read_groups(file.groups, columns) for file in source.tables)
    texts = {column: as_large_string(table[column]) for column in columns}
    kept = {c: pc.utf8_trim_whitespace(restore_formulas(texts[c])) for c in (*names, *labels)}
    if "rows" in headers:
        try:
            kept["rows"] = pc.utf8_trim_whitespace(texts["rows"]).cast(pa.int64())
        except pa.ArrowException:
            raise DataError(
                f"{path}: column 'rows' has values that are no whole numbers; write it as it was, "
                "or remove it"
            ) from None
    table = pa.table(kept)
    filled = table.filter(pc.not_equal(pc.fill_null(table[labels[0]], ""), ""))
    if not filled.num_rows:
        raise DataError(
            f"{path}: no row has a label; fill in the column {labels[0]!r} where you know it"
        )
    return filled
