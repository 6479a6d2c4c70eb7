"""Counts of a corpus table for people to read; no name is in them."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pyarrow as pa

from charrnn.errors import printable
from charrnn.training.corpus import SourceCounts, sources_of
from charrnn.training.label_files import Source
from charrnn.training.name_keys import script_of

_MOST_SHARED = 32  # labels of a name that is counted for pairs of labels: more say little
_MOST_OVERLAPS = 12  # pairs of labels that a report has
_UNUSUAL = "[^\\pL '.,-]"  # characters other than those of names


@dataclass(frozen=True)
class LabelRows:
    """Rows of one label, and its unique names without junk: all, surnames and given names.
    ``scripts`` are rows by the script of the name's first letter."""

    rows: int
    unique: int
    surnames: int
    given_names: int
    scripts: dict[str, int]


@dataclass(frozen=True)
class Overlap:
    """Two labels, the number of names that both have, and its share of the smaller one's names."""

    one: str
    other: str
    names: int
    share: float


@dataclass
class RowCounts:
    """What became of the rows of a labelled table: ``rows``, and ``second_names`` of those that
    have a given name beside a surname, are ``kept``, ``merged`` into another row of their name and
    label, or ``dropped``, by reason."""

    rows: int
    second_names: int = 0
    kept: int = 0
    merged: int = 0
    dropped: dict[str, int] = field(default_factory=dict)

    def drop(self, reason: str, rows: int) -> None:
        """Count rows that are dropped."""
        if rows:
            self.dropped[reason] = self.dropped.get(reason, 0) + rows

    @property
    def text(self) -> str:
        """The counts on one line."""
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in sorted(self.dropped.items()))
        second = f" + {self.second_names:,} given names" if self.second_names else ""
        return (
            f"{self.rows:,} rows{second} = {self.kept:,} kept + {self.merged:,} merged + "
            f"{sum(self.dropped.values()):,} dropped" + (f" ({reasons})" if reasons else "")
        )


@dataclass(frozen=True)
class CorpusReport:
    """Counts of a corpus table.

    Attributes:
        rows: of names.
        unique_pairs: (name, label, part) triples, without dropped rows; spellings of a name
            count once, see ``corpus.name_key``.
        duplicate_rows: rows that repeat one of them, or are another spelling.
        ambiguous_names: names under two or more labels; ambiguous_rows: their rows.
        dropped: reason → rows left out of the honest protocol.
        unusual_characters: character → occurrences, after normalising, of what is neither a letter
            nor usual between letters.
        longest: characters of the longest name.
        largest_label_share: of the rows, 0 to 1.
        label_entropy_nats: of the label shares.
        outliers: unique words that are no names, without dropped rows; outlier_rows: all of their
            rows.
        overlaps: the pairs of labels that share most of the smaller one's names.
        sources: rows by source, label and part, with the source's version and licence.
        tables: what became of the rows of each labelled table.
    """

    rows: int
    labels: int
    unique_pairs: int
    duplicate_rows: int
    ambiguous_names: int
    ambiguous_rows: int
    dropped: dict[str, int]
    non_ascii_rows: int
    unusual_characters: dict[str, int]
    longest: int
    largest_label_share: float
    label_entropy_nats: float
    outliers: int
    outlier_rows: int
    overlaps: list[Overlap]
    per_label: dict[str, LabelRows]
    sources: list[SourceCounts]
    tables: dict[str, RowCounts]

    @property
    def dropped_text(self) -> str:
        """The dropped rows by reason, on one line."""
        return ", ".join(f"{n:,} {reason}" for reason, n in self.dropped.items()) or "none"


