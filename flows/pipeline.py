"""Ingest, train, promote and score as one flow.

python flows/pipeline.py people.parquet --source my_languages/
"""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from charrnn.scoring.options import ComputeOptions, DeliveryOptions, ScoreOptions
from flows.command import new_app, run
from flows.ingest import ingest
from flows.models import promote_version
from flows.score import score
from flows.tracking import plain_flow as flow
from flows.train import train


@flow(name="pipeline")
def pipeline(
    names: str,
    *,
    source: str = "",
    name_column: str = "name",
    data: str = "data/names.parquet",
    models: str = "outputs/models",
    output: Annotated[str, Parameter(alias="-o")] = "",
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
    ingest(source, target=data)
    train(preset=preset, data=data, models=models, device=device, epochs=epochs, promote="never")
    promote_version("candidate", models=models)
    return score(
        source=names,
        model="champion",
        models=Path(models),
        scoring=ScoreOptions(name_column=name_column),
        compute=ComputeOptions(device=device),
        delivery=DeliveryOptions(output=output),
    )


app = new_app(
    "  python flows/pipeline.py people.parquet\n"
    "  python flows/pipeline.py people.csv --source my_languages/ --preset seed"
)
app.default(pipeline)

if __name__ == "__main__":
    run(app)
