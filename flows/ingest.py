"""Turn language files into the training table.

python flows/ingest.py                    # downloads the tutorial's data.zip
python flows/ingest.py my_languages/      # a folder of LABEL.txt files, or a zip of them
"""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from flows.command import new_app, progress, run, say, this_process
from flows.tracking import note, task
from flows.tracking import plain_flow as flow

TUTORIAL_URL = "https://download.pytorch.org/tutorial/data.zip"


@task(name="download", retries=2, retry_delay_seconds=[2, 10])
def download(url: str, archive: Path) -> Path:
    """Fetch the archive, going on with a partial download."""
    from charrnn.training.archive import fetch

    with _holding(archive.parent), progress("download", None, "bytes") as advance:
        return fetch(url, archive, on_bytes=advance)


@task(name="build table")
def build(source: Path, target: Path, expected_digest: str) -> dict[str, Any]:
    """Read the language files, write the table atomically, and return the data report."""
    from charrnn.files import json_bytes, write_bytes
    from charrnn.model.vocabulary import LATIN_VOCABULARY
    from charrnn.training.corpus import (
        build_table,
        check_digest,
        data_report,
        read_label_files,
        report_markdown,
        write_table,
    )

    files = read_label_files(source)
    check_digest(files, expected_digest)
    table = build_table(files)
    report = data_report(table, LATIN_VOCABULARY.symbols)
    markdown = report_markdown(report, "Training data")
    with _holding(target.parent):
        written = write_table(table, target)
        write_bytes(target.with_suffix(".report.json"), json_bytes(report))
        write_bytes(target.with_suffix(".report.md"), markdown.encode())
    note("data-report", markdown, "What the training table holds")
    return {**report, "written": written}


def _holding(folder: Path) -> AbstractContextManager[None]:
    """Hold ``folder``, so that two ingests do not write the same files at once."""
    from charrnn.files import hold

    return hold(folder / ".lock", this_process())


@flow(name="ingest", flow_run_name="ingest")
def ingest(
    source: str = "",
    *,
    target: str = "data/names.parquet",
    url: str = TUTORIAL_URL,
    digest: str = "",
) -> str:
    """Turn language files into one table, one row per line, with folds and a data report.

    A language file is UTF-8 text; its name is the label, and every line is a name.

    Args:
        source: a folder of LABEL.txt files or a zip of them; empty downloads ``url``.
        target: the table to write; an equal table is left as it is.
        url: where the archive is downloaded from (https).
        digest: content digest the files must have; the tutorial's is known and always checked
            after a download from its own address.

    Returns:
        The table's path.
    """
    from charrnn.training.corpus import TUTORIAL_DIGEST

    path, expected = Path(source), digest
    if not source:
        path = download(url, Path(target).parent / "data.zip")
        expected = digest or (TUTORIAL_DIGEST if url == TUTORIAL_URL else "")
    report = build(path, Path(target), expected)
    dropped = ", ".join(f"{n} {reason}" for reason, n in report["dropped"].items()) or "none"
    say(f"rows        {report['rows']:,} under {report['labels']} labels")
    say(f"unique      {report['unique_pairs']:,} (name, label) pairs; {dropped} dropped as junk")
    say(f"ambiguous   {report['ambiguous_names']:,} names under two or more labels")
    say(f"skew        the largest label has {report['largest_label_share']:.1%} of the rows")
    say(f"table       {target}" + ("" if report["written"] else " (unchanged)"))
    say(f"report      {Path(target).with_suffix('.report.md')}")
    return target


app = new_app(
    "  python flows/ingest.py\n"
    "  python flows/ingest.py names.zip\n"
    "  python flows/ingest.py my_languages/ --target data/mine.parquet"
)
app.default(ingest)

if __name__ == "__main__":
    run(app)
