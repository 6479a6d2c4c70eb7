"""Look after model versions: list, promote, roll back, register with MLflow."""

from dataclasses import dataclass

from charrnn.errors import ModelError, without_password
from charrnn.integrations.mlflow import register_version
from charrnn.model import version as versions
from charrnn.model.facts import ModelFacts
from charrnn.model.labels import plural
from charrnn.model.version import (
    PRETRAINED,
    ModelVersion,
    alias_history,
    aliases,
    list_versions,
    read_aliases,
    resolve,
    set_alias,
)
from charrnn.recipes.requests import ListRequest, PromoteRequest, RegisterRequest, RollbackRequest
from charrnn.training.corpus import load_corpus
from charrnn.training.release import evidence_problems, measure_on_test, promotion_problems
from charrnn.training.splits import honest_split


@dataclass(frozen=True)
class ListedVersion:
    """A version and the aliases that point at it; ``problem`` says why it cannot be loaded, and
    then it has no facts."""

    name: str
    facts: ModelFacts | None
    aliases: list[str]
    problem: str = ""


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
        what = f"replace {before}" if before else "become the champion"
        compare = f"charrnn compare {before} {version}; " if before else ""
        return [
            f"not promoted: {version} may not {what}: {'; '.join(self.problems)}",
            f"({compare}charrnn promote {version} --force)",
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


@dataclass(frozen=True)
class Listed:
    """Every version: those of the package, then those of the folder, oldest first; and a sentence
    for each alias that cannot be read."""

    versions: list[ListedVersion]
    unreadable: list[str]

    def lines(self) -> list[str]:
        """Return a table of all versions: metrics on the honest test fold, and aliases. What cannot
        be loaded has a line that says why."""
        lines = [f"{'version':16} {'preset':8} {'accuracy':>8} {'macro-F1':>8} {'ECE':>6}  aliases"]
        for version in self.versions:
            row = f"{version.name:16} cannot be loaded: {version.problem}"
            if version.facts is not None:
                m = version.facts.metrics.honest.test
                rates = f"{m.accuracy:>8.4f} {m.macro_f1:>8.4f} {m.ece:>6.4f}"
                row = f"{version.name:16} {version.facts.preset:8} {rates}"
            lines.append(f"{row}  {', '.join(version.aliases)}")
        return lines + self.unreadable


def list_models(request: ListRequest) -> Listed:
    """List every version with its facts and aliases."""
    targets = aliases(request.models)
    listed = []
    for name in [*PRETRAINED, *list_versions(request.models)]:
        facts, problem = None, ""
        try:
            facts = resolve(name, request.models).facts
        except ModelError as error:
            problem = str(error)
        of_version = [alias for alias, target in targets.items() if target == name]
        listed.append(ListedVersion(name, facts, of_version, problem))
    return Listed(listed, read_aliases(request.models)[1])


def promote(request: PromoteRequest) -> Promotion:
    """Point the alias champion at a version, unless there are problems and no force.

    Raises:
        ModelError: there is no such version.
    """
    candidate = resolve(request.version, request.models)
    before = next(iter(alias_history(request.models, "champion")), "")
    problems = evidence_problems(candidate)
    if before:
        problems += _compared(candidate, resolve(before, request.models), request)
    promoted = request.force or not problems
    if promoted:
        set_alias(request.models, "champion", candidate.name)
    return Promotion(candidate.name, before, promoted, problems)


def _compared(
    candidate: ModelVersion, champion: ModelVersion, request: PromoteRequest
) -> list[str]:
    """Return what is worse about a candidate than about the champion, on the candidate's test fold;
    read from the training table where the champion was measured on another."""
    if candidate.label_name != champion.label_name:
        names = [plural(version.label_name) for version in (candidate, champion)]
        return ["its labels are {}, and the champion's are {}".format(*names)]
    ours, theirs = (version.facts.metrics.honest.test for version in (candidate, champion))
    if candidate.facts.data_digest != champion.facts.data_digest:
        data = request.data
        if not data.exists():
            return [f"measured on different data, and {data} to compare them on does not exist"]
        corpus = load_corpus(data, scratch=request.models)
        if corpus.digest != candidate.facts.data_digest:
            return [f"measured on different data, and {data} is not the candidate's"]
        theirs = measure_on_test(champion, candidate.labels, honest_split(corpus).test)
    missing = set(champion.labels) - set(candidate.labels)
    lost = [f"it lacks {len(missing)} labels of the champion"] if missing else []
    return lost + promotion_problems(ours, theirs)


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
