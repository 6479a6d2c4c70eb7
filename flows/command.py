"""What the command lines of the flows add to ``charrnn.cli``: a run that Prefect may record."""

import sys
from typing import NoReturn

from cyclopts import App

from charrnn import cli
from flows.tracking import TRACKED, shown

_NOTE = """\
--track records the run with Prefect, starting its ephemeral server if no API
is configured"""


def new_app(examples: str) -> App:
    """Return an empty command line of a flow; see ``charrnn.cli.new_app``."""
    return cli.new_app(examples, _NOTE)


def run(app: App) -> NoReturn:
    """Run a flow's command line; see ``charrnn.cli.run``."""
    # flows.tracking has looked for --track before anything was parsed.
    tokens = [token for token in sys.argv[1:] if token != "--track"]
    if not TRACKED and not {"-h", "--help"} & set(tokens):
        cli.complain("untracked run: no Prefect API is configured (--track records it)", "note")
    # Prefect is told of the end, over a network.
    cli.run(app, tokens, shown, stop_seconds=10 if TRACKED else cli.STOP_SECONDS)


if __name__ == "__main__":
    cli.no_command("flows/command.py")
