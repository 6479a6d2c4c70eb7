"""Counts of a corpus table for people to read; no name is in them."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from charrnn.errors import printable
from charrnn.training.corpus import SourceCounts, sources_of

_USUAL = frozenset(" '-.,")  # between the letters of names


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

    @property
    def dropped_text(self) -> str:
        """The dropped rows by reason, on one line."""
        return ", ".join(f"{n:,} {reason}" for reason, n in self.dropped.items()) or "none"


def corpus_report(table: pa.Table) -> CorpusReport:
    """Return the counts of a corpus table (``corpus.SCHEMA``)."""
    is_name = pc.is_valid(table["language"])
    others, named = table.filter(pc.invert(is_name)), table.filter(is_name)
    columns = ("name", "name_normalised", "language", "part", "dropped")
    names, keys, labels, parts, dropped = (named[column].to_pylist() for column in columns)
    usable = [
        (key, label, part)
        for key, label, part, reason in zip(keys, labels, parts, dropped, strict=True)
        if reason is None
    ]
    unique = set(usable)
    of_name = Counter((key, part) for key, _, part in unique)
    ambiguous: dict[tuple[str, str], set[str]] = {n: set() for n, c in of_name.items() if c > 1}
    for key, label, part in unique:
        if of_name[key, part] > 1:
            ambiguous[key, part].add(label)
    per_label = _per_label(zip(names, labels, strict=True), unique)
    shares = np.array(list(Counter(labels).values())) / len(names)
    reasons = Counter(reason for reason in table["dropped"].to_pylist() if reason)
    words = others["name_normalised"].filter(pc.is_null(others["dropped"]))
    return CorpusReport(
        rows=len(names),
        labels=len(set(labels)),
        unique_pairs=len(unique),
        duplicate_rows=len(usable) - len(unique),
        ambiguous_names=len(ambiguous),
        ambiguous_rows=sum((key, part) in ambiguous for key, _, part in usable),
        dropped=dict(sorted(reasons.items())),
        non_ascii_rows=sum(not name.isascii() for name in names),
        unusual_characters={
            c: n for c, n in Counter("".join(keys)).most_common() if _is_unusual(c)
        },
        longest=max(map(len, names)),
        largest_label_share=float(shares.max()),
        label_entropy_nats=float(-(shares * np.log(shares)).sum()),
        outliers=pc.count_distinct(words).as_py(),
        outlier_rows=len(others),
        overlaps=_overlaps(ambiguous.values(), per_label),
        per_label=per_label,
        sources=sources_of(table),
    )


def _per_label(
    rows: Iterable[tuple[str, str]], unique: set[tuple[str, str, str]]
) -> dict[str, LabelRows]:
    scripts: dict[str, Counter[str]] = {}
    for name, label in rows:
        scripts.setdefault(label, Counter())[script_of(name)] += 1
    parts = Counter((label, part) for _, label, part in unique)
    return {
        label: LabelRows(
            rows=scripts[label].total(),
            unique=parts[label, "surname"] + parts[label, "given"],
            surnames=parts[label, "surname"],
            given_names=parts[label, "given"],
            scripts=dict(scripts[label].most_common()),
        )
        for label in sorted(scripts)
    }


def _overlaps(
    label_sets: Iterable[set[str]], per_label: Mapping[str, LabelRows], most: int = 12
) -> list[Overlap]:
    """Return the pairs of labels that share most of the smaller one's names."""
    pairs = Counter(pair for labels in label_sets for pair in combinations(sorted(labels), 2))
    found = [
        Overlap(one, other, n, n / min(per_label[one].unique, per_label[other].unique))
        for (one, other), n in pairs.items()
    ]
    return sorted(found, key=lambda o: (-o.share, o.one, o.other))[:most]


def script_of(text: str) -> str:
    """Return the script of a text's first letter, as the first word of its Unicode name.

    >>> script_of("-Иванов"), script_of("7")
    ('Cyrillic', 'Other')
    """
    letter = next(filter(str.isalpha, text), "")
    if letter.isascii() and letter:
        return "Latin"
    return unicodedata.name(letter, "other").split(" ")[0].capitalize() if letter else "Other"


def _is_unusual(character: str) -> bool:
    return not (character in _USUAL or character.isalpha())


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
        source = counted.source
        parts = Counter[str]()
        for of_label in counted.rows.values():
            parts.update(of_label)
        licence = source.licence or "not stated"
        cells = [source.name, source.version, licence, str(len(counted.rows.keys() - {""}))]
        cells += [f"{parts[part]:,}" for part in ("surname", "given", "other")]
        rows.append(
            f"| {' | '.join(printable(cell).replace('|', chr(92) + '|') for cell in cells)} |"
        )
    return [
        "| source | version | licence | labels | rows: surnames | given names | no names |",
        "|---|---|---|---:|---:|---:|---:|",
        *rows,
    ]
