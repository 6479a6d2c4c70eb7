"""Made-up names that look like the training names: what a teacher labels for its pupil."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

_BEGIN, _END = "^", "$"
_LONGEST = 24


def synthetic_names(
    names: Sequence[str], label_ids: Sequence[int], count: int, seed: int, *, order: int = 3
) -> list[str]:
    """Return ``count`` distinct names that are not among ``names``.

    Each comes from a Markov chain of ``order`` characters over the names of one label (Shannon
    1948); the label is drawn with its number of names to the power 0.8, so that rare labels are
    not drowned. Same arguments, same names.
    """
    draw = random.Random(seed)
    follows: dict[tuple[int, str], list[str]] = {}
    for name, label in zip(names, label_ids, strict=True):
        text = _BEGIN * order + name + _END
        for i in range(order, len(text)):
            follows.setdefault((label, text[i - order : i]), []).append(text[i])
    counts = Counter(label_ids)
    labels = sorted(counts)
    weights = [counts[label] ** 0.8 for label in labels]
    seen, made = set(names), list[str]()
    tries = 0
    while len(made) < count and tries < 50 * count:  # a tiny corpus has only so many names in it
        tries += 1
        label = draw.choices(labels, weights)[0]
        text = _BEGIN * order
        while len(text) < _LONGEST + order:
            character = draw.choice(follows[label, text[-order:]])
            if character == _END:
                break
            text += character
        name = text[order:]
        if len(name) > 1 and name not in seen:
            seen.add(name)
            made.append(name)
    return made
