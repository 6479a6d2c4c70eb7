"""Draw the history of scoring runs: rows, languages, expected accuracy, unscored rows, drift."""

from functools import partial

from charrnn import cli
from charrnn.recipes.requests import MonitorRequest
from flows.command import new_app, run
from flows.tracking import flow, note, run_named, show, submit, warn


@flow(MonitorRequest, name="monitor", flow_run_name=run_named("monitor", "folder"))
def monitor(request: MonitorRequest) -> str:
    """Run the recipe ``monitor``, log drift as warnings, and return the page's path."""
    from charrnn.recipes.monitor import monitor as recipe

    page = recipe(request)
    note("monitor", page.markdown, "How runs changed")
    for name, sentence in page.drift:
        warn(f"{name}: drift: {sentence}")
    show(page.lines())
    return str(page.page)


app = new_app(
    "  python flows/monitor.py\n  python flows/monitor.py outputs/predictions/people --last 30"
)
app.default(cli.command_from(MonitorRequest, partial(submit, monitor)))

if __name__ == "__main__":
    run(app)
