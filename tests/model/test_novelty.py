"""The novelty of a name: surprise from logits, and the scale of held-out names."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from charrnn.model.novelty import NoveltyScale, joint_novelty, name_hashes, surprise
from charrnn.model.vocabulary import LATIN_VOCABULARY


def test_surprise_falls_with_the_logits_of_labels_and_rises_with_that_of_none() -> None:
    logits = torch.tensor([[1.0, 2.0, 0.0], [3.0, 4.0, 0.0], [1.0, 2.0, 5.0]])
    plain, likely, none = surprise(logits, 2).tolist()
    assert likely == pytest.approx(plain - 2)
    assert none == pytest.approx(plain + 5)
    assert surprise(logits[:, :2], 2).tolist()[0] == pytest.approx(plain)


def test_scale_gives_the_share_of_held_out_names_below() -> None:
    scale = NoveltyScale.of(np.arange(10_000.0))
    found = scale.novelty(torch.tensor([-1, 2500, 5000, 9900, 99_999.0]))
    assert found.tolist() == pytest.approx([0, 0.25, 0.5, 0.99, 1], abs=0.002)


def test_scale_counts_names_by_their_weights() -> None:
    rare, frequent = np.full(10, 5.0), np.linspace(0, 1, 1000)
    weights = np.concatenate((np.full(10, 50.0), np.full(1000, 0.5)))
    scale = NoveltyScale.of(np.concatenate((rare, frequent)), weights)
    assert float(scale.novelty(torch.tensor([2.0]))) == pytest.approx(0.5, abs=0.01)


def test_pairs_of_held_out_names_have_every_joint_novelty_alike_often() -> None:
    shares = torch.linspace(0.0005, 0.9995, 1000)
    joint = joint_novelty(shares[:, None], shares[None, :])
    for share in (0.1, 0.5, 0.9, 0.96):
        assert float((joint < share).float().mean()) == pytest.approx(share, abs=0.005)
    assert float(joint_novelty(torch.ones(1), torch.ones(1))) < 1  # and no NaN


def test_hashes_of_names_tell_order_and_length_apart() -> None:
    names = ["ab", "ba", "aba", "", "ab", "b"]
    hashes = name_hashes(LATIN_VOCABULARY.encode(pa.array(names))).tolist()
    assert hashes[0] == hashes[4]
    assert len(set(hashes)) == len(names) - 1