class CorpusCounts:
    """The counts of a corpus, added up part by part; all rows of a name are in one part."""

    def __init__(self) -> None:
        self._totals = Counter[str]()
        self._dropped = Counter[str]()
        self._characters = Counter[str]()
        self._longest = 0
        self._scripts: dict[str, Counter[str]] = {}  # rows by script, by label
        self._parts = Counter[tuple[str, str]]()  # unique names by label and part
        self._pairs = Counter[tuple[str, str]]()  # names by pair of labels
        self._sources: dict[Source, dict[str, Counter[str]]] = {}

    def add(self, table: pa.Table) -> None:
        """Add a part (``corpus.SCHEMA``)."""
        for counted in sources_of(table):
            by_label = self._sources.setdefault(counted.source, {})
            for label, parts in counted.rows.items():
                by_label.setdefault(label, Counter()).update(parts)
        rows = pl.DataFrame(table.drop_columns(["source", "source_file"]))
        is_name, usable = pl.col("language").is_not_null(), pl.col("dropped").is_null()
        named, others = rows.filter(is_name), rows.filter(~is_name)
        self._dropped.update(dict(rows["dropped"].drop_nulls().value_counts().rows()))
        self._totals.update(
            rows=len(named),
            outlier_rows=len(others),
            outliers=others.filter(usable)["name_normalised"].n_unique(),
            non_ascii_rows=len(named.filter(pl.col("name").str.contains(r"[^\x00-\x7f]"))),
        )
        longest = named.select(pl.col("name").str.len_chars().max()).item()
        self._longest = max(self._longest, longest or 0)
        characters = named.select(pl.col("name_normalised").str.extract_all(_UNUSUAL).explode())
        unusual = characters.drop_nulls().group_by("name_normalised").len()
        self._characters.update(dict(unusual.sort("name_normalised").rows()))
        letters = named.group_by(
            "language", pl.col("name").str.extract(r"(\pL)").fill_null(""), maintain_order=True
        )
        for label, letter, count in letters.len().rows():
            self._scripts.setdefault(label, Counter())[script_of(letter)] += count
        self._add_names(named.filter(usable))

    def _add_names(self, named: pl.DataFrame) -> None:
        """Count unique names, by label and part, and the labels that share them."""
        name = ("name_normalised", "part")
        unique = named.group_by(*name, "language").agg(pl.len().alias("rows"))
        unique = unique.with_columns(pl.len().over(*name).alias("labels"))
        for label, part, count in unique.group_by("language", "part").len().rows():
            self._parts[label, part] += count
        shared = unique.filter(pl.col("labels") > 1).sort(*name, "language")
        self._totals.update(
            unique_pairs=len(unique),
            duplicate_rows=len(named) - len(unique),
            ambiguous_names=shared.select(name).n_unique(),
            ambiguous_rows=int(shared["rows"].sum()),
        )
        shared = shared.filter(pl.col("labels") <= _MOST_SHARED)
        for distance in range(1, shared.select(pl.col("labels").max()).item() or 0):
            later = pl.col("language").shift(-distance).over(*name).alias("later")
            pairs = shared.select("language", later).drop_nulls().group_by(pl.all()).len()
            for one, other, count in pairs.rows():
                self._pairs[one, other] += count

    def report(self, tables: Mapping[str, RowCounts]) -> CorpusReport:
        """Return the counts of all parts; ``tables`` are those of the labelled tables."""
        rows = {label: scripts.total() for label, scripts in self._scripts.items()}
        shares = np.array(list(rows.values())) / max(1, self._totals["rows"])
        per_label = {
            label: LabelRows(
                rows=scripts.total(),
                unique=self._parts[label, "surname"] + self._parts[label, "given"],
                surnames=self._parts[label, "surname"],
                given_names=self._parts[label, "given"],
                scripts=dict(sorted(scripts.items(), key=lambda one: (-one[1], one[0] != "Latin"))),
            )
            for label, scripts in sorted(self._scripts.items())
        }
        overlaps = [
            Overlap(one, other, n, n / min(per_label[one].unique, per_label[other].unique))
            for (one, other), n in self._pairs.items()
        ]
        return CorpusReport(
            **self._totals,
            labels=len(rows),
            dropped=dict(sorted(self._dropped.items())),
            unusual_characters=dict(self._characters.most_common()),
            longest=self._longest,
            largest_label_share=float(shares.max(initial=0)),
            label_entropy_nats=float(-(shares * np.log(shares)).sum()),
            overlaps=sorted(overlaps, key=lambda o: (-o.share, o.one, o.other))[:_MOST_OVERLAPS],
            per_label=per_label,
            sources=[
                SourceCounts(source, {label: dict(parts) for label, parts in by_label.items()})
                for source, by_label in self._sources.items()
            ],
            tables=dict(tables),
        )


def corpus_report(table: pa.Table) -> CorpusReport:
    """Return the counts of a corpus that is one table (``corpus.SCHEMA``)."""
    counts = CorpusCounts()
    counts.add(table)
    return counts.report({})


def report_markdown(report: CorpusReport, title: str) -> str:
    """Return a corpus report as a Markdown page."""
    characters = report.unusual_characters.items()
    unusual = printable(", ".join(f"`{c}` × {n}" for c, n in characters)).replace("|", "\\|")
    rows = {
        "rows": f"{report.rows:,}",
        "labels": f"{report.labels}",
        "unique (name, label) pairs": f"{report.unique_pairs:,}",
        "rows that repeat one, or spell it otherwise": f"{report.duplicate_rows:,}",
        "names under two or more labels": f"{report.ambiguous_names:,} "
        f"({report.ambiguous_rows:,} rows)",
        "words that are no names": f"{report.outliers:,} ({report.outlier_rows:,} rows)",
        "dropped from the honest protocol": report.dropped_text,
        "names with non-ASCII characters": f"{report.non_ascii_rows:,}",
        "characters unusual in names": unusual or "none",
        "longest name": f"{report.longest} characters",
        "largest label": f"{report.largest_label_share:.1%} of the rows",
        "label entropy": f"{report.label_entropy_nats:.2f} nats",
    }
    lines = [
        f"# {title}",
        "",
        "| | |",
        "|---|---|",
        *(f"| {key} | {value} |" for key, value in rows.items()),
        "",
        *label_table(report),
        "",
        *source_table(report.sources),
        "",
        *(f"{printable(name)}: {counts.text}.\n" for name, counts in report.tables.items()),
    ]
    return "\n".join(lines)


def label_table(report: CorpusReport) -> list[str]:
    """Return the lines of a table of the labels."""
    return [
        "| label | rows | unique | surnames | given names | scripts |",
        "|---|---:|---:|---:|---:|---|",
        *(
            f"| {printable(label)} | {n.rows:,} | {n.unique:,} | {n.surnames:,} "
            f"| {n.given_names:,} | {', '.join(f'{s} {m:,}' for s, m in n.scripts.items())} |"
            for label, n in report.per_label.items()
        ),
    ]


def source_table(sources: Iterable[SourceCounts]) -> list[str]:
    """Return the lines of a table of the sources."""
    rows = []
    for counted in sources:
        source, of_labels = counted.source, counted.rows.values()
        licence = source.licence or "not stated"
        cells = [source.name, source.version, licence, str(len(counted.rows.keys() - {""}))]
        for part in ("surname", "given", "other"):
            cells.append(f"{sum(parts.get(part, 0) for parts in of_labels):,}")
        rows.append(
            f"| {' | '.join(printable(cell).replace('|', chr(92) + '|') for cell in cells)} |"
        )
    return [
        "| source | version | licence | labels | rows: surnames | given names | no names |",
        "|---|---|---|---:|---:|---:|---:|",
        *rows,
    ]
