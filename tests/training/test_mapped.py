"""Columns in mapped files: the same examples, batches and networks as in memory."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from charrnn.errors import OutputError
from charrnn.model.network import ModelConfig
from charrnn.model.normalise import ACCENTS
from charrnn.model.novelty import name_hashes
from charrnn.model.vocabulary import LATIN_VOCABULARY
from charrnn.training import mapped
from charrnn.training.batches import sparse_data
from charrnn.training.corpus import Corpus
from charrnn.training.evidence import _letters_by_label
from charrnn.training.fit import fit
from charrnn.training.mapped import Column, Texts
from charrnn.training.merge import part_of
from charrnn.training.name_keys import key_hashes
from charrnn.training.presets import TrainConfig
from charrnn.training.protocol import respelled
from charrnn.training.release import _ambiguous
from charrnn.training.splits import Examples, honest_split, spaced_rows
from charrnn.training.text_rules import auto_vocabulary

CONFIG = ModelConfig(LATIN_VOCABULARY.size, 5, hidden_size=8, embedding_size=8, none_output=True)
TRAIN = TrainConfig(epochs=2, batch_size=8, learning_rate=1e-2, sparse=True, round_size=50)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of mapped files, into which all columns go, a few rows at a time."""
    monkeypatch.setattr(mapped, "BLOCK", 7)
    monkeypatch.setattr(mapped, "IN_MEMORY", 16)
    return tmp_path / "scratch"


def examples_of(scratch: Path | None) -> Examples:
    drawn = np.random.default_rng(0)
    names = ["".join(drawn.choice(list("abcdéü ’Ж"), n)) for n in drawn.integers(1, 12, 100)]
    weights = drawn.integers(1, 4, 100).astype(np.float32)
    examples = Examples.of(
        names, drawn.integers(0, 5, 100), weights=weights, outliers=["table", "chäir"]
    )
    return replace(examples, scratch=scratch)


def in_parts(corpus: Corpus, parts: int, scratch: Path | None) -> Corpus:
    """Return a corpus whose rows are ordered by the part that their name belongs to."""
    of_row = part_of(key_hashes(corpus.normalised), parts)
    order = np.argsort(of_row, kind="stable")
    return replace(
        corpus,
        names=corpus.names.take(pa.array(order)),
        normalised=corpus.normalised.take(pa.array(order)),
        label_ids=corpus.label_ids[order],
        folds=corpus.folds[order],
        weights=corpus.weights[order],
        part_rows=tuple(np.bincount(of_row, minlength=parts).tolist()),
        scratch=scratch,
    )


def test_a_large_column_is_a_mapped_file_without_a_name(small_blocks: Path) -> None:
    numbers, texts = Column(np.int32, small_blocks), Texts(small_blocks)
    for first in range(0, 30, 3):
        numbers.append(np.arange(first, first + 3))
        texts.append(pa.array([str(i) * 3 for i in range(first, first + 3)], pa.large_string()))
    whole = numbers.whole()
    assert (whole.tolist(), whole.dtype) == (list(range(30)), np.int32)
    assert not whole.flags.writeable
    written = texts.whole()
    written.validate(full=True)
    assert written.to_pylist() == [str(i) * 3 for i in range(30)]
    assert list(small_blocks.iterdir()) == []
    assert Texts(small_blocks).whole().to_pylist() == Column(np.int32, None).whole().tolist() == []


def test_a_folder_that_cannot_be_written_to_is_named(small_blocks: Path) -> None:
    small_blocks.write_text("a file")
    with pytest.raises(OutputError, match=f"cannot write {small_blocks}"):
        Column(np.int64, small_blocks).append(np.arange(10))


def test_mapped_examples_give_the_batches_and_the_network_of_those_in_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = []
    for block, scratch in ((2**18, None), (7, tmp_path)):
        monkeypatch.setattr(mapped, "BLOCK", block)
        monkeypatch.setattr(mapped, "IN_MEMORY", 2 * block)
        examples = respelled(examples_of(scratch), ACCENTS)
        data = sparse_data(LATIN_VOCABULARY, examples, CONFIG, TRAIN, torch.device("cpu"))
        batches = [data.batch(rows) for epoch in (1, 2) for rows in data.batches(TRAIN, epoch)]
        columns = [(b.ids, b.targets, b.weights, b.log_priors) for b in batches]
        fitted = fit(CONFIG, TRAIN, LATIN_VOCABULARY, examples).network.state_dict()
        ngrams = torch.cat([ids.flatten() for ids in data.ngram_ids()]).bincount()
        found.append([*(t for columns in columns for t in columns), *fitted.values(), ngrams])
    in_memory, in_files = found
    assert len(in_memory) == len(in_files) > 50
    assert all(torch.equal(a, b) for a, b in zip(in_memory, in_files, strict=True))


