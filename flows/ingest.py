"""Turn lists of names into the training table."""

from functools import partial

from charrnn import cli
from charrnn.recipes.requests import IngestRequest
from flows.command import new_app, run
from flows.tracking import flow, note, prefect_runner, show, submit


@flow(IngestRequest, name="ingest", flow_run_name="ingest")
def ingest(request: IngestRequest) -> str:
    """Run the recipe ``ingest``, show what the table holds, and return its path."""
    from charrnn.recipes.ingest import ingest as recipe

    ingested = recipe(request, prefect_runner())
    note("data-report", ingested.markdown, "What the training table holds")
    show(ingested.lines())
    return str(ingested.table)


app = new_app(
    "  python flows/ingest.py\n"
    "  python flows/ingest.py tutorial faker\n"
    "  python flows/ingest.py names.zip\n"
    "  python flows/ingest.py my_languages/ --target data/mine.parquet"
)
app.default(cli.command_from(IngestRequest, partial(submit, ingest)))

if __name__ == "__main__":
    run(app)
