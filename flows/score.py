"""Score a table of names: every row comes back once, in order, with a language and a confidence."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from charrnn import cli
from charrnn.recipes.requests import CompareRequest, ScoreRequest
from flows.challenge import challenge
from flows.command import new_app, run
from flows.tracking import (
    announce,
    attach,
    flow,
    note,
    prefect_runner,
    run_named,
    show,
    submit,
    warn,
)

if TYPE_CHECKING:  # torch, Polars and Arrow take a second to import; --help should not
    from charrnn.recipes.published import Published


@flow(ScoreRequest, name="score", flow_run_name=run_named("score", "source"))
def score(request: ScoreRequest) -> str:
    """Run the recipe ``score``, show what came out, and return the run's folder."""
    recipe = cli.imported("score.score")
    published: Published = recipe(request, prefect_runner(request.privacy.names))
    show_run(published)
    show(published.lines())
    published.check()
    return str(published.folder)


def show_run(published: "Published") -> None:
    """Attach a run's summary, label shares, drift and a link to its report to the flow run, and
    emit the event of a new run."""
    from charrnn.recipes.published import label_shares
    from charrnn.reports.page import label_words
    from charrnn.reports.run import drift_markdown

    manifest = published.manifest
    note("score-summary", published.markdown(), "Rows, model and place")
    labels = label_words(manifest.options.scoring.label_name)["label_heading"]
    attach("table", "label-shares", f"{labels} given, by rows", table=label_shares(manifest))
    report = published.folder / "report.html"
    attach("link", "run-report", "The run's report, on the worker",
           link=report.absolute().as_uri(), link_text=str(report))  # fmt: skip
    if published.drift and published.delivery.on_drift != "ignore":
        note("drift", drift_markdown(manifest), "What changed beyond its limit")
        for sentence in published.drift:
            warn(f"drift: {sentence}")
    if not published.reused:
        facts = {"rows": manifest.rows, **manifest.statuses, "model": manifest.model.name}
        announce(published.folder, {**facts, "drift": published.drift})


def command(request: ScoreRequest, look: cli.Head) -> None:
    """Run the flow and print the first rows of its result."""
    folder = submit(score, request)
    if look.head:
        from charrnn.recipes.published import first_rows

        cli.show(first_rows(Path(folder), look.head))


app = new_app(
    "  python flows/score.py people.csv\n"
    "  python flows/score.py 'exports/*.parquet' --name-column surname\n"
    "  python flows/score.py people.parquet -o scored.csv\n"
    "  python flows/score.py challenge people.csv --model champion --challenger candidate\n"
    "  python flows/score.py verify outputs/predictions/people/latest\n"
    "  python flows/score.py purge --older-than 90 --yes"
)
app.default(cli.command_from(ScoreRequest, command, extra=cli.Head))
app.command(cli.command("verify"), name="verify")
app.command(cli.command("purge"), name="purge")
app.command(cli.command_from(CompareRequest, partial(submit, challenge)), name="challenge")

if __name__ == "__main__":
    run(app)
