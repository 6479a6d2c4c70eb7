"""Presets: named recipes for a model."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from annotated_types import Ge, Interval

from charrnn.errors import ConfigError, check_fields
from charrnn.model.facts import TextRules
from charrnn.model.network import ModelConfig
from charrnn.model.vocabulary import LATIN_VOCABULARY, SEED_VOCABULARY, Vocabulary
from charrnn.training.corpus import Corpus
from charrnn.training.mapped import column_of
from charrnn.training.spellings import joined_names
from charrnn.training.splits import spaced_rows
from charrnn.training.text_rules import VOCABULARY_ROWS, auto_vocabulary

LARGE_ROWS, LARGE_LABELS = 250_000, 250  # of a table, from which on a preset's ``large`` is used
MANY_LABELS = 1000  # from which on the labels are divided into groups, as many as their root
READ_NAMES = 4_000_000  # by a fit of a large table, about, unless that is less than one pass
# Of a labelled table. It does not stop early: before its rate falls, the validation NLL of a small
# table rises by chance, and falls most at the end.
_SMALL = {"batch_size": 128, "ngram_rate": 10.0, "ngram_prior": 16.0, "patience": 0}
_RANK = 128  # of the n-gram table of many labels


@dataclass(frozen=True)
class TrainConfig:
    """How a network is fitted.

    Args:
        epochs: passes over the training examples.
        batch_size: examples per step.
        learning_rate: of Adam; the peak when ``schedule`` is ``one_cycle``.
        weight_decay: decoupled (AdamW), 0 for plain Adam.
        schedule: ``constant``, or ``one_cycle``: linear warm-up over the first quarter of all
            steps, then a cosine down to 0.2 % (after Smith & Topin 2018).
        clip_norm: largest norm of the whole gradient; 0 leaves it alone.
        beta2: decay of Adam's second moment.
        logit_adjustment: adds this times the log of the training label shares to the logits in the
            loss (Menon et al. 2021), which helps rare labels; 0 is plain cross-entropy.
        merge_shared: make one example of a name under several labels. They share its target in
            proportion to the root of their numbers of names times its frequency, where a list tells
            that, without the logit adjustment: a name on several lists is frequent in all of these
            languages, however long the lists are. A name of a high frequency is read several times
            in an epoch.
        label_smoothing: share of every target that is spread over all labels.
        next_character: weight of the auxiliary next-character loss, computed from every state of
            the forward direction (Dai & Le 2015). It regularises; its head is discarded after
            training.
        least_names: n-grams that occur fewer times in the training names are dropped at the end:
            they say nothing about other names, and take most of a file.
        by_length: put names of like length into one batch, in a random order of batches; the same
            loss for less padding.
        keep_best: end with the epoch of lowest validation NLL instead of the last one.
        sparse: train as large tables need it: label ids as targets, each name counting by its
            weight; batches of names of one length; and a step that updates only the rows of the
            n-gram table that a batch has, by Adagrad. Excludes what needs dense targets.
        ngram_rate: learning rate of these rows, in parts of ``learning_rate``.
        ngram_prior: names that each row has been in, about, before training: rows of rare n-grams
            take smaller steps, which regularises them.
        round_size: names of an epoch, at most, with ``sparse``; a longer pass has several epochs.
            After each the network is validated and a checkpoint written. 0: a pass is an epoch.
        patience: stop after so many epochs without a lower validation NLL; 0: never.
        seed: decides initial weights, order of examples and dropout.

    Raises:
        ConfigError: a value is out of range, or an option is one that ``sparse`` excludes.
    """

    epochs: Annotated[int, Ge(1)] = 27
    batch_size: Annotated[int, Ge(1)] = 64
    learning_rate: Annotated[float, Interval(gt=0, lt=math.inf)] = 1e-3
    weight_decay: Annotated[float, Ge(0)] = 0.0
    schedule: Literal["constant", "one_cycle"] = "constant"
    clip_norm: Annotated[float, Ge(0)] = 0.0
    beta2: Annotated[float, Interval(ge=0, lt=1)] = 0.999
    logit_adjustment: Annotated[float, Ge(0)] = 0.0
    merge_shared: bool = False
    label_smoothing: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    next_character: Annotated[float, Ge(0)] = 0.0
    least_names: Annotated[int, Ge(1)] = 1
    by_length: bool = False
    keep_best: bool = False
    sparse: bool = False
    ngram_rate: Annotated[float, Interval(gt=0, lt=math.inf)] = 1.0
    ngram_prior: Annotated[float, Ge(0)] = 0.0
    round_size: Annotated[int, Ge(0)] = 0
    patience: Annotated[int, Ge(0)] = 0
    seed: Annotated[int, Ge(0)] = 0

    def __post_init__(self) -> None:
        check_fields(self)
        dense = ("merge_shared", "label_smoothing", "next_character")
        if self.sparse and any(getattr(self, name) for name in dense):
            raise ConfigError(
                "sparse excludes merge_shared, label_smoothing and next_character; leave these out"
            )


@dataclass(frozen=True)
class Preset:
    """A named recipe: vocabulary, training and architecture.

    A preset with a ``teacher`` also learns from that preset's calibrated probabilities on synthetic
    names (knowledge distillation, Hinton et al. 2015).

    Attributes:
        vocabulary: None for the characters of the training names (``Vocabulary.of_names``).
        model: fields of ``ModelConfig`` other than the sizes that the data decide.
        teacher: the preset to learn from; None without distillation.
        synthetic: number of synthetic names.
        synthetic_per_epoch: how many of them are drawn anew for every epoch.
        known_entries: of the table of known names, at most; see ``training.known``.
        text_rules: how the vocabulary of a settled preset was chosen, where that was measured.
        large: the recipe instead of this one for a labelled table, for ``LARGE_ROWS`` usable rows,
            or for more than ``LARGE_LABELS`` labels; None where this one is for all.
    """

    name: str
    vocabulary: Vocabulary | None
    train: TrainConfig
    model: dict[str, Any] = field(default_factory=dict)
    teacher: Preset | None = None
    synthetic: int = 0
    synthetic_per_epoch: int = 0
    known_entries: int = 0
    text_rules: TextRules | None = None
    large: Preset | None = None

    @property
    def symbols(self) -> Vocabulary:
        """The vocabulary of a settled preset."""
        assert self.vocabulary is not None, "the preset is not settled"
        return self.vocabulary

    def settled(self, corpus: Corpus, script: Literal["auto", "preset"] | None = None) -> Preset:
        """Return the preset with what the training table decides: the vocabulary, no output for
        outliers where the table has none, labels as frequent as in the table where it counts them
        (``Corpus.counted``), and, for such and for large tables, the recipe ``large``, whose passes
        read about ``READ_NAMES`` names, 1 to 6, and of small tables 12.

        Args:
            script: vocabulary and text rules by ``auto_vocabulary``, or the preset's own, by
                ``Vocabulary.of_names`` where it has none. None: auto where the table counts labels
                and the preset has none.
        """
        usable = column_of((p.folds >= 0 for p in corpus.parts()), np.bool_, corpus.scratch)
        text_rules = None
        if script == "auto" or (script is None and corpus.counted and not self.vocabulary):
            vocabulary, text_rules = auto_vocabulary(corpus)
        else:
            vocabulary = self.vocabulary or _vocabulary_of(corpus, usable)
        recipe = self._for_table(corpus, int(np.count_nonzero(usable)))
        train, teacher = recipe.train, recipe.teacher
        if corpus.counted:
            train = replace(train, logit_adjustment=0.0, merge_shared=False)
        none_output = bool(recipe.model.get("none_output") and len(corpus.outliers))
        return replace(
            recipe,
            vocabulary=vocabulary,
            text_rules=text_rules,
            train=train,
            model=recipe.model | {"none_output": none_output},
            teacher=teacher and replace(teacher, vocabulary=vocabulary).settled(corpus, "preset"),
        )

    def _for_table(self, corpus: Corpus, rows: int) -> Preset:
        """Return the recipe for a table of so many usable rows: this one, or ``large`` where it is
        for such tables, as its size asks."""
        L = len(corpus.labels)
        is_large = rows >= LARGE_ROWS or L > LARGE_LABELS
        if not self.large or not (is_large or corpus.counted):
            return self
        train: dict[str, Any] = {} if is_large else dict(_SMALL)
        train["epochs"] = max(1, min(6 if is_large else 12, round(READ_NAMES / rows)))
        model: dict[str, Any] = {} if is_large else {"dropout": 0.3, "input_dropout": 0.1}
        if L > LARGE_LABELS:
            model["ngram_rank"] = _RANK
        if L > MANY_LABELS:
            model["label_groups"] = round(L**0.5)
        large = self.large
        return replace(large, train=replace(large.train, **train), model=large.model | model)

    def model_config(self, label_count: int) -> ModelConfig:
        """Return the architecture for ``label_count`` labels; the preset must be settled."""
        return ModelConfig(self.symbols.size, label_count, **self.model)


def _vocabulary_of(corpus: Corpus, usable: npt.NDArray[np.bool_]) -> Vocabulary:
    """Return the vocabulary of the ``usable`` names, and of full names without a space."""
    sample = spaced_rows(usable, VOCABULARY_ROWS)
    names, label_ids = corpus.names.take(pa.array(sample)), corpus.label_ids[sample]
    joined = joined_names(names, label_ids, corpus.weights[sample])
    return Vocabulary.of_names(
        names.to_pylist() + [name for name, _ in joined],
        label_ids.tolist() + [label_id for _, label_id in joined],
    )


# The notebook: 58 one-hot symbols → 128 tanh units → labels, Adam, 27 epochs.
_SEED = Preset("seed", SEED_VOCABULARY, TrainConfig())

_ONE_CYCLE = TrainConfig(
    batch_size=128,
    learning_rate=4e-3,
    weight_decay=0.03,
    schedule="one_cycle",
    clip_norm=1.0,
    beta2=0.99,
    by_length=True,
)

# Wide and deep: the seed's recurrence, twice as wide, plus a linear model of n-grams in one
# network. The auxiliary loss lets the width pay; a GRU or a second direction adds nothing
# measurable, at several times the cost (docs/experiments.md).
_WIDE_AND_DEEP = {
    "hidden_size": 256,
    "embedding_size": 64,
    "ngram_buckets": 2**17,
    "dropout": 0.5,
    "input_dropout": 0.2,
    "ngram_dropout": 0.1,
}

# For the tutorial's lists: Latin letters without accents, and labels as frequent as in the lists.
_TUTORIAL = Preset(
    "tutorial",
    LATIN_VOCABULARY,
    replace(_ONE_CYCLE, epochs=12, logit_adjustment=0.2, next_character=0.3),
    _WIDE_AND_DEEP,
)

# For tables of hundreds of thousands of names, whose labels are as frequent as in the table. Half
# the width is three times as fast; nothing needs dropout, and the n-grams have more rows.
_LARGE = Preset(
    "default",
    None,
    replace(
        _ONE_CYCLE,
        batch_size=512,
        learning_rate=6e-3,
        weight_decay=0.01,
        by_length=False,
        sparse=True,
        ngram_rate=40.0,
        ngram_prior=256.0,
        round_size=2**20,
        keep_best=True,
        patience=2,
    ),
    {
        "hidden_size": 128,
        "embedding_size": 64,
        "ngram_buckets": 2**18,
        "ngram_bits": 8,
        "none_output": True,
    },
    known_entries=2**17,
)

# For lists from anywhere: all characters that tell labels apart, labels that count alike, and
# "none of these" where the table has words that are no names.
_DEFAULT = Preset(
    "default",
    None,
    replace(
        _ONE_CYCLE,
        epochs=5,
        batch_size=256,
        learning_rate=6e-3,
        logit_adjustment=1.0,
        merge_shared=True,
        next_character=0.3,
        least_names=24,
    ),
    _WIDE_AND_DEEP | {"none_output": True, "ngram_bits": 8},
    known_entries=77_000,  # a version of the broad corpus is to have 4 MB
    large=_LARGE,
)

# The seed's network, fastest to score, with soft labels of the default.
_TINY = Preset(
    "tiny",
    None,
    replace(
        _ONE_CYCLE,
        epochs=15,
        batch_size=256,
        learning_rate=6e-3,
        logit_adjustment=1.0,
        merge_shared=True,
    ),
    {"none_output": True},
    teacher=_DEFAULT,
    synthetic=240_000,
    synthetic_per_epoch=60_000,
    known_entries=2**17,
)

PRESETS = {preset.name: preset for preset in (_SEED, _DEFAULT, _TINY, _TUTORIAL)}


def with_overrides(preset: Preset, **changes: Any) -> Preset:
    """Return the preset with some ``TrainConfig`` fields replaced; None leaves a field alone.

    ``epochs`` and ``seed`` apply to the teacher as well. Batch size and learning rate do not: the
    teacher has another architecture, for which its own were chosen.
    """
    replaced = {name: value for name, value in changes.items() if value is not None}
    shared = {name: replaced[name] for name in ("epochs", "seed") if name in replaced}
    teacher = preset.teacher and with_overrides(preset.teacher, **shared)
    return replace(preset, train=replace(preset.train, **replaced), teacher=teacher)
