"""Score what is new in a folder: every new or changed file, as a run of its own."""

from functools import partial

from charrnn import cli
from charrnn.recipes.requests import InboxRequest
from charrnn.tables.kinds import path_text
from flows.command import new_app, run
from flows.score import score
from flows.tracking import attach, flow, prefect_runner, run_named, show, submit


@flow(InboxRequest, name="inbox", flow_run_name=run_named("score what is new in", "folder"))
def inbox(request: InboxRequest) -> list[str]:
    """Run the recipe ``inbox``, each file as a run of the flow ``score``; return their folders."""
    from charrnn.recipes.inbox import inbox as recipe

    result = recipe(request, prefect_runner(request.privacy.names), partial(submit, score))
    rows = [
        {"file": path_text(path.name), "outcome": text} for path, text in result.outcomes.items()
    ]
    attach("table", "inbox", f"What became of the files in {request.folder}", table=rows)
    show(result.lines())
    result.check()
    return [str(folder) for folder in result.published]


app = new_app(
    "  python flows/inbox.py\n"
    "  python flows/inbox.py /srv/names --model pretrained --settle-seconds 0"
)
app.default(cli.command_from(InboxRequest, partial(submit, inbox)))

if __name__ == "__main__":
    run(app)
