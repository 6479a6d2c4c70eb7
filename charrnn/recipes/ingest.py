"""Turn lists of names into the training table."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from charrnn.errors import DataError
from charrnn.files import hold, json_bytes, write_bytes
from charrnn.model.labels import MIN_LABELS
from charrnn.recipes.requests import TUTORIAL_URL, IngestRequest
from charrnn.recipes.runner import Runner
from charrnn.training.archive import fetch
from charrnn.training.corpus import build_table, write_table
from charrnn.training.corpus_report import CorpusReport, corpus_report, report_markdown
from charrnn.training.data_card import data_card
from charrnn.training.label_files import (
    TUTORIAL,
    TUTORIAL_DIGEST,
    LabelFile,
    Source,
    check_digest,
    content_digest,
    find_label_files,
)
from charrnn.training.name_packages import VERSIONS, read_package

_MOST_LISTED = 10  # files named in a line


@dataclass(frozen=True)
class Ingested:
    """A training table with the report and the data card beside it; ``written`` is False where an
    equal table was there. ``left_out`` are files that are no language files, ``without_names``
    lists without a usable name."""

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

    @property
    def card_path(self) -> Path:
        """The data card as Markdown."""
        return self.table.with_suffix(".card.md")

    def lines(self) -> list[str]:
        """Return the lines about a training table."""
        report = self.report
        return [
            f"rows        {report.rows:,} under {report.labels} labels",
            f"unique      {report.unique_pairs:,} (name, label) pairs; {report.dropped_text} "
            "dropped as junk",
            *[f"words       {report.outliers:,} that are no names"] * bool(report.outliers),
            f"ambiguous   {report.ambiguous_names:,} names under two or more labels",
            f"skew        the largest label has {report.largest_label_share:.1%} of the rows",
            f"table       {self.table}" + ("" if self.written else " (unchanged)"),
            f"report      {self.report_path}",
            f"data card   {self.card_path}",
            *_listed("left out", self.left_out, "files that are no LABEL.txt"),
            *_listed("no names", self.without_names, "language files without a usable name"),
        ]


def _listed(title: str, names: list[str], what: str) -> list[str]:
    """Return a line that counts ``names`` and lists the first ones; none without names."""
    more = f" and {len(names) - _MOST_LISTED} more" if names[_MOST_LISTED:] else ""
    shown = ", ".join(names[:_MOST_LISTED])
    return [f"{title:11} {len(names)} {what}: {shown}{more}"] if names else []


def ingest(request: IngestRequest, runner: Runner) -> Ingested:
    """Turn lists of names into one table with folds, a report of its counts and a data card.

    Raises:
        CharrnnError: the download, the lists, their digest or the target is at fault; no table was
            written.
    """
    files, left_out = list[LabelFile](), list[str]()
    for name in dict.fromkeys(request.sources):
        read, others = read_source(name, request, runner)
        files, left_out = files + read, left_out + others
    check_digest(files, request.digest)
    return runner.step("build table", build, files, left_out, request.target, runner)


def read_source(
    name: str, request: IngestRequest, runner: Runner
) -> tuple[list[LabelFile], list[str]]:
    """Read the lists of one source; return them and the files left out, which are no lists."""
    if name in VERSIONS:
        return read_package(name), []
    path = Path(name)
    if name == "tutorial":
        archive = request.target.parent / "data.zip"
        path = runner.step("download", download, request.url, archive, runner)
    files, left_out = find_label_files(path, MIN_LABELS if len(request.sources) == 1 else 1)
    if name == "tutorial" and request.url == TUTORIAL_URL and not request.digest:
        check_digest(files, TUTORIAL_DIGEST)
    if name == "tutorial" or content_digest(files) == TUTORIAL_DIGEST:
        source = TUTORIAL
    else:
        source = Source(path.stem if path.is_file() else path.resolve().name)
    return [replace(file, source=source) for file in files], left_out


def download(url: str, archive: Path, runner: Runner) -> Path:
    """Fetch the archive, going on with a partial download; return its path."""
    with (
        hold(archive.parent / ".lock", runner.holder),
        runner.progress("download", None, "bytes") as advance,
    ):
        return fetch(url, archive, on_bytes=advance)


def build(
    files: Sequence[LabelFile], left_out: list[str], target: Path, runner: Runner
) -> Ingested:
    """Write the table of the lists, its report and its data card, atomically."""
    table = build_table(files)
    report = corpus_report(table)
    usable = {label for label, rows in report.per_label.items() if rows.unique}
    of_labels = [file for file in files if file.label is not None]
    without_names = [file.name for file in of_labels if file.label not in usable]
    if len(usable) < MIN_LABELS:
        sources = ", ".join(dict.fromkeys(file.source.name for file in files))
        raise DataError(
            f"{sources}: {len(usable)} of {len(of_labels)} language files has usable names, a "
            f"model needs {MIN_LABELS}; without any: {', '.join(without_names[:_MOST_LISTED])}"
        )
    markdown = report_markdown(report, "Training data")
    card = data_card(report, content_digest(files))
    with hold(target.parent / ".lock", runner.holder):
        written = write_table(table, target)
        write_bytes(target.with_suffix(".report.json"), json_bytes(asdict(report)))
        write_bytes(target.with_suffix(".report.md"), markdown.encode())
        write_bytes(target.with_suffix(".card.md"), card.encode())
    return Ingested(target, report, markdown, written, left_out, without_names)
