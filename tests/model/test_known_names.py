"""Known names: the mixture with the network's answer, and files that are refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import torch
from safetensors.torch import save

from charrnn.errors import ModelError
from charrnn.files import write_sums
from charrnn.model.known_names import KnownNames, keys_of
from charrnn.model.novelty import name_hashes
from charrnn.model.version import ModelVersion, load_version, save_version
from charrnn.model.vocabulary import LATIN_VOCABULARY, Vocabulary
from charrnn.scoring.scorer import Scorer

NAMES = ["Koch", "Katoro", "Burgmann", "Aroevnko"]


def hashes_of(names: list[str], vocabulary: Vocabulary = LATIN_VOCABULARY) -> np.ndarray:
    return name_hashes(vocabulary.encode(pa.array(names)))


def known_of(shares: dict[str, dict[int, int]]) -> KnownNames:
    """Return known names with shares by name and label id, in 256ths."""
    rows = [
        (key, label_id, share)
        for name, of_label in shares.items()
        for key in keys_of(hashes_of([name])).tolist()
        for label_id, share in of_label.items()
    ]
    keys, label_ids, counts = zip(*sorted(rows), strict=True)
    return KnownNames(
        np.array(keys, np.int32), np.array(label_ids, np.int16), np.array(counts, np.uint8)
    )


def test_a_known_name_is_a_mixture_and_others_stay() -> None:
    known = known_of({"Koch": {0: 128, 2: 64}, "Burgmann": {1: 255}})
    p = torch.tensor([[0.1, 0.2, 0.3, 0.4]] * 4)
    mixed = known.mix_into(p.log(), hashes_of(NAMES)).exp()
    expected = [
        [0.5 + 0.25 * 0.1, 0.25 * 0.2, 0.25 + 0.25 * 0.3, 0.25 * 0.4],
        [0.1, 0.2, 0.3, 0.4],
        [0.1 / 256, 255 / 256 + 0.2 / 256, 0.3 / 256, 0.4 / 256],
        [0.1, 0.2, 0.3, 0.4],
    ]
    np.testing.assert_allclose(mixed.numpy(), expected, rtol=1e-6)


def test_a_label_that_the_network_excludes_keeps_its_share() -> None:
    known = known_of({"Koch": {0: 64}})
    log_p = torch.tensor([[-torch.inf, 0.0, -torch.inf, -200.0]])
    mixed = known.mix_into(log_p, hashes_of(["Koch"])).exp()
    np.testing.assert_allclose(mixed.numpy(), [[0.25, 0.75, 0, 0]], atol=1e-7)


def test_no_names_are_known_without_a_table() -> None:
    log_p = torch.randn(4, 3)
    assert torch.equal(KnownNames.none().mix_into(log_p.clone(), hashes_of(NAMES)), log_p)


def test_other_names_whose_hashes_pass_the_filter_stay() -> None:
    known = known_of({"Koch": {0: 200}})
    same_lower_bits = hashes_of(["Koch"]) ^ (1 << 60)
    log_p = torch.tensor([[0.5, 0.5]]).log()
    assert torch.equal(known.mix_into(log_p.clone(), same_lower_bits), log_p)


def test_scoring_answers_known_names_by_their_lists_alone_and_in_pairs(
    given_version: ModelVersion,
) -> None:
    known = known_of({"Katoro": {3: 250}})  # a surname: as a given name it has a mark
    scorer = Scorer(replace(given_version, known_names=known))
    before = Scorer(given_version)
    options = {"name_order": "surname", "max_unfamiliarity": 1.0}
    one, other = (s.score(NAMES, probabilities=True, **options) for s in (scorer, before))
    assert one["language"][1] == "Gamma"
    assert one["confidence"][1] == pytest.approx(
        250 / 256 + other["probability_Gamma"][1] * 6 / 256, abs=1e-6
    )
    rest = [0, 2, 3]
    assert one[rest].equals(other[rest])
    table = pl.DataFrame({"last": ["Katoro", "Burgmann"], "first": ["Katoro", "Katoro"]})
    parts = {"surname_column": "last", "given_column": "first", "probabilities": True}
    pair, pair_before = (s.score_table(table, **parts) for s in (scorer, before))
    assert pair["probability_Gamma"][0] > pair_before["probability_Gamma"][0]
    assert pair[1].equals(pair_before[1])


def test_they_are_saved_with_a_version(tiny_version: ModelVersion, tmp_path: Path) -> None:
    known = known_of({"Koch": {0: 128, 2: 64}, "Burgmann": {1: 255}})
    save_version(tmp_path, replace(tiny_version, known_names=known))
    found = load_version(tmp_path / "v0001").known_names
    for name, tensor in known.tensors().items():
        assert torch.equal(found.tensors()[name], tensor)
    assert len(found) == 3


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("keys", [7.0, 7.0, 9.0], "keys is float32"),
        ("keys", [[7, 7, 9]], "label_ids is int16"),
        ("keys", [9, 7, 7], "not ascending pairs"),
        ("label_ids", [1, 1, 0], "not ascending pairs"),
        ("label_ids", [0, 4, 0], "not labels of the model"),
        ("label_ids", [-1, 2, 0], "not labels of the model"),
        ("label_ids", [0, 2], "label_ids is int16"),
        ("shares", [200, 56, 1], "sum to 256 or more"),
        ("shares", None, "tensor shares is missing"),
        ("others", [1], "tensor others is unknown"),
        ("header", None, "not a model version"),
    ],
)
def test_a_damaged_file_is_refused(
    name: str, values: list | None, message: str, tiny_version: ModelVersion, tmp_path: Path,
) -> None:  # fmt: skip
    save_version(tmp_path, tiny_version)
    path = tmp_path / "v0001" / "known_names.safetensors"
    stored = {
        "keys": torch.tensor([7, 7, 9], dtype=torch.int32),
        "label_ids": torch.tensor([0, 2, 0], dtype=torch.int16),
        "shares": torch.tensor([100, 50, 255], dtype=torch.uint8),
    }
    path.write_bytes(save(stored))
    write_sums(path.parent)
    assert len(load_version(path.parent).known_names) == 3
    if values is None:
        stored.pop(name, None)
    else:
        dtype = None if isinstance(values[0], float) else stored.get(name, stored["keys"]).dtype
        stored[name] = torch.tensor(values, dtype=dtype)
    path.write_bytes(b"{" if name == "header" else save(stored))
    write_sums(path.parent)
    with pytest.raises(ModelError, match=message):
        load_version(path.parent)
