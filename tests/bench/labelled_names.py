"""Made-up labelled names of any number: a seeded generator for the benches of training at size.

Every label has syllables that it prefers, and endings of its own; labels of one family share most
of their preferences, so that some names fit several labels, as names do. Rows are distributed over
labels by Zipf's law. The same arguments give the same rows, also when made in parts.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ids = npt.NDArray[np.int64]
FAMILY = 5  # labels of one family
PART = 2**18  # rows made from one generator
_SHARPNESS = 1.6  # of the preferences; higher ones make labels easier to tell apart
_ALPHABETS = {  # what syllables begin with, their vowels, and what they end with
    "latin": ("b d f g h k l m n p r s t v z br kr st tr sch", "a e i o u", " n r l s v k m"),
    "cyrillic": ("б в г д ж з к л м н п р с т х ц ш бр кр ст", "а е и о у я", " н р л в к ч"),
    "greek": ("β γ δ ζ θ κ λ μ ν π ρ σ τ φ χ κρ πρ στ τρ ψ", "α ε η ι ο υ", " ν ς ρ λ"),
}
SCRIPTS = (*_ALPHABETS, "hangul")


class LabelledNames:
    """Names of ``labels`` labels; label ``i`` is written in ``scripts[i % len(scripts)]``.

    Args:
        seed: of the labels' preferences and of the rows.
        zipf: exponent of the number of rows by label; 0 for equal numbers.
    """

    def __init__(
        self,
        labels: int,
        scripts: Sequence[str] = ("latin",),
        seed: int = 0,
        zipf: float = 0.5,
    ) -> None:
        self.labels, self.seed, self.scripts = labels, seed, len(scripts)
        rng = np.random.default_rng((seed, 0))
        pools = [rng.permutation(_syllables(script)) for script in scripts]
        S = min(map(len, pools))
        self._syllables = pa.array(np.concatenate([pool[:S] for pool in pools]))
        family = np.arange(labels) // len(scripts) // FAMILY
        shared = rng.normal(size=(int(family[-1]) + 1, 2, S)).astype(np.float32)
        own = rng.normal(size=(labels, 2, S)).astype(np.float32)
        # (L, 2, S): weights of syllables inside a name, and of its last one
        weights = np.exp(_SHARPNESS * (0.8 * shared[family] + 0.6 * own))
        self._cumulative = weights.cumsum(axis=2) / weights.sum(axis=2, keepdims=True)
        self._cumulative[..., -1] = 1
        shares = np.arange(1, labels + 1) ** -zipf
        self._shares = (shares / shares.sum()).cumsum()

    @property
    def label_names(self) -> list[str]:
        """The labels, in the order of their ids."""
        return [f"label {i:05d}" for i in range(self.labels)]

    def rows(self, first: int, count: int) -> tuple[pa.Array, Ids]:
        """Return names, large_string ``(N,)``, and label ids, int64 ``(N,)``, of N rows from number
        ``first`` on, both of them multiples of ``PART`` but for the end of the last part."""
        parts = [self._part(start, min(PART, first + count - start))
                 for start in range(first, first + count, PART)]  # fmt: skip
        return pa.concat_arrays([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    def _part(self, start: int, count: int) -> tuple[pa.Array, Ids]:
        rng = np.random.default_rng((self.seed, 1, start // PART))
        label_ids = np.searchsorted(self._shares[:-1], rng.random(PART))[:count]
        base = label_ids % self.scripts * self._cumulative.shape[2]
        length = rng.integers(1, 4, PART)[:count]  # syllables before the last one
        order = np.argsort(label_ids, kind="stable")
        columns = []
        for position in range(4):
            draw = rng.random(PART, np.float32)[:count]
            drawn = self._drawn(int(position == 3), label_ids, order, draw) + base
            missing = (position < 3) & (position >= length)
            columns.append(self._syllables.take(pa.array(drawn, mask=missing)).fill_null(""))
        joined = pc.binary_join_element_wise(*columns, "")
        return pc.utf8_capitalize(joined).cast(pa.large_string()), label_ids

    def _drawn(self, kind: int, label_ids: Ids, order: Ids, draw: npt.NDArray[np.float32]) -> Ids:
        """Return the syllable of each row, drawn by its label's weights."""
        drawn = np.empty(len(draw), np.int64)
        edges = np.searchsorted(label_ids[order], np.arange(self.labels + 1))
        for label in np.flatnonzero(np.diff(edges)).tolist():
            rows = order[edges[label] : edges[label + 1]]
            drawn[rows] = np.searchsorted(self._cumulative[label, kind], draw[rows])
        return drawn


def _syllables(script: str) -> list[str]:
    if script == "hangul":
        return [
            chr(0xAC00 + 588 * a + 28 * v + f)
            for a in range(0, 19, 2)
            for v in (0, 4, 8, 13, 20)
            for f in (0, 4, 8, 16, 21)
        ]
    onsets, vowels, codas = (letters.split(" ") for letters in _ALPHABETS[script])
    return [a + v + f for a in onsets for v in vowels for f in codas]
