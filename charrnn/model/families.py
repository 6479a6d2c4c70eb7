"""Language families: which labels are one answer where the label itself cannot be told.

The level is the branch: as ISO 639-5 and Glottolog group languages below the largest families
(Slavic, Romance and Finnic, not Indo-European and Uralic). Germanic is cut into its two living
branches, West (ISO 639-5 ``gmw``) and North (``gmq``, here Scandinavian), since their surnames are
unlike. ``Scottish`` follows Scots, an Anglic language: 99 of the tutorial's 100 Scottish names are
also English ones.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

# Family → its labels. A language without relatives here (Greek, Japanese, …) needs no entry.
_MEMBERS = {
    "Baltic": "Latvian Lithuanian",
    "Bantu": "Shona Swahili Xhosa Zulu",
    "Celtic": "Breton Irish Welsh",
    "Dravidian": "Kannada Malayalam Tamil Telugu",
    "Finnic": "Estonian Finnish",
    "Indo-Aryan": "Bengali Gujarati Hindi Marathi Nepali Odia Punjabi Sinhala Urdu",
    "Iranian": "Kurdish Pashto Persian Tajik",
    "Malayo-Polynesian": "Filipino Indonesian Javanese Malay Tagalog",
    "Romance": "Catalan French Galician Italian Portuguese Romanian Spanish",
    "Scandinavian": "Danish Faroese Icelandic Norwegian Swedish",
    "Semitic": "Amharic Arabic Hebrew Maltese",
    "Slavic": "Belarusian Bosnian Bulgarian Croatian Czech Macedonian Montenegrin Polish Russian "
    "Serbian Slovak Slovene Slovenian Ukrainian",
    "Tai": "Lao Thai",
    "Turkic": "Azerbaijani Kazakh Kyrgyz Tatar Turkish Turkmen Uzbek",
    "West Germanic": "Afrikaans Dutch English Frisian German Luxembourgish Scots Scottish",
}
FAMILIES = {label: family for family, labels in _MEMBERS.items() for label in labels.split()}


def families_of(labels: Sequence[str]) -> tuple[tuple[str, ...], npt.NDArray[np.float32]]:
    """Return the F families of L labels, sorted, and which labels belong to each, 0 or 1, float32
    ``(L, F)``: probabilities ``(N, L)`` times it are the families' ``(N, F)``. A label that is not
    in the table is a family of its own.

    >>> families_of(["Czech", "Greek", "Polish"])[0]
    ('Greek', 'Slavic')
    """
    families, own = np.unique([FAMILIES.get(label, label) for label in labels], return_inverse=True)
    return tuple(families.tolist()), np.eye(len(families), dtype=np.float32)[own]
