"""Ask models for the most frequent surnames of languages, as a Markdown table.

    python tests/bench/frequent.py pretrained pretrained-tiny --page docs/outside.md

These are the names that most rows of a table have. Many are frequent in several languages, of which
one counts as right here, so that no model reaches 1. They were looked at while the recipe of the
models was chosen.
"""

import argparse
from pathlib import Path

import numpy as np
from common import circumstances, write_section
from outside import NameSet, measure, models_of, row

from charrnn.model.normalise import LATIN, normalise

# Up to twenty of each that are known as the most frequent ones
_LISTS = """
English: Smith Jones Taylor Brown Williams Wilson Johnson Davies Robinson Wright Thompson Evans
  Walker White Roberts Green Hall Wood Jackson Clarke
French: Martin Bernard Dubois Thomas Robert Richard Petit Durand Leroy Moreau Simon Laurent Lefebvre
  Michel Garcia David Bertrand Roux Vincent Fournier
German: Müller Schmidt Schneider Fischer Weber Meyer Wagner Becker Schulz Hoffmann Schäfer Koch
  Bauer Richter Klein Wolf Schröder Neumann Schwarz Zimmermann
Spanish: García Rodríguez González Fernández López Martínez Sánchez Pérez Gómez Martín Jiménez Ruiz
  Hernández Díaz Moreno Muñoz Álvarez Romero Alonso Gutiérrez
Portuguese: Silva Santos Ferreira Pereira Oliveira Costa Rodrigues Martins Jesus Sousa Fernandes
  Gonçalves Gomes Lopes Marques Alves Almeida Ribeiro Pinto Carvalho
Italian: Rossi Russo Ferrari Esposito Bianchi Romano Colombo Ricci Marino Greco Bruno Gallo Conti
  Mancini Costa Giordano Rizzo Lombardi Moretti Barbieri
Dutch: de_Jong Jansen de_Vries van_den_Berg van_Dijk Bakker Janssen Visser Smit Meijer de_Boer
  Mulder de_Groot Bos Vos Peters Hendriks van_Leeuwen Dekker Brouwer
Swedish: Andersson Johansson Karlsson Nilsson Eriksson Larsson Olsson Persson Svensson Gustafsson
  Pettersson Jonsson Jansson Hansson Bengtsson Jönsson Lindberg Jakobsson Magnusson Lindström
Norwegian: Hansen Johansen Olsen Larsen Andersen Pedersen Nilsen Kristiansen Jensen Karlsen Johnsen
  Pettersen Eriksen Berg Haugen Hagen Johannessen Andreassen Jacobsen Dahl
Danish: Nielsen Jensen Hansen Andersen Pedersen Christensen Larsen Sørensen Rasmussen Jørgensen
  Petersen Madsen Kristensen Olsen Thomsen Christiansen Poulsen Johansen Møller Mortensen
Icelandic: Jónsson Guðmundsson Sigurðsson Gunnarsson Ólafsson Einarsson Kristjánsson Magnússon
  Stefánsson Jóhannsson Björnsson Halldórsson Jónsdóttir Guðmundsdóttir Sigurðardóttir
Finnish: Korhonen Virtanen Mäkinen Nieminen Mäkelä Hämäläinen Laine Heikkinen Koskinen Järvinen
  Lehtonen Lehtinen Saarinen Salminen Heinonen Niemi Heikkilä Salonen Kinnunen Turunen
Estonian: Tamm Saar Sepp Mägi Kask Kukk Rebane Ilves Pärn Koppel
Latvian: Bērziņš Kalniņš Ozoliņš Jansons Liepiņš Krūmiņš Balodis Eglītis Zariņš Pētersons
Lithuanian: Kazlauskas Petrauskas Jankauskas Stankevičius Vasiliauskas Žukauskas Butkus Paulauskas
  Urbonas Kavaliauskas
Polish: Nowak Kowalski Wiśniewski Wójcik Kowalczyk Kamiński Lewandowski Zieliński Szymański Woźniak
  Dąbrowski Kozłowski Jankowski Mazur Kwiatkowski Krawczyk Kaczmarek Piotrowski Grabowski Zając
Czech: Novák Svoboda Novotný Dvořák Černý Procházka Kučera Veselý Horák Němec Marek Pospíšil Pokorný
  Hájek Král Jelínek Růžička Beneš Fiala Sedláček
Slovak: Horváth Kováč Varga Tóth Nagy Baláž Molnár Szabó Lukáč Polák
Hungarian: Nagy Kovács Tóth Szabó Horváth Varga Kiss Molnár Németh Farkas Balogh Papp Takács Juhász
  Lakatos Mészáros Oláh Simon Rácz Fekete
Romanian: Popa Popescu Ionescu Radu Dumitru Stan Stoica Gheorghe Matei Ciobanu Rusu Constantin Marin
  Munteanu Barbu Ungureanu Moldovan Florea Dinu Lazăr
Turkish: Yılmaz Kaya Demir Çelik Şahin Yıldız Yıldırım Öztürk Aydın Özdemir Arslan Doğan Kılıç Aslan
  Çetin Kara Koç Kurt Özkan Şimşek
Greek: Papadopoulos Pappas Karagiannis Vlachos Ioannidis Oikonomou Papageorgiou Makris
  Konstantinidis Georgiou Dimitriou Nikolaidis
Russian: Smirnov Ivanov Kuznetsov Popov Sokolov Lebedev Kozlov Novikov Morozov Petrov Volkov
  Solovyov Vasilyev Zaytsev Pavlov Semyonov Golubev Vinogradov Bogdanov Vorobyov
Ukrainian: Melnyk Shevchenko Bondarenko Kovalenko Boyko Tkachenko Kravchenko Kovalchuk Koval Oliynyk
  Shevchuk Polishchuk Tkachuk Savchenko Bondar Marchenko Rudenko Moroz Lysenko Petrenko
Bulgarian: Ivanov Georgiev Dimitrov Petrov Nikolov Hristov Stoyanov Todorov Iliev Angelov Vasilev
  Petkov Marinov Stefanov Kolev Mihaylov
Croatian: Horvat Kovačević Babić Marić Jurić Novak Kovačić Knežević Vuković Marković Petrović Matić
  Tomić Pavlović Kovač Božić Blažević Grgić Pavić Radić
Slovene: Novak Horvat Kovačič Krajnc Zupančič Potočnik Kovač Mlakar Kos Vidmar Golob Turk
Japanese: Sato Suzuki Takahashi Tanaka Watanabe Ito Yamamoto Nakamura Kobayashi Kato Yoshida Yamada
  Sasaki Yamaguchi Matsumoto Inoue Kimura Hayashi Shimizu Saito
Chinese: Wang Li Zhang Liu Chen Yang Zhao Huang Zhou Wu Xu Sun Hu Zhu Gao Lin He Guo Ma Luo
Korean: Kim Lee Park Choi Jung Kang Cho Yoon Jang Lim Han Oh Seo Shin Kwon Hwang Ahn Song Yoo Hong
Vietnamese: Nguyễn Trần Lê Phạm Hoàng Huỳnh Vũ Võ Đặng Bùi Đỗ Hồ Ngô Dương Lý
Arabic: Hassan Ahmed Mohamed Ali Ibrahim Khalil Mansour Haddad Khoury Nasser Saleh Abdullah Al-Masri
Hebrew: Cohen Levi Mizrahi Peretz Biton Dahan Avraham Friedman Malka Azulay
Persian: Mohammadi Hosseini Ahmadi Rezaei Moradi Karimi Jafari Hashemi Sadeghi Ebrahimi
Hindi: Sharma Singh Kumar Patel Gupta Verma Reddy Agarwal Mishra Yadav Joshi Mehta Shah
Irish: Murphy Kelly O'Sullivan Walsh O'Brien Byrne Ryan O'Connor O'Neill O'Reilly Doyle McCarthy
  Gallagher Doherty Kennedy Lynch Murray Quinn Moore McLoughlin
Georgian: Beridze Kapanadze Gelashvili Maisuradze Giorgadze Lomidze Tsiklauri Kvaratskhelia
Armenian: Grigoryan Harutyunyan Sargsyan Hovhannisyan Khachatryan Hakobyan Vardanyan Petrosyan
Yoruba: Adeyemi Adebayo Ogunleye Oladipo Akinola Balogun
Zulu: Dlamini Nkosi Zulu Khumalo Mkhize Ndlovu Sithole Zungu
Indonesian: Setiawan Wijaya Santoso Hidayat Susanto Kusuma Saputra Nugroho Wibowo Siregar
"""
SURNAMES = dict(line.split(": ") for line in _LISTS.replace("\n  ", " ").strip().splitlines())