def test_a_corpus_of_parts_is_split_as_a_whole_one(corpus: Corpus, small_blocks: Path) -> None:
    parts = in_parts(corpus, 3, small_blocks)
    whole = replace(parts, part_rows=(), scratch=None)
    for spellings in (False, True):
        found, expected = (honest_split(c, spellings=spellings) for c in (parts, whole))
        for part in ("train", "validation", "test"):
            own, other = getattr(found, part), getattr(expected, part)
            assert len(own.names) > 20
            assert (own.names, own.outliers) == (other.names, other.outliers)
            assert np.array_equal(own.label_ids, other.label_ids)
            assert np.array_equal(own.weights, other.weights)


def test_what_is_learned_of_a_corpus_does_not_depend_on_blocks(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def learned(corpus: Corpus) -> list[Any]:
        train = honest_split(corpus).train
        hashes = _ambiguous(LATIN_VOCABULARY, train).tolist()
        return [auto_vocabulary(corpus), _letters_by_label(corpus, LATIN_VOCABULARY), hashes]

    shared = np.where(np.arange(len(corpus.label_ids)) % 7, corpus.label_ids, 0)
    parts = in_parts(replace(corpus, label_ids=shared), 3, tmp_path)
    train, labels_of = honest_split(parts).train, dict[int, set[int]]()
    hashes = name_hashes(LATIN_VOCABULARY.encode(train.names)).tolist()
    for key, label_id in zip(hashes, train.label_ids.tolist(), strict=True):
        labels_of.setdefault(key, set()).add(label_id)
    several = sorted(key for key, label_ids in labels_of.items() if len(label_ids) > 1)
    expected = learned(replace(parts, part_rows=()))
    assert expected[-1] == several != []
    monkeypatch.setattr(mapped, "BLOCK", 50)
    monkeypatch.setattr(mapped, "IN_MEMORY", 100)
    monkeypatch.setattr("charrnn.training.release._MOST_HASHES", 40)
    assert learned(parts) == expected


def test_spaced_rows_are_those_of_the_chosen_ones(small_blocks: Path) -> None:
    chosen = np.random.default_rng(0).random(100) < 0.3
    rows = np.flatnonzero(chosen)
    for most in (0, 1, 9, 100):
        expected = rows[np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(int)]
        assert spaced_rows(chosen, most).tolist() == expected.tolist()
    assert spaced_rows(np.zeros(100, bool), 5).tolist() == []


_PEAKS = """
import sys, tempfile, threading, time
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from charrnn.model.network import ModelConfig
from charrnn.model.vocabulary import LATIN_VOCABULARY
from charrnn.training import mapped
from charrnn.training.batches import sparse_data
from charrnn.training.corpus import load_corpus, table_of, with_metadata, write_parts
from charrnn.training.evidence import check_trainable
from charrnn.training.presets import TrainConfig
from charrnn.training.release import _ambiguous
from charrnn.training.splits import honest_split

ROWS, LETTERS, peak = 50_000, np.frombuffer(b"abcdefghijklmnop", np.uint8), 0
mapped.BLOCK, mapped.IN_MEMORY = ROWS // 4, 2**18


def part(index, parts):
    numbers = np.arange(index * ROWS, (index + 1) * ROWS)
    text = LETTERS[numbers[:, None] >> np.arange(0, 32, 4) & 15].tobytes()  # 8 letters each
    offsets = pa.py_buffer(np.arange(0, 8 * (ROWS + 1), 8))
    names = pa.LargeStringArray.from_buffers(ROWS, offsets, pa.py_buffer(text))
    columns = {"name": names, "name_normalised": names, "line": numbers,
               "language": np.array(["A", "B"])[numbers % 2], "weight": np.ones(ROWS),
               "fold": numbers % 10, "dropped": pa.nulls(ROWS, pa.string())}
    columns |= {c: pa.repeat("surname", ROWS) for c in ("part", "source", "source_file")}
    return with_metadata(table_of(pa.table(columns)), "0" * 64, [], (index, parts))


def watch():
    global peak
    while True:
        status = Path("/proc/self/status").read_text()
        peak = max(peak, int(status.partition("RssAnon:")[2].split()[0]))
        time.sleep(0.005)


def train(parts, folder):
    write_parts((part(i, parts) for i in range(parts)), folder / "corpus", folder / "staging")
    corpus = load_corpus(folder / "corpus", folder)
    check_trainable(corpus, LATIN_VOCABULARY)
    learned = honest_split(corpus).train
    config, settings = ModelConfig(LATIN_VOCABULARY.size, 2), TrainConfig(sparse=True)
    data = sparse_data(LATIN_VOCABULARY, learned, config, settings, torch.device("cpu"))
    assert len(data.batches(TrainConfig(sparse=True, round_size=2**10), 1)) > 1
    assert len(_ambiguous(LATIN_VOCABULARY, learned)) == 0


threading.Thread(target=watch, daemon=True).start()
for parts in (4, 4, 4, 16):
    with tempfile.TemporaryDirectory() as folder:
        peak = 0
        train(parts, Path(folder))
        print(parts * ROWS, peak)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows() -> None:
    command = [sys.executable, "-c", _PEAKS]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n")
    *first, (many, large) = (tuple(map(int, line.split())) for line in lines[:4])
    few, small = max(first)  # a process takes its arenas once, in the first run or a later one
    assert 1024 * (large - small) < 25 * (many - few)  # bytes; in memory they took 160 a row
