"""Which names of columns may be shown.

The first line of a CSV file without a header holds a person's data, and so may column names that
were made from it. So a message shows a column name only if it is put together from words that are
usual in column names, and only where most names of the table are; others are counted.
"""

import re
import unicodedata
from collections.abc import Sequence

from charrnn.errors import did_you_mean

_MAX_SHOWN = 20  # column names in one message
_MAX_LETTERS = 64  # of a name that is shown
_WORDS = frozenset(
    """
    name names nom noms nombre nombres nome nomi nomes naam navn namn nimi imie imię jmeno jméno
    név nev ime isim ad adi adı имя фамилия ονομα όνομα 名前 姓名 氏名 姓 名 이름 성명 الاسم surname
    surnames firstname lastname fullname forename familyname givenname middlename maiden
    nickname username filename prenom prénom nachname vorname familienname geburtsname apellido
    apellidos cognome cognomi sobrenome apelido achternaam voornaam efternamn förnamn efternavn
    fornavn etternavn nazwisko prijmeni příjmení prezime soyad soyadi soyadı famille família
    first last full family given middle birth display preferred legal short long title
    salutation prefix suffix initial initials gender sex age dob born birthday birthdate
    birthplace death died id ids uuid guid uid pid key index idx row rownum rowid record number
    num no nr nummer numero numéro número code ref reference sequence seq position rank order
    line customer customers client clients cust user users person persons people employee
    employees member members patient patients student students author authors contact contacts
    account accounts owner holder buyer seller supplier vendor partner company firm organisation
    organization kunde kundennummer cliente country countries nation nationality language
    languages lang locale region state province county city town village place location postcode
    zip zipcode postal address addresses street house land stadt ort strasse straße plz pays
    ville rue pais país ciudad città citta paese kraj miasto miejscowosc adres adresse mail
    email emails phone telephone mobile fax url website domain date dates time datetime
    timestamp year month day week hour minute created updated modified deleted start end from to
    since until valid datum jahr monat tag année annee mois fecha data rok note notes comment
    comments remark remarks description text label labels type kind class category group status
    active flag value values amount price sum total count quantity score weight size currency
    balance income salary source target origin version tags job role department team predicted
    prediction predictions confidence reason probability prob share p top run file path field
    column col feature x y z a b c n i is has of the and or de du des la le les del da do dos di
    van von der by at on in per
    """.split()  # noqa: SIM905
)


def usual(name: str) -> bool:
    """Whether every word of ``name`` is usual in column names.

    >>> usual("customerId"), usual("nom_de_famille"), usual("P0001"), usual("Kowalczyk")
    (True, True, False, False)
    """
    if len(name) > _MAX_LETTERS or not any(letter.isalpha() for letter in name):
        return False
    spaced = re.sub(r"(?<=[^\W\d_A-Z])(?=[A-Z])", " ", unicodedata.normalize("NFC", name))
    words = [word for word in re.split(r"[\s_.:/()-]+", spaced) if word]
    folded = [word.casefold() for word in words]
    return all(word in _WORDS or re.fullmatch(r"\d{1,2}", word) for word in folded)


def like_header(names: Sequence[str]) -> bool:
    """Whether ``names`` look like names of columns: most are usual, and none is there twice."""
    known = sum(map(usual, names))
    return 2 * known >= len(names) > 0 and len(set(names)) == len(names)


def shown_columns(names: Sequence[str]) -> str:
    """Return the names that may be shown, and how many others there are, for a message.

    >>> shown_columns(["id", "name", "Kowalczyk"])
    'columns: id, name and 1 other'
    """
    known = [name for name in names if usual(name)][:_MAX_SHOWN] if like_header(names) else []
    others = len(names) - len(known)
    if not known:
        many = f"{others} columns" if others > 1 else f"{others} column"
        return (
            f"{many}, whose names are not shown as they may be data; if the header line is "
            "missing, add one"
        )
    rest = f" and {others:,} other{'s' * (others > 1)}" if others else ""
    return f"columns: {', '.join(known)}{rest}"


def shown_column(names: Sequence[str], name: str) -> str:
    """Return how a message names one of the columns ``names``: by its name if that may be shown,
    else by its position, from 1."""
    if name in names and like_header(names) and usual(name):
        return repr(name)
    return f"column {names.index(name) + 1}" if name in names else repr(name)


def suggestion(column: str, names: Sequence[str]) -> str:
    """Return a suggestion for a requested ``column`` that is not there, or "": one of ``names``
    that may be shown, or that differs from the request only in case, spaces and marks."""

    def folded(name: str) -> str:
        return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", name).casefold())

    wanted = folded(column)
    same = [name for name in names if wanted and folded(name) == wanted]
    known = [name for name in names if usual(name)] if like_header(names) else []
    return did_you_mean(column, same or known)


def find_column(columns: Sequence[str], column: str) -> str:
    """Return the one of ``columns`` that is meant by ``column``: the one of that name; else the
    only one whose name is the same text in another Unicode form; else ``column``."""
    if column in columns:
        return column
    normal = unicodedata.normalize("NFC", column)
    same = [name for name in columns if unicodedata.normalize("NFC", name) == normal]
    return same[0] if len(same) == 1 else column
