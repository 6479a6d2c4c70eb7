"""Draw the history of scoring runs: rows, languages, expected accuracy, unscored rows, drift.

python flows/monitor.py
python flows/monitor.py outputs/predictions/people
"""

from pathlib import Path

from flows.command import new_app, run, say
from flows.tracking import flow, note, warn


@flow(name="monitor", flow_run_name="monitor {folder}")
def monitor(folder: str = "outputs/predictions", *, last: int = 100) -> str:
    """Draw the history of a destination's runs, or of all destinations in a folder, as one page.

    The page is FOLDER/monitor.html: self-contained, with links to the runs' reports beside it.

    Args:
        folder: a destination, such as outputs/predictions/people, or a folder of destinations.
        last: how many runs of each destination to show, the newest ones.

    Returns:
        The page's path.
    """
    from charrnn.errors import ConfigError
    from charrnn.files import write_bytes
    from charrnn.monitoring.drift import alarms
    from charrnn.reports.history import history_markdown, history_page, read_histories

    if last < 1:
        raise ConfigError(f"the last {last} runs cannot be shown; give 1 or more")
    histories = read_histories(Path(folder), last)
    page = Path(folder) / "monitor.html"
    write_bytes(page, history_page(histories, folder))
    note("monitor", history_markdown(histories, folder), "How runs changed")
    for history in histories:
        name, manifest = history.runs[-1]
        say(f"{history.name:20} {len(history.runs):,} runs, the last {name}")
        for sentence in alarms(manifest.get("drift") or {}):
            say(f"{'':20} drift: {sentence}")
            warn(f"{history.name}: drift: {sentence}")
    say(f"page                 {page}")
    return str(page)


app = new_app(
    "  python flows/monitor.py\n  python flows/monitor.py outputs/predictions/people --last 30"
)
app.default(monitor)

if __name__ == "__main__":
    run(app)
