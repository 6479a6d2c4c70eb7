"""Commands about model versions, and the promotion as a flow."""

from typing import TYPE_CHECKING

from cyclopts import App

from charrnn import cli
from charrnn.recipes.requests import PromoteRequest
from flows.tracking import flow, log, run_named, submit

if TYPE_CHECKING:  # torch takes a second to import; --help should not
    from charrnn.recipes.models import Promotion


@flow(PromoteRequest, name="promote", flow_run_name=run_named("promote", "version"))
def promote_version(request: PromoteRequest) -> "Promotion":
    """Run the recipe ``promote``."""
    from charrnn.recipes.models import promote

    promotion = promote(request)
    log("\n".join(promotion.lines()))
    return promotion


def promote(request: PromoteRequest) -> None:
    """Run the flow and print whether the version is the champion now."""
    cli.show(submit(promote_version, request).lines())


def add_commands(app: App) -> None:
    """Add the commands about versions to a command line."""
    app.command(cli.command("models"), name="list")
    app.command(cli.command_from(PromoteRequest, promote), name="promote")
    for name in ("evaluate", "compare", "rollback", "register"):
        app.command(cli.command(name), name=name)


if __name__ == "__main__":
    cli.no_command("flows/models.py")
