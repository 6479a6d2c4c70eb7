"""Train a model, measure it under both protocols, and publish it as a version."""

from functools import partial

from charrnn import cli
from charrnn.recipes.requests import TrainRequest
from flows.command import new_app, run
from flows.models import add_commands, promote_version
from flows.tracking import flow, note, prefect_runner, show, submit


@flow(TrainRequest, name="train", flow_run_name="train {preset}")
def train(request: TrainRequest) -> str:
    """Run the recipe ``train``, promote and register as requested, and return the version's name;
    a promotion is a flow run of its own."""
    from charrnn.recipes import train as recipe
    from charrnn.reports.model import model_markdown

    trained = recipe.train(request, prefect_runner())
    version = trained.version
    note("model-card", model_markdown(version).decode(), f"Model {version.name}")
    show(trained.lines())
    released = recipe.release(trained, request, partial(submit, promote_version))
    show(released.lines())
    return version.name


app = new_app(
    "  python flows/train.py\n"
    "  python flows/train.py --preset seed --seeds 3\n"
    "  python flows/train.py --resume\n"
    "  python flows/train.py evaluate champion --on labelled.parquet\n"
    "  python flows/train.py compare champion candidate"
)
app.default(cli.command_from(TrainRequest, partial(submit, train), positional=0))
add_commands(app)

if __name__ == "__main__":
    run(app)
