"""Counts of a corpus table for people to read; no name is in them."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from charrnn.errors import printable


@dataclass(frozen=True)
class LabelRows:
    """Rows of one label, and its unique (normalised name, label) pairs without junk."""

    rows: int
    unique: int


@dataclass(frozen=True)
class CorpusReport:
    """Counts of a corpus table.

    Attributes:
        unique_pairs: (normalised name, label) pairs, without dropped rows.
        duplicate_rows: rows that repeat one of them.
        ambiguous_names: normalised names under two or more labels; ambiguous_rows: their rows.
        dropped: reason → rows left out of the honest protocol.
        characters_outside_vocabulary: character → occurrences after normalising.
        longest: characters of the longest name.
        largest_label_share: of the rows, 0 to 1.
        label_entropy_nats: of the label shares.
    """

    rows: int
    labels: int
    unique_pairs: int
    duplicate_rows: int
    ambiguous_names: int
    ambiguous_rows: int
    dropped: dict[str, int]
    non_ascii_rows: int
    characters_outside_vocabulary: dict[str, int]
    longest: int
    largest_label_share: float
    label_entropy_nats: float
    per_label: dict[str, LabelRows]

    @property
    def dropped_text(self) -> str:
        """The dropped rows by reason, on one line."""
        return ", ".join(f"{n} {reason}" for reason, n in self.dropped.items()) or "none"


def corpus_report(table: pa.Table, symbols: str) -> CorpusReport:
    """Return the counts of a corpus table (``corpus.SCHEMA``); ``symbols`` are the characters of
    the vocabulary."""
    names, normalised = table["name"].to_pylist(), table["name_normalised"].to_pylist()
    languages, dropped = table["language"].to_pylist(), table["dropped"].to_pylist()
    usable = [
        (name, label)
        for name, label, reason in zip(normalised, languages, dropped, strict=True)
        if reason is None
    ]
    unique = set(usable)
    labels_of = Counter(name for name, _ in unique)
    ambiguous = {name for name, count in labels_of.items() if count > 1}
    rows = Counter(languages)
    unique_rows = Counter(label for _, label in unique)
    shares = np.array(list(rows.values())) / len(names)
    outside = Counter(c for name in normalised for c in name if c not in symbols)
    return CorpusReport(
        rows=len(names),
        labels=len(rows),
        unique_pairs=len(unique),
        duplicate_rows=len(usable) - len(unique),
        ambiguous_names=len(ambiguous),
        ambiguous_rows=sum(name in ambiguous for name, _ in usable),
        dropped=dict(sorted(Counter(r for r in dropped if r).items())),
        non_ascii_rows=sum(not name.isascii() for name in names),
        characters_outside_vocabulary=dict(outside.most_common()),
        longest=max(map(len, names)),
        largest_label_share=float(shares.max()),
        label_entropy_nats=float(-(shares * np.log(shares)).sum()),
        per_label={label: LabelRows(rows[label], unique_rows[label]) for label in sorted(rows)},
    )


def report_markdown(report: CorpusReport, title: str) -> str:
    """Return a corpus report as a Markdown page."""
    characters = report.characters_outside_vocabulary.items()
    outside = printable(", ".join(f"`{c}` × {n}" for c, n in characters)).replace("|", "\\|")
    rows = {
        "rows": f"{report.rows:,}",
        "labels": f"{report.labels}",
        "unique (name, label) pairs": f"{report.unique_pairs:,}",
        "duplicate rows": f"{report.duplicate_rows:,}",
        "names under two or more labels": f"{report.ambiguous_names:,} "
        f"({report.ambiguous_rows:,} rows)",
        "dropped from the honest protocol": report.dropped_text,
        "rows with non-ASCII characters": f"{report.non_ascii_rows:,}",
        "characters outside the vocabulary, after normalising": outside or "none",
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
        "| label | rows | unique |",
        "|---|---:|---:|",
        *(
            f"| {printable(label)} | {n.rows:,} | {n.unique:,} |"
            for label, n in report.per_label.items()
        ),
        "",
    ]
    return "\n".join(lines)
