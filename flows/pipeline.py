"""Ingest, train, promote and score as one flow."""

from functools import partial

from charrnn import cli
from charrnn.recipes.requests import PipelineRequest
from flows.command import new_app, run
from flows.ingest import ingest
from flows.models import promote
from flows.score import score
from flows.tracking import flow, submit
from flows.train import train


@flow(PipelineRequest, name="pipeline")
def pipeline(request: PipelineRequest) -> str:
    """Run the recipe ``pipeline``, each part as a flow run of its own; return the run's folder."""
    from charrnn.recipes.pipeline import pipeline as recipe

    return recipe(
        request,
        ingest=partial(submit, ingest),
        train=partial(submit, train),
        promote=promote,
        score=partial(submit, score),
    )


app = new_app(
    "  python flows/pipeline.py people.parquet\n"
    "  python flows/pipeline.py people.csv --sources my_languages/ --preset seed"
)
app.default(cli.command_from(PipelineRequest, partial(submit, pipeline)))

if __name__ == "__main__":
    run(app)
