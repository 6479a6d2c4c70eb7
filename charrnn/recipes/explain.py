"""Explain the answer to one name: a table for the terminal, and a figure on request."""

from dataclasses import dataclass
from pathlib import Path

from charrnn.errors import ConfigError
from charrnn.files import write_bytes
from charrnn.recipes.requests import ExplainRequest
from charrnn.reports.page import html_page
from charrnn.scoring.explain import Explanation
from charrnn.scoring.scorer import Scorer

_MOST_NGRAMS = 10  # shown one by one; the others add up in one line


@dataclass(frozen=True)
class Explained:
    """An explanation, and where its figure was written."""

    explanation: Explanation
    figure: Path | None

    def lines(self) -> list[str]:
        """Return the answer, the table of terms and the table of characters; the name is shown."""
        found = self.explanation
        ranked = ", ".join(f"{label} {p:.3f}" for label, p in found.ranked)
        return [
            f"name        {found.symbols}",
            f"answer      {ranked}",
            f"log-odds    {_log_odds(found)}, the sum of",
            *(f"  {name:<18} {odds:+8.2f}" for name, odds in _terms(found)),
            *(["without     the log-odds fall by, and the answer is"] if found.characters else []),
            *(
                f"  {c.symbol:<18} {c.fall:+8.2f}  {c.label} {c.probability:.3f}"
                for c in found.characters
            ),
            *([f"figure      {self.figure}"] if self.figure else []),
        ]


def explain(request: ExplainRequest) -> Explained:
    """Explain the answer to one name; write the figure where one was asked for.

    Raises:
        ConfigError: the figure is no .svg or cannot be drawn, or the model does not know given
            names. DataError: the name has no answer. ModelError: there is no such model.
    """
    if request.figure is not None and request.figure.suffix.lower() != ".svg":
        # The file's name is not quoted: it may be the name that is explained.
        raise ConfigError(
            "figure must be a file whose name ends in .svg, got another ending; figures are drawn "
            "as SVG only",
            option="figure",
        )
    scorer = Scorer.load(request.model, models=request.models)
    explanation = scorer.explain(request.name, request.top_k, part=request.part)
    if request.figure is not None:
        write_bytes(request.figure, figure_of(explanation))
    return Explained(explanation, request.figure)


def figure_of(explanation: Explanation) -> bytes:
    """Return the figure of an explanation as an SVG file."""
    groups = {"What each term adds to the log-odds": _terms(explanation)}
    if falls := [(c.symbol, c.fall) for c in explanation.characters]:
        groups["Fall of the log-odds without the character"] = falls
    values = [value for rows in groups.values() for _, value in rows]
    title = f"Log-odds {_log_odds(explanation)}"
    return html_page(
        "explanation",
        title=title,
        label=f"{explanation.symbols}: {title}",
        groups=groups,
        low=min(0.0, *values),
        high=max(1e-6, *values),
        height=40 + sum(36 + 20 * len(rows) for rows in groups.values()),
    )


def _log_odds(explanation: Explanation) -> str:
    (answer, _), (runner_up, _), *_ = explanation.ranked
    return f"{explanation.log_odds:+.2f} for {answer} against {runner_up}"


def _terms(explanation: Explanation) -> list[tuple[str, float]]:
    """Return the terms that add up to the log-odds, small n-grams together."""
    ngrams = [(term.ngram, term.log_odds) for term in explanation.ngrams]
    shown, others = ngrams[:_MOST_NGRAMS], ngrams[_MOST_NGRAMS:]
    rest = [(f"{len(others)} other n-grams", sum(odds for _, odds in others))] if others else []
    terms = [*shown, *rest, ("recurrence", explanation.recurrence), ("bias", explanation.bias)]
    return [*terms, ("training names", explanation.lists)] if explanation.lists else terms
