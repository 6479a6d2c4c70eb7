"""Turn lists of names and labelled tables into the training table."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from hashlib import sha256
from pathlib import Path

import pyarrow as pa

from charrnn.errors import ConfigError, DataError, is_uri, percent
from charrnn.files import hold, json_bytes, remove_tree, write_bytes
from charrnn.integrations.object_storage import check_remote_unchanged, fetch_input
from charrnn.model.labels import LANGUAGE, MIN_LABELS
from charrnn.recipes.requests import TUTORIAL_URL, IngestRequest
from charrnn.recipes.runner import Runner
from charrnn.runs.manifest import FetchedRecord
from charrnn.scoring.dictionary import check_label_column
from charrnn.tables.discovery import MAGIC, NoTableError, discover
from charrnn.tables.kinds import path_text, table_name
from charrnn.tables.source import check_unchanged
from charrnn.training.archive import choose_language_files, fetch
from charrnn.training.corpus import build_table, with_metadata, write_parts, write_table
from charrnn.training.corpus_report import (
    CorpusCounts,
    CorpusReport,
    corpus_report,
    report_markdown,
)
from charrnn.training.data_card import data_card
from charrnn.training.label_files import (
    TUTORIAL,
    TUTORIAL_DIGEST,
    LabelFile,
    Source,
    check_digest,
    content_digest,
    files_below,
    find_label_files,
)
from charrnn.training.labelled import LabelledColumns, LabelledTable, open_labelled
from charrnn.training.merge import Merge
from charrnn.training.name_packages import read_package
from charrnn.training.name_sources import VERSIONS

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
            *(f"{name:11} {counts.text}" for name, counts in report.tables.items()),
            f"ambiguous   {report.ambiguous_names:,} names under two or more labels",
            f"skew        the largest label has {percent(report.largest_label_share)} of the rows",
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
    """Turn names with labels into one table with folds, a report of its counts and a data card.

    Raises:
        CharrnnError: the download, a source, the digest of the lists, a column or the target is at
            fault; no table was written.
    """
    files, left_out, tables = list[LabelFile](), list[str](), list[str]()
    for name in dict.fromkeys(request.sources):
        if is_labelled_table(name):
            tables.append(name)
        else:
            read, others = read_source(name, request, runner)
            files, left_out = files + read, left_out + others
    if files or request.digest:
        check_digest(files, request.digest)
    if tables:
        return runner.step("merge tables", merge, tables, files, left_out, request, runner)
    check_no_columns(request)
    return runner.step("build table", build, files, left_out, request.target, runner)


def is_labelled_table(source: str) -> bool:
    """Whether a source is a labelled table, not lists of names.

    Raises:
        DataError: it is a folder with both.
    """
    if source == "tutorial" or source in VERSIONS:
        return False
    path = Path(source)
    if not path.is_dir():
        no_file = is_uri(source) or (MAGIC.search(source) and not path.exists())
        return bool(no_file or table_name(path.name))
    try:
        discover(source)
    except NoTableError:
        return False
    if choose_language_files(files_below(path))[0]:
        raise DataError(
            f"{source} holds both lists (.txt) and tables; move one kind into a folder of its own"
        )
    return True


def check_no_columns(request: IngestRequest) -> None:
    """Refuse options about columns where no source has columns."""
    for field in fields(request):
        option = field.name
        if option.endswith("_column") and getattr(request, option) != field.default:
            lists = "no source is one; the label of a list is its file name"
            raise ConfigError(f"{option} is about labelled tables, and {lists}", option=option)


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
    with hold(target.parent / ".lock", runner.holder):
        written = write_table(table, target)
        return _described(target, report, content_digest(files), written, left_out, without_names)


def merge(
    tables: Sequence[str],
    files: Sequence[LabelFile],
    left_out: list[str],
    request: IngestRequest,
    runner: Runner,
) -> Ingested:
    """Write the corpus of labelled tables, and of lists beside them, its report and its card."""
    target = request.target
    # Rows of labelled tables are counted; lists beside them have a name or not.
    lists = build_table([replace(file, frequencies=()) for file in files]) if files else None
    sources = list(dict.fromkeys(file.source for file in files))
    with hold(target.parent / ".lock", runner.holder), _scratch(target) as scratch:
        opened, remote = _opened(tables, sources, request, scratch)
        merged, counts = Merge(opened, lists, scratch), CorpusCounts()
        sources += [Source(name, counted=True) for name, _ in opened]
        digest = _digest_of(files, opened)
        label_name = LANGUAGE if files else opened[0][1].columns.label
        check_label_column(label_name)

        def parts() -> Iterator[pa.Table]:
            for i, table in enumerate(merged.tables()):
                part = with_metadata(table, digest, sources, (i, merged.parts), label_name)
                counts.add(part)
                yield part
            for _, table in opened:
                check_unchanged(table.source.files)
            check_remote_unchanged(remote)

        rows = sum(table.source.rows for _, table in opened)
        with runner.progress("reading", rows, "rows") as advance:
            merged.read(advance)
        if merged.parts == 1:
            [table] = parts()
            written = write_table(table, target)
        else:
            written = write_parts(parts(), target, scratch / "parts")
        report = counts.report(merged.counts)
        return _described(target, report, digest, written, left_out, [], label_name)


def _opened(
    tables: Sequence[str], lists: Sequence[Source], request: IngestRequest, scratch: Path
) -> tuple[list[tuple[str, LabelledTable]], tuple[FetchedRecord, ...]]:
    """Open the labelled tables, each with the name of its source, and copy those on object storage;
    also return the objects copied."""
    opened: list[tuple[str, LabelledTable]] = []
    remote: tuple[FetchedRecord, ...] = ()
    columns = LabelledColumns.of_names(
        request.name_column, request.given_column, request.surname_column,
        label=request.label_column, weight=request.weight_column, split=request.split_column,
    )  # fmt: skip
    for path, name in zip(tables, _source_names(tables, lists), strict=True):
        folder = scratch / f"{len(opened):03d}"
        copied, objects = fetch_input(path, folder)
        remote += objects
        opened.append((name, open_labelled(copied, columns, request.csv, folder)))
    return opened, remote


@contextmanager
def _scratch(target: Path) -> Iterator[Path]:
    """Yield a folder beside ``target`` that is removed at the end, and with it what a kill left."""
    folder = target.parent / f".ingest-{target.name}"
    remove_tree(folder)
    try:
        yield folder
    finally:
        remove_tree(folder)


def _source_names(tables: Sequence[str], lists: Sequence[Source]) -> list[str]:
    """Return a name for each table: its last part, or all of it where two have the same."""
    short = [path_text(Path(path).name or path) for path in tables]
    counts = Counter([*short, *(source.name for source in lists)])
    return [
        name if counts[name] == 1 else path_text(path)
        for name, path in zip(short, tables, strict=True)
    ]


def _digest_of(files: Sequence[LabelFile], tables: Sequence[tuple[str, LabelledTable]]) -> str:
    """Return one SHA-256 over all that a corpus with labelled tables is made from."""
    content: list[object] = [content_digest(files) if files else ""]
    for name, table in tables:
        digests = [(file.name, file.sha256) for file in table.source.files]
        content.append([name, asdict(table.columns), digests])
    return sha256(json_bytes(content)).hexdigest()


def _described(
    target: Path,
    report: CorpusReport,
    digest: str,
    written: bool,
    left_out: list[str],
    without_names: list[str],
    label_name: str = LANGUAGE,
) -> Ingested:
    """Write report and data card of a corpus that is written."""
    markdown = report_markdown(report, "Training data")
    write_bytes(target.with_suffix(".report.json"), json_bytes(asdict(report)))
    write_bytes(target.with_suffix(".report.md"), markdown.encode())
    card = data_card(report, digest, label_name)
    write_bytes(target.with_suffix(".card.md"), card.encode())
    return Ingested(target, report, markdown, written, left_out, without_names)
