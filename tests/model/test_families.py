"""Language families: the table, and the sums of probabilities."""

import numpy as np

from charrnn.model.families import FAMILIES, families_of
from charrnn.model.labels import label_problem

# One language of its branch each, among the labels
ALONE = (
    "Akan Armenian Chinese Georgian Greek Hausa Hungarian Igbo Japanese Korean Vietnamese Yoruba"
)
LABELS = """Arabic Chinese Czech Dutch English French German Greek Irish Italian Japanese Korean
    Polish Portuguese Russian Scottish Spanish Vietnamese Swedish Danish Norwegian Icelandic Finnish
    Estonian Latvian Lithuanian Hungarian Romanian Slovak Slovene Croatian Serbian Bulgarian
    Macedonian Ukrainian Turkish Azerbaijani Uzbek Indonesian Hindi Urdu Tamil Thai Hebrew Persian
    Armenian Georgian Yoruba Zulu Akan Swahili Igbo Hausa Marathi Nepali Bengali Gujarati Odia
    Sinhala Kazakh"""


def test_every_label_of_the_models_is_in_a_family_or_alone_on_purpose() -> None:
    assert sorted(set(LABELS.split()) - FAMILIES.keys()) == ALONE.split()


def test_no_label_is_in_two_families_and_every_family_can_be_shown() -> None:
    assert len(FAMILIES) == len(set(FAMILIES))
    assert not any(label_problem(family) for family in FAMILIES.values())


def test_labels_that_are_hard_to_tell_apart_share_a_family() -> None:
    for labels in ("Danish Norwegian Swedish", "Czech Slovak Polish", "Spanish Portuguese Italian",
                   "English Scottish", "Hindi Urdu", "Turkish Azerbaijani"):  # fmt: skip
        assert len({FAMILIES[label] for label in labels.split()}) == 1
    assert FAMILIES["Danish"] != FAMILIES["German"]


def test_a_label_without_an_entry_is_a_family_of_its_own() -> None:
    assert families_of(["Quenya", "Danish", "Sindarin", "Norwegian"])[0] == (
        "Quenya", "Scandinavian", "Sindarin")  # fmt: skip


def test_the_families_of_a_name_add_up_the_probabilities_of_their_labels() -> None:
    families, members = families_of(["Norwegian", "Greek", "Danish"])
    found = np.array([[0.3, 0.4, 0.3]], np.float32) @ members
    assert dict(zip(families, found[0].tolist(), strict=True)) == {
        "Greek": np.float32(0.4), "Scandinavian": np.float32(0.6)}  # fmt: skip
    assert families_of([])[1].shape == (0, 0)
