"""What is read of the installed packages of names: versions, the lists of each label, and what a
data card says about them."""

from importlib.metadata import PackageNotFoundError, metadata

from charrnn.errors import ConfigError, missing_package
from charrnn.training.label_files import Source

# The first three as pinned by the extra ``corpus``; of the others only a data file is read, so they
# are installed without what they depend on.
_EXTRA = ("faker", "mimesis", "wordfreq")
VERSIONS = {
    "faker": "40.63.0",
    "mimesis": "22.2.0",
    "wordfreq": "3.1.1",
    "name2nat": "0.5.1",
    "gender-guesser": "0.4.0",
    "dacy": "2.9.0",
    "turkish-name-generator": "1.0.6",
    "ipadic": "1.0.0",
}

# Label → locales of faker.providers.person, locales of mimesis/datasets, nationalities of name2nat.
# For the locales left out see ``NOTES``; of nationalities those of several languages (American,
# Belgian, Nigerian …), and those of which name2nat has hardly anyone (Danish, Swedish, Polish …).
_LISTS = {
    "Akan": ("tw_GH", "", "Ghanaian"),
    "Arabic": (
        "ar_AA ar_DZ ar_PS ar_SA fr_DZ",
        "ar ar-ae ar-dz ar-eg ar-jo ar-kw ar-ma ar-om ar-qa ar-sa ar-sy ar-tn ar-ye",
        "Algerian Bahraini Egyptian Emirati Iraqi Jordanian Kuwaiti Lebanese Libyan Moroccan "
        "Omani Palestinian Qatari Saudi Sudanese Syrian Tunisian Yemeni",
    ),
    "Armenian": ("hy_AM", "", "Armenian"),
    "Azerbaijani": ("az_AZ", "az", "Azerbaijani"),
    "Bengali": ("bn_BD", "", "Bangladeshi"),
    "Bulgarian": ("bg_BG", "", "Bulgarian"),
    "Chinese": ("zh_CN zh_TW", "zh", "Chinese Taiwanese"),
    "Croatian": ("hr_HR", "hr", ""),
    "Czech": ("cs_CZ", "cs", "Czech"),
    "Danish": ("da_DK", "da", ""),
    "Dutch": ("nl_NL nl_BE", "nl nl-be", "Dutch"),
    "English": ("en_GB en_NZ", "en en-au en-ca en-gb", "English"),
    "Estonian": ("et_EE", "et", "Estonian"),
    "Finnish": ("fi_FI", "fi", ""),
    "French": ("fr_FR fr_CA fr_CH", "fr", "French"),
    "Georgian": ("ka_GE", "", "Georgian"),
    "German": ("de_DE de_AT de_CH de_LI", "de de-at de-ch", "Austrian German"),
    "Greek": ("el_GR", "el", "Cypriot Greek"),
    "Hebrew": ("he_IL", "", "Israeli"),
    "Hindi": ("hi_IN en_IN", "", "Indian"),
    "Hungarian": ("hu_HU", "hu", "Hungarian"),
    "Icelandic": ("is_IS", "is", ""),
    "Indonesian": ("id_ID", "", "Indonesian"),
    "Irish": ("en_IE ga_IE", "", "Irish"),
    "Italian": ("it_IT", "it", "Italian Sammarinese"),
    "Japanese": ("ja_JP", "ja", "Japanese"),
    "Kazakh": ("", "kk", ""),
    "Korean": ("ko_KR", "ko", "Korean"),
    "Latvian": ("lv_LV", "", "Latvian"),
    "Lithuanian": ("lt_LT", "", "Lithuanian"),
    "Macedonian": ("mk_MK", "", "Macedonian"),
    "Marathi": ("mr_IN", "", ""),
    "Nepali": ("ne_NP", "", "Nepalese"),
    "Norwegian": ("no_NO", "no", "Norwegian"),
    "Odia": ("or_IN", "", ""),
    "Persian": ("fa_IR", "fa", "Iranian"),
    "Polish": ("pl_PL", "pl", ""),
    "Portuguese": ("pt_PT pt_BR", "pt pt-br", "Brazilian Portuguese"),
    "Romanian": ("ro_RO", "", "Moldovan Romanian"),
    "Russian": ("ru_RU", "ru", "Russian"),
    "Sinhala": ("si_LK", "", ""),
    "Slovak": ("sk_SK", "sk", "Slovak"),
    "Slovene": ("sl_SI", "", ""),
    "Spanish": (
        "es_ES es_AR es_CL es_CO es_MX",
        "es es-mx",
        "Argentine Bolivian Chilean Colombian Cuban Dominican Ecuadorian Guatemalan Honduran "
        "Mexican Nicaraguan Panamanian Paraguayan Peruvian Salvadoran Uruguayan Venezuelan",
    ),
    "Swahili": ("sw", "", ""),
    "Swedish": ("sv_SE", "sv", ""),
    "Tamil": ("ta_IN", "", "Tamil"),
    "Thai": ("th_TH en_TH", "", "Thai"),
    "Turkish": ("tr_TR", "tr", ""),
    "Ukrainian": ("uk_UA", "uk", "Ukrainian"),
    "Urdu": ("en_PK", "", "Pakistani"),
    "Uzbek": ("uz_UZ", "", ""),
    "Vietnamese": ("vi_VN", "", "Vietnamese"),
    "Yoruba": ("yo_NG", "", ""),
    "Zulu": ("zu_ZA", "", ""),
}
FAKER_LOCALES, MIMESIS_LOCALES, NATIONALITIES = (
    {label: lists[i].split() for label, lists in _LISTS.items() if lists[i]} for i in range(3)
)

