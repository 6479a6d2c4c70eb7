"""Lines for a terminal about the metrics of a model version; no names."""

from charrnn.model.facts import MIN_TEST_NAMES, Metrics
from charrnn.model.labels import first_labels


def metrics_row(name: str, m: Metrics) -> str:
    """Return a row of the table of metrics that ``train`` prints."""
    rates = f"{m.accuracy:>9.4f} {m.macro_f1:>9.4f} {m.top3:>7.4f}"
    return f"{name:38} {rates} {m.nll:>7.4f} {m.ece:>7.4f}"


def label_lines(title: str, metrics: Metrics) -> list[str]:
    """Return a table of the labels, and which have too few names to judge; the interval is of the
    recall, 95 % Wilson."""
    small = metrics.too_small
    listed = f"{len(small)} labels with under {MIN_TEST_NAMES} names: {first_labels(small)}"
    return [
        f"{title:22} {'names':>6} {'precision':>10} {'recall':>7} {'interval':>15} {'F1':>8}",
        *(
            f"{m.label:22} {m.count:>6} {m.precision:>10.3f} {m.recall:>7.3f} "
            f"  {m.recall_low:.3f} to {m.recall_high:.3f} {m.f1:>7.3f}"
            for m in metrics.labels
        ),
        *([f"too few to judge: {listed}"] if small else []),
    ]


def metrics_line(name: str, m: Metrics) -> str:
    """Return the metrics as a sentence."""
    return (
        f"{name}: {m.count} names, accuracy {m.accuracy:.4f}, macro-F1 {m.macro_f1:.4f}, top-3 "
        f"{m.top3:.4f}, NLL {m.nll:.4f}, ECE {m.ece:.4f}, Brier {m.brier:.4f}"
    )