def frequent_names(*, accents: bool = True) -> NameSet:
    """Return the names, ``_`` read as a space, with or without their accents."""
    pairs = [
        (name.replace("_", " "), label) for label, text in SURNAMES.items() for name in text.split()
    ]
    names = [name if accents else normalise(name, LATIN).title() for name, _ in pairs]
    return NameSet({"surname": names}, [label for _, label in pairs])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", help="[NAME=]MODEL[,MODEL…]")
    parser.add_argument("--page", type=Path, help="Markdown page to write the table to")
    arguments = parser.parse_args()
    models = dict(map(models_of, arguments.models))
    names = {title: frequent_names(accents=title == "as written")
             for title in ("as written", "without accents")}  # fmt: skip
    lines = row(["recall of the most frequent surnames", "names", *models], head=True)
    measured = {
        (title, model): [measure(scorer, of_title) for scorer in seeds]
        for title, of_title in names.items()
        for model, seeds in models.items()
    }
    for title, of_title in names.items():
        means = [np.mean([f["recall"] for f, _ in measured[title, m]]) for m in models]
        count = f"{len(of_title.labels):,}"
        lines += row([f"mean of languages, {title}", count, *(f"{mean:.3f}" for mean in means)])
    for label, text in SURNAMES.items():
        recalls = [np.mean([r[label] for _, r in measured["as written", m]]) for m in models]
        lines += row([label, str(len(text.split())), *(f"{recall:.2f}" for recall in recalls)])
    print("\n".join(lines))
    if arguments.page:
        made = f"`python tests/bench/frequent.py {' '.join(models)}`, {circumstances('torch')}."
        write_section(arguments.page, "frequent", [made, "", *lines])


if __name__ == "__main__":
    main()
