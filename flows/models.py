"""Commands about model versions: list, evaluate, compare, promote, roll back.

python flows/train.py list
python flows/train.py evaluate champion --on labelled.parquet
python flows/train.py compare champion candidate
python flows/train.py promote v0003
python flows/train.py rollback
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.command import say
from flows.tracking import plain_flow as flow

if TYPE_CHECKING:
    from charrnn.model.version import ModelVersion
    from charrnn.training.corpus import Examples

MODELS = Path("outputs/models")
DATA = Path("data/names.parquet")


@flow(name="promote", flow_run_name="promote {version}")
def promote_version(
    version: str = "candidate", *, models: str = "outputs/models", force: bool = False
) -> bool:
    """Point the alias champion at a version, unless it is worse than the present champion, or the
    two were measured on different data.

    Args:
        version: a version or an alias, such as candidate.
        models: folder of the model versions.
        force: promote it in spite of that.

    Returns:
        Whether it is the champion now.
    """
    from charrnn.model.version import aliases, resolve, set_alias
    from charrnn.training.release import promotion_problems

    root = Path(models)
    candidate = resolve(version, root)
    champion = aliases(root).get("champion")
    problems = (
        promotion_problems(candidate.facts, resolve(champion, root).facts) if champion else []
    )
    if problems and not force:
        say(f"not promoted: {candidate.name} may not replace {champion}: {'; '.join(problems)}")
        say(f"(python flows/train.py compare {champion} {candidate.name}; --force promotes it)")
        return False
    set_alias(root, "champion", candidate.name)
    say(f"champion    {candidate.name}" + (f" (was {champion})" if champion else ""))
    return True


def list_models(*, models: Path = MODELS) -> None:
    """Print every version with its preset, figures on the honest test fold and aliases.

    Args:
        models: folder of the model versions.
    """
    from charrnn.model.version import PRETRAINED, aliases, list_versions, resolve

    known = aliases(models)
    say(f"{'version':16} {'preset':8} {'accuracy':>8} {'macro-F1':>8} {'ECE':>6}  aliases")
    for name in [*PRETRAINED, *list_versions(models)]:
        version = resolve(name, models)
        test = version.facts.metrics.honest.test
        pointing = ", ".join(alias for alias, target in known.items() if target == name)
        say(
            f"{name:16} {version.facts.preset:8} {test.accuracy:>8.4f} "
            f"{test.macro_f1:>8.4f} {test.ece:>6.4f}  {pointing}"
        )


def evaluate_model(
    version: str, *, on: Path | None = None, data: Path = DATA, models: Path = MODELS
) -> None:
    """Measure a version: on the honest folds of the training table, or on a labelled table.

    Args:
        version: a version or an alias.
        on: a Parquet table with the columns name and language.
        data: the training table, whose honest folds are used where ``on`` is not given.
        models: folder of the model versions.
    """
    from charrnn.model.version import resolve
    from charrnn.training.corpus import honest_split, load_corpus

    loaded = resolve(version, models)
    if on is not None:
        parts = {str(on): _labelled(on, loaded.labels)}
    else:
        corpus = load_corpus(data)
        if corpus.digest != loaded.facts.data_digest:
            say(f"note: {loaded.name} was trained on other data than {data}")
        split = honest_split(corpus)
        parts = {"honest test": split.test, "honest validation": split.validation}
    for name, examples in parts.items():
        for line in _evaluation_lines(loaded, name, examples):
            say(line)


def compare_models(
    one: str, other: str, *, on: Path | None = None, data: Path = DATA, models: Path = MODELS
) -> None:
    """Print both versions' figures on the same names, the paired difference with its interval, and
    which labels change from the first to the second.

    Args:
        one: a version or an alias.
        other: another.
        on: a Parquet table with the columns name and language.
        data: the training table, whose honest test fold is used where ``on`` is not given.
        models: folder of the model versions.
    """
    from charrnn.model.version import resolve
    from charrnn.training.corpus import honest_split, load_corpus
    from charrnn.training.paired import flips, paired_bootstrap

    a, b = resolve(one, models), resolve(other, models)
    examples = _labelled(on, a.labels) if on else honest_split(load_corpus(data)).test
    p, q = _probabilities(a, examples), _probabilities(b, examples)
    for version, found in ((a, p), (b, q)):
        say(_figures(version.name, version, found, examples))
    difference = paired_bootstrap(q, p, examples.label_ids)
    for what, (mean, low, high) in (
        ("accuracy", difference.accuracy),
        ("macro-F1", difference.macro_f1),
    ):
        say(f"{what:12} {b.name} - {a.name}: {mean:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}")
    table = flips(p.argmax(axis=1), q.argmax(axis=1), examples.label_ids, a.labels)
    say(
        f"flips        {table.changed} of {table.count} labels change: {table.fixed} fixed, "
        f"{table.broken} broken, {table.both_wrong} wrong in both"
    )
    for before, after, count in table.pairs[:15]:
        say(f"             {before} → {after}: {count}")


def _evaluation_lines(version: ModelVersion, name: str, examples: Examples) -> list[str]:
    from charrnn.training.metrics import evaluate

    found = _probabilities(version, examples)
    metrics = evaluate(found, examples.label_ids, version.labels)
    selective = ", ".join(
        f"{accuracy:.4f} at {float(coverage):.0%}"
        for coverage, accuracy in metrics.selective.items()
    )
    lines = [
        _figures(name, version, found, examples),
        f"accuracy 95 % interval {metrics.accuracy_low:.4f} to {metrics.accuracy_high:.4f}; "
        f"expected from the confidences alone {found.max(axis=1).mean():.4f}",
        f"accuracy on the most confident names: {selective}",
        f"{'label':22} {'names':>6} {'precision':>10} {'recall':>7}   95 % interval       F1",
    ]
    lines += [
        f"{m.label:22} {m.count:>6} {m.precision:>10.3f} {m.recall:>7.3f}   "
        f"{m.recall_low:.3f} to {m.recall_high:.3f} {m.f1:>8.3f}"
        for m in metrics.labels
        if m.count
    ]
    return [*lines, ""]


def _figures(name: str, version: ModelVersion, probabilities: Any, examples: Examples) -> str:
    from charrnn.training.metrics import evaluate

    m = evaluate(probabilities, examples.label_ids, version.labels)
    return (
        f"{name}: {m.count} names, accuracy {m.accuracy:.4f}, macro-F1 {m.macro_f1:.4f}, top-3 "
        f"{m.top3:.4f}, NLL {m.nll:.4f}, ECE {m.ece:.4f}, Brier {m.brier:.4f}"
    )


def _probabilities(version: ModelVersion, examples: Examples) -> Any:
    """Return the calibrated probabilities of the examples, ``(N, L)``."""
    import pyarrow as pa

    from charrnn.model.calibration import softmax
    from charrnn.model.engine import logits_of

    encoded = version.vocabulary.encode(pa.array(examples.names))
    return softmax(logits_of(version.network(), encoded), version.temperature)


def _labelled(path: Path, labels: tuple[str, ...]) -> Examples:
    """Read a Parquet table with the columns name and language, of which null rows are dropped."""
    import numpy as np
    import pyarrow.parquet as pq

    from charrnn.errors import DataError, InputMissingError
    from charrnn.training.corpus import Examples

    if not path.exists():
        raise InputMissingError(f"{path} does not exist")
    schema = pq.read_schema(path)
    missing = [c for c in ("name", "language") if c not in schema.names]
    if missing:
        raise DataError(f"{path} lacks column {', '.join(missing)}; it has {schema.names}")
    table = pq.read_table(path, columns=["name", "language"]).drop_null()
    unknown = sorted(set(table["language"].to_pylist()) - set(labels))
    if unknown or not table.num_rows:
        raise DataError(
            f"{path} has {table.num_rows} labelled rows"
            + (f" and labels the model does not know: {', '.join(unknown)}" if unknown else "")
        )
    position = {label: i for i, label in enumerate(labels)}
    ids = np.array([position[label] for label in table["language"].to_pylist()], np.int64)
    return Examples(table["name"].to_pylist(), ids)


def roll_back_alias(alias: str = "champion", *, models: Path = MODELS) -> None:
    """Point an alias at the version it named before.

    Args:
        alias: champion, or another alias.
        models: folder of the model versions.
    """
    from charrnn.model.version import roll_back

    before, now = roll_back(models, alias)
    say(f"{alias:11} {now} (was {before})")


COMMANDS: dict[str, Callable[..., Any]] = {
    "list": list_models,
    "evaluate": evaluate_model,
    "compare": compare_models,
    "promote": promote_version,
    "rollback": roll_back_alias,
}
