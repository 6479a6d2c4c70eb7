"""Compare two model versions on one table, before one replaces the other."""

from functools import partial

from charrnn import cli
from charrnn.recipes.requests import CompareRequest
from flows.command import new_app, run
from flows.tracking import flow, note, prefect_runner, run_named, show, submit


@flow(CompareRequest, name="challenge", flow_run_name=run_named("challenge", "source"))
def challenge(request: CompareRequest) -> str:
    """Run the recipe ``compare``, show what would change, and return the comparison's folder."""
    from charrnn.recipes.compare import compare
    from charrnn.reports.comparison import comparison_markdown

    published = compare(request, prefect_runner())
    markdown = comparison_markdown(published.manifest).decode()
    note("challenge", markdown, "What would change")
    show(published.lines())
    return str(published.folder)


app = new_app("  python flows/challenge.py people.csv --model champion --challenger candidate")
app.default(cli.command_from(CompareRequest, partial(submit, challenge)))

if __name__ == "__main__":
    run(app)