# Locales whose lists tell how common a surname is, among the people of their label as well
WEIGHTED = frozenset({
    "en_GB", "es_AR", "es_CL", "es_CO", "fi_FI", "he_IL", "hu_HU", "ja_JP", "ko_KR", "nl_BE",
    "sv_SE", "zh_CN", "zh_TW",
})  # fmt: skip
MOST_WORDS = 400  # of a kind and locale, evenly spaced over the lists
COMPANIES = 300  # names of companies that a locale's provider invents
COMMON_WORDS = 1500  # of a language

# What a data card says about each package
NOTES = {
    "faker": (
        "Hindi holds the names of India at large (en_IN), Urdu those of Pakistan, French-written "
        "names of Algeria are Arabic; Tamil, Urdu and Thai use given names as surnames.",
        "Polish surnames are a list of 3,690 for both sexes, none of which ends in -ski or -cki, "
        "and 200 of men, half of which do. Women's forms of Polish, Lithuanian and Bulgarian "
        "surnames are made by their endings.",
        "Irish holds the names of Ireland as they are written in English (en_IE), a quarter of "
        "them English names, beside the Irish ones; most given names of Akan are English; Serbian "
        "has no list at all.",
        "Surnames of " + ", ".join(sorted(WEIGHTED)) + " have weights: half of the people of the "
        "label are taken to have one of them. Other weights are not used: those of given names, "
        "which gender-guesser has for more countries, and of de_LI and en_NZ.",
        "Icelandic surnames are made as the package makes them: of every given name of a man, "
        "with -son and with -dóttir.",
        "Transliterations are made character by character, not as passports have them: those from "
        "Arabic and Hebrew lack the vowels that are not written, and Indian ones look unusual. "
        "Ideographs are read as Mandarin, so those of Japanese names are not transliterated.",
        "Left out: en_US, en, en_KE, en_NG and de_LU (several languages under one locale), "
        "fr_BE (the surnames of nl_BE), the Russian lists of et_EE, es_CA (given names "
        "only), and gu_IN, ha_NG, ig_NG (20 surnames or fewer).",
        f"Words that are no names: texts, companies, job titles, cities and countries of all "
        f"locales, up to {MOST_WORDS} of a kind and locale, and {COMPANIES} companies a locale "
        "that the package invents, of surnames for the most part.",
    ),
    "mimesis": (
        "English is the most frequent surnames of the United States, so Spanish names are among "
        "them; German (de-ch) is what is found in Switzerland, French and Italian names included.",
        f"Words that are no names: up to {MOST_WORDS} words of texts a locale, and companies.",
    ),
    "wordfreq": (
        f"The {COMMON_WORDS:,} most frequent words of each of the package's languages, of three "
        "letters or more; those on a list of names are left out, but names on no list are there. "
        "Its data are under CC BY-SA 4.0.",
    ),
    "name2nat": (
        "People with a page in the English Wikipedia of 2020, by nationality: sportsmen above all, "
        "few women, in Latin letters. A name is taken from two people on, under a label where a "
        "tenth of its bearers or more are expected. Hardly anyone is Danish, Finnish, Polish, "
        "Spanish, Swedish or Turkish there; Spanish holds the nations of Latin America.",
    ),
    "gender-guesser": (
        "Given names of 2008 by country, with frequencies in steps of two. Its file is under the "
        "GNU Free Documentation License.",
    ),
    "dacy": ("The most frequent Danish names of the University of Copenhagen, with bearers.",),
    "turkish-name-generator": ("Surnames, without frequencies.",),
    "ipadic": (
        "The most frequent Japanese surnames and given names with an ideograph in MeCab's "
        "dictionary of 2007, without frequencies. Under the licence of the Nara Institute of "
        "Science and Technology, which its file COPYING holds.",
    ),
}


def installed(name: str) -> Source:
    """Return an installed package as a source, with its version and licence.

    Raises:
        ConfigError: the package is not installed, or in another version.
    """
    needed = "'charrnn-names[corpus]'" if name in _EXTRA else f"--no-deps {name}=={VERSIONS[name]}"
    try:
        described = metadata(name)
    except PackageNotFoundError:
        if name in _EXTRA:
            raise missing_package(f"the source {name}", "corpus") from None
        raise ConfigError(
            f"the source {name} needs its package, without what that depends on; run: "
            f"pip install {needed}",
            option="sources",
        ) from None
    version = described["Version"]
    if version != VERSIONS[name]:
        raise ConfigError(
            f"{name} {version} is installed; its lists are known for {VERSIONS[name]}; "
            f"run: pip install {needed}",
            option="sources",
        )
    licences = [described[key] for key in ("License-Expression", "License") if key in described]
    return Source(name, version, (licences or [""])[0])
