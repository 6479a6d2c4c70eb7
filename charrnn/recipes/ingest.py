"""Turn language files into the training table."""

from dataclasses import asdict, dataclass
from pathlib import Path

from charrnn.errors import DataError
from charrnn.files import hold, json_bytes, write_bytes
from charrnn.model.labels import MIN_LABELS
from charrnn.model.vocabulary import LATIN_VOCABULARY
from charrnn.recipes.requests import TUTORIAL_URL, IngestRequest
from charrnn.recipes.runner import Runner
from charrnn.training.archive import fetch
from charrnn.training.corpus import (
    TUTORIAL_DIGEST,
    build_table,
    check_digest,
    find_label_files,
    write_table,
)
from charrnn.training.corpus_report import CorpusReport, corpus_report, report_markdown

_MOST_LISTED = 10  # files named in a line


@dataclass(frozen=True)
class Ingested:
    """A training table and the report beside it; ``written`` is False where an equal table was
    there. ``left_out`` are files that are no language files, ``without_names`` language files
    without a usable name."""

    table: Path
    report: CorpusReport
    markdown: str
    written: bool
    left_out: list[str]
    without_names: list[str]

    @property
    def report_path(self) -> Path:
        """The report as Markdown."""
        return self.table.with_suffix(".report.md")

    def lines(self) -> list[str]:
        """Return the lines about a training table."""
        report = self.report
        return [
            f"rows        {report.rows:,} under {report.labels} labels",
            f"unique      {report.unique_pairs:,} (name, label) pairs; {report.dropped_text} "
            "dropped as junk",
            f"ambiguous   {report.ambiguous_names:,} names under two or more labels",
            f"skew        the largest label has {report.largest_label_share:.1%} of the rows",
            f"table       {self.table}" + ("" if self.written else " (unchanged)"),
            f"report      {self.report_path}",
            *_listed("left out", self.left_out, "files that are no LABEL.txt"),
            *_listed("no names", self.without_names, "language files without a usable name"),
        ]


def _listed(title: str, names: list[str], what: str) -> list[str]:
    """Return a line that counts ``names`` and lists the first ones; none without names."""
    more = f" and {len(names) - _MOST_LISTED} more" if names[_MOST_LISTED:] else ""
    shown = ", ".join(names[:_MOST_LISTED])
    return [f"{title:11} {len(names)} {what}: {shown}{more}"] if names else []


def ingest(request: IngestRequest, runner: Runner) -> Ingested:
    """Turn language files into one table, one row per line, with folds and a report of its counts.

    Raises:
        CharrnnError: the download, the files, their digest or the target is at fault; no table was
            written.
    """
    source, digest = Path(request.source), request.digest
    if not request.source:
        archive = request.target.parent / "data.zip"
        source = runner.step("download", download, request.url, archive, runner)
        digest = digest or (TUTORIAL_DIGEST if request.url == TUTORIAL_URL else "")
    return runner.step("build table", build, source, request.target, digest, runner)


def download(url: str, archive: Path, runner: Runner) -> Path:
    """Fetch the archive, going on with a partial download; return its path."""
    with (
        hold(archive.parent / ".lock", runner.holder),
        runner.progress("download", None, "bytes") as advance,
    ):
        return fetch(url, archive, on_bytes=advance)


def build(source: Path, target: Path, digest: str, runner: Runner) -> Ingested:
    """Read the language files and write the table and its report, atomically."""
    files, left_out = find_label_files(source)
    check_digest(files, digest)
    table = build_table(files)
    report = corpus_report(table, LATIN_VOCABULARY.symbols)
    usable = {label for label, rows in report.per_label.items() if rows.unique}
    without_names = [file.name for file in files if file.label not in usable]
    if len(usable) < MIN_LABELS:
        raise DataError(
            f"{source}: {len(usable)} of {len(files)} language files has usable names, a model "
            f"needs {MIN_LABELS}; without any: {', '.join(without_names[:_MOST_LISTED])}"
        )
    markdown = report_markdown(report, "Training data")
    with hold(target.parent / ".lock", runner.holder):
        written = write_table(table, target)
        write_bytes(target.with_suffix(".report.json"), json_bytes(asdict(report)))
        write_bytes(target.with_suffix(".report.md"), markdown.encode())
    return Ingested(target, report, markdown, written, left_out, without_names)
