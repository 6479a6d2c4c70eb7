"""Ingest, train, promote and score as one flow.

python flows/pipeline.py people.parquet --source my_languages/
"""

from typing import Literal

from flows.command import add_tracking, new_parser, run
from flows.ingest import ingest
from flows.models import promote_version
from flows.score import score
from flows.tracking import flow
from flows.train import train


@flow(name="pipeline")
def pipeline(
    names: str,
    source: str = "",
    name_column: str = "name",
    data: str = "data/names.parquet",
    models: str = "outputs/models",
    output: str = "",
    preset: Literal["seed", "default", "tiny"] = "default",
    epochs: int | None = None,
    device: str = "auto",
) -> str:
    """Make the training table, train on it, promote the model if it is not worse, and score.

    Args:
        names: the table to score: a file, a folder or a glob.
        source: language files: a folder or a zip; empty downloads the tutorial's.
        name_column: the column that holds the names to score.
        data: where the training table is written.
        models: folder of the model versions.
        output: as for score.
        preset: as for train.
        epochs: instead of the preset's.
        device: auto, cpu, cuda or cuda:N.

    Returns:
        The folder of the scoring run.
    """
    ingest(source, data)
    train(preset, data, models, device, epochs=epochs, promote="never")
    promote_version("candidate", models)
    return score(names, name_column, "champion", output, device=device, models=models)


def main() -> None:
    """The command line."""
    parser = new_parser(
        "Ingest, train, promote and score in one go; each step as its own command does it.",
        "  python flows/pipeline.py people.parquet\n"
        "  python flows/pipeline.py people.csv --source my_languages/ --preset seed",
    )
    add = parser.add_argument
    add("names", metavar="INPUT", help="the table to score: a file, a folder or a glob")
    add("--source", default="", help="language files: a folder or a zip (default: download)")
    add("--name-column", default="name", metavar="COLUMN", help="column with the names (name)")
    add("--data", default="data/names.parquet", metavar="PATH", help="training table to write")
    add("--models", default="outputs/models", metavar="DIR", help="folder of the model versions")
    add("-o", "--output", default="", metavar="PATH", help="as for score.py")
    add("--preset", choices=["seed", "default", "tiny"], default="default", help="as for train.py")
    add("--epochs", type=int, metavar="N", help="instead of the preset's")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N (auto)")
    add_tracking(parser)
    arguments = vars(parser.parse_args())
    del arguments["track"]
    pipeline(**arguments)


if __name__ == "__main__":
    run(main)
