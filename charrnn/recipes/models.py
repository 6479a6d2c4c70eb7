"""Look after model versions: list, promote, roll back, register with MLflow."""

from dataclasses import dataclass

from charrnn.errors import without_password
from charrnn.integrations.mlflow import register_version
from charrnn.model import version as versions
from charrnn.model.facts import ModelFacts
from charrnn.model.version import PRETRAINED, aliases, list_versions, resolve, set_alias
from charrnn.recipes.requests import ListRequest, PromoteRequest, RegisterRequest, RollbackRequest
from charrnn.training.release import promotion_problems


@dataclass(frozen=True)
class ListedVersion:
    """A version and the aliases that point at it."""

    name: str
    facts: ModelFacts
    aliases: list[str]


@dataclass(frozen=True)
class Promotion:
    """Whether ``version`` is the champion now; ``before`` is the champion until then ("" without
    one), ``problems`` are the reasons against it."""

    version: str
    before: str
    promoted: bool
    problems: list[str]

    def lines(self) -> list[str]:
        """Return the lines about a promotion, or why there was none."""
        version, before = self.version, self.before
        if self.promoted:
            return [f"champion    {version}" + (f" (was {before})" if before else "")]
        return [
            f"not promoted: {version} may not replace {before}: {'; '.join(self.problems)}",
            f"(charrnn compare {before} {version}; charrnn promote {version} --force)",
        ]


@dataclass(frozen=True)
class Rollback:
    """What an alias pointed at, and what it points at now."""

    alias: str
    before: str
    now: str

    def lines(self) -> list[str]:
        """Return the line about an alias that was rolled back."""
        return [f"{self.alias:11} {self.now} (was {self.before})"]


@dataclass(frozen=True)
class Registration:
    """The number of a version at an MLflow server; ``server`` has no password."""

    version: str
    number: str
    name: str
    server: str

    def lines(self) -> list[str]:
        """Return the line about a version registered with MLflow."""
        return [
            f"registered  {self.version} as version {self.number} of {self.name} at {self.server}"
        ]


def list_models(request: ListRequest) -> list[ListedVersion]:
    """Return every version: those of the package, then those of the folder, oldest first."""
    targets = aliases(request.models)
    return [
        ListedVersion(
            name=name,
            facts=resolve(name, request.models).facts,
            aliases=[alias for alias, target in targets.items() if target == name],
        )
        for name in [*PRETRAINED, *list_versions(request.models)]
    ]


def version_table(request: ListRequest) -> list[str]:
    """Return a table of all versions: metrics on the honest test fold, and aliases."""
    lines = [f"{'version':16} {'preset':8} {'accuracy':>8} {'macro-F1':>8} {'ECE':>6}  aliases"]
    for version in list_models(request):
        m = version.facts.metrics.honest.test
        lines.append(
            f"{version.name:16} {version.facts.preset:8} {m.accuracy:>8.4f} {m.macro_f1:>8.4f} "
            f"{m.ece:>6.4f}  {', '.join(version.aliases)}"
        )
    return lines


def promote(request: PromoteRequest) -> Promotion:
    """Point the alias champion at a version, unless there are problems and no force.

    Raises:
        ModelError: there is no such version.
    """
    candidate = resolve(request.version, request.models)
    before = aliases(request.models).get("champion", "")
    problems = []
    if before:
        problems = promotion_problems(candidate.facts, resolve(before, request.models).facts)
    promoted = request.force or not problems
    if promoted:
        set_alias(request.models, "champion", candidate.name)
    return Promotion(candidate.name, before, promoted, problems)


def roll_back(request: RollbackRequest) -> Rollback:
    """Point an alias at the version it named before.

    Raises:
        ModelError: there is nothing to go back to.
    """
    return Rollback(request.alias, *versions.roll_back(request.models, request.alias))


def register(request: RegisterRequest) -> Registration:
    """Log a version at an MLflow server and register it; see ``integrations.mlflow``."""
    number = register_version(request.models, request.version, request.mlflow, name=request.name)
    server = without_password(request.mlflow)
    return Registration(request.version, number, request.name, server)
