"""The data card of a corpus table: what it is, where it comes from, what it lacks; no name is in
it."""

from collections.abc import Sequence

from charrnn.errors import printable
from charrnn.model.labels import LANGUAGE, plural
from charrnn.training.corpus_report import CorpusReport, label_table, source_table
from charrnn.training.name_sources import NOTES

_FEW = 100  # names of a label and part; fewer are hardly learned, and measured on ten
_MOST_LISTED = 60  # labels in a sentence

_TUTORIAL_NOTES = (
    "Surnames only, romanised and mostly without accents; nearly half of the rows are Russian, and "
    "the 2,000 Arabic ones are 108 names.",
    "Scottish has no list elsewhere; all of its names are English, too.",
)


def data_card(report: CorpusReport, digest: str, label_name: str = LANGUAGE) -> str:
    """Return the data card of a corpus table as a Markdown page.

    Args:
        digest: ``content_digest`` of its lists.
        label_name: what the labels are.
    """
    question = f"which {label_name} a name may have"
    if label_name == LANGUAGE:
        question = "which languages a name may come from"
    lines = [
        "# Data card: training names",
        "",
        f"{report.unique_pairs:,} names of {report.labels} {plural(label_name)} (surnames and "
        "given names apart, a name once under each of its labels), and "
        f"{report.outliers:,} words that are no names, in "
        f"{report.rows + report.outlier_rows:,} rows. A row has its source, its part (surname, "
        "given, other) and its fold; all spellings of a name, with and without accents, "
        "in its own script and transliterated, are in one fold.",
        "",
        f"Content digest `{digest}`.",
        "",
        "## Sources",
        "",
        *source_table(report.sources),
        "",
        "## Names by label, part and script",
        "",
        *label_table(report),
        "",
        "## Known gaps",
        "",
        *(f"- {printable(gap)}" for gap in _gaps(report)),
        "",
        "## Intended use",
        "",
        f"To train and to measure models that tell {question}. A label "
        "says on whose lists a name stands, not who bears it: not for decisions about persons, nor "
        "for their nationality, ethnicity or religion.",
        "",
        "## Redistribution",
        "",
        "Lists are read from the installed packages, or downloaded, when the table is made. "
        "Neither the lists nor this table are part of charrnn or of its models; a model holds "
        "weights, counts and hashes.",
        "",
    ]
    return "\n".join(lines)


def _gaps(report: CorpusReport) -> list[str]:
    """Return what the table lacks, as far as its counts and the notes on its sources say it."""
    labels = report.per_label.items()
    few = [f"{label} ({n.surnames})" for label, n in labels if n.surnames < _FEW]
    none_given = [label for label, n in labels if not n.given_names]
    has_given = any(n.given_names for _, n in labels)
    gaps = []
    if few:
        gaps.append(f"Fewer than {_FEW} surnames: {_listed(few)}.")
    if none_given and has_given:
        gaps.append(f"No given names: {_listed(none_given)}.")
    if report.overlaps:
        pairs = [f"{o.one} and {o.other} {o.names:,} ({o.share:.0%})" for o in report.overlaps]
        gaps.append(
            f"{report.ambiguous_names:,} names stand under two labels or more. Labels that share "
            f"most, with the share of the smaller one's names: {', '.join(pairs)}."
        )
    gaps.append(f"Left out of folds as junk: {report.dropped_text}.")
    names = {counted.source.name for counted in report.sources}
    notes = {"tutorial": _TUTORIAL_NOTES, **NOTES}
    for name, of_source in notes.items():
        gaps += [f"{name}: {note}" for note in of_source if name in names]
    return gaps


def _listed(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - _MOST_LISTED:,} more" if labels[_MOST_LISTED:] else ""
    return ", ".join(labels[:_MOST_LISTED]) + more
