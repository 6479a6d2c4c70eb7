"""Commands about model versions, and the promotion as a flow.

python flows/train.py list
python flows/train.py evaluate champion --on labelled.parquet
python flows/train.py compare champion candidate
python flows/train.py promote v0003
python flows/train.py rollback
"""

from typing import TYPE_CHECKING

from cyclopts import App

from charrnn import cli
from charrnn.recipes.requests import (
    CompareVersionsRequest,
    EvaluateRequest,
    ListRequest,
    PromoteRequest,
    RegisterRequest,
    RollbackRequest,
)
from flows.tracking import flow, submit

if TYPE_CHECKING:  # torch takes a second to import; --help should not
    from charrnn.recipes.models import Promotion


@flow(PromoteRequest, name="promote", flow_run_name="promote {version}")
def promote_version(request: PromoteRequest) -> "Promotion":
    """Run the recipe ``promote``."""
    from charrnn.recipes.models import promote

    return promote(request)


def promote(request: PromoteRequest) -> None:
    """Run the flow and print whether the version is the champion now."""
    from charrnn.recipes import training_summary

    cli.show(training_summary.promotion_lines(submit(promote_version, request)))


def add_commands(app: App) -> None:
    """Add the commands about versions to a command line."""
    app.command(cli.command_from(ListRequest, cli.list_models, positional=0), name="list")
    app.command(cli.command_from(EvaluateRequest, cli.evaluate), name="evaluate")
    compare = cli.command_from(CompareVersionsRequest, cli.compare, positional=2)
    app.command(compare, name="compare")
    app.command(cli.command_from(PromoteRequest, promote), name="promote")
    app.command(cli.command_from(RollbackRequest, cli.rollback), name="rollback")
    app.command(cli.command_from(RegisterRequest, cli.register), name="register")
