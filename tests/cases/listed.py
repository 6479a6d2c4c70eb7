"""Every case that was found at commit 5b9e523, with its input, what came and what is right."""

import json
import os
from pathlib import Path

import polars as pl
import pyarrow as pa

from cases.inputs import (
    both,
    bytes_columns,
    foreign,
    foreign_run,
    int96,
    interval,
    language,
    languages,
    model,
    names,
    odd_file_name,
    table,
    workbook,
)
from cases.trial import (
    TINY,
    Case,
    Check,
    Done,
    absent,
    column,
    either,
    every,
    file_has,
    refused,
    scored,
    silent,
    succeeds,
)

PEOPLE = "id,name\n1,Katoro\n2,Burgmann\n"
MORE = "id,name\n3,Mitashi\n4,Hofacht\n"
CELLS = ("Katoro", "Burgmann", "Mitashi", "Hofacht", "P0001")
SCORE = ("score", "in.csv", *TINY)
SCORE_PARQUET = ("score", "in.parquet", *TINY)
SCORE_FOLDER = ("score", "data", *TINY)
INBOX = ("inbox", "--folder", "inbox", "--settle-seconds", "0", *TINY)
INGEST = ("ingest", "in")
TRAIN = ("train", "--preset", "seed", "--epochs", "1", "--seeds", "0", "--no-baselines",
         "--device", "cpu")  # fmt: skip
EVALUATE = ("evaluate", "pretrained-tiny", "--on")
LOSES_ROWS = "--on-bad-line"  # an option that would drop every line of such a file
LABELS = pa.array(["Polish", "Italian"])


# --- Checks of single cases -----------------------------------------------------------------------


def labels_of(*labels: str, rows: int) -> Check:
    """The training table has these labels and so many rows."""

    def right(done: Done) -> str:
        frame = pl.read_parquet(done.folder / "data/names.parquet")
        found = sorted(frame["language"].unique())
        if found != sorted(labels) or frame.height != rows:
            return f"labels {found} in {frame.height} rows, expected {labels} in {rows}"
        return ""

    return right


def destinations(count: int) -> Check:
    """So many destinations have runs; each run has the rows of one file."""

    def right(done: Done) -> str:
        root = done.folder / "outputs/predictions"
        found = {run.relative_to(root).parts[0] for run in done.runs()}
        return "" if len(found) == count else f"destinations {sorted(found)}, expected {count}"

    return right


def distinct_inputs(done: Done) -> str:
    """The manifest tells its inputs apart."""
    document = json.loads((done.runs()[0] / "manifest.json").read_bytes())
    found = [Path(str(one.get("name", one.get("path", one)))) for one in document["inputs"]]
    return "" if len(set(found)) == len(found) else f"inputs {found} cannot be told apart"


def years(*expected: int) -> Check:
    """The dates have these years."""

    def right(done: Done) -> str:
        found = done.rows()["valid_to"].dt.year().to_list()
        return "" if found[: len(expected)] == list(expected) else f"years {found}"

    return right


def same_interval(done: Done) -> str:
    """DuckDB reads the column as the interval that it was."""
    import duckdb

    part = next(done.runs()[0].glob("rows/part-*.parquet"))
    found = duckdb.sql(f"select typeof(iv) from '{part}'").fetchall()[0][0]
    return "" if found == "INTERVAL" else f"the column is now {found}"


def no_champion(done: Done) -> str:
    """No version was promoted."""
    link = done.folder / "outputs/models/aliases/champion"
    return "champion was promoted" if os.path.lexists(link) else ""


def no_cell_published(done: Done) -> str:
    """No file of a published run has the name in it."""
    for path in (p for run in done.runs() for p in run.rglob("*") if p.is_file()):
        text = path.read_bytes()
        if path.suffix == ".parquet":
            text += repr(pl.read_parquet(path).to_dict()).encode()
            text += repr(pa.parquet.read_schema(path).metadata).encode()
        if b"Katoro" in text:
            return f"{path.name} has the name"
    return ""


def lone_surrogate(folder: Path) -> None:
    from charrnn import Scorer

    Scorer.load("pretrained-tiny", device="cpu").score(["Katoro", "a\ud800"])


def lazy_frame(folder: Path) -> None:
    from charrnn import Scorer

    scorer = Scorer.load("pretrained-tiny", device="cpu")
    scorer.score_table(pl.LazyFrame({"name": ["Katoro"]}))


def int128_column(folder: Path) -> None:
    from charrnn import Scorer

    frame = pl.DataFrame({"name": ["Katoro"], "n": pl.Series([1], dtype=pl.Int128)})
    Scorer.load("pretrained-tiny", device="cpu").score_table(frame)


# --- A: a silent wrong result, or a loss ----------------------------------------------------------

_TILDE = "paths that a library expands by itself"
_DISCOVERY = "input discovery"
_LOSS = [
    Case(
        "tilde_output_csv", "A", _TILDE, "exit 0; an empty file, names in a hidden one at home",
        either(scored(2, file_has("home/out.csv", "Katoro")), refused(64)),
        commands=((*SCORE, "--output=~/out.csv"),), files={"in.csv": PEOPLE},
    ),
    Case(
        "tilde_output_parquet", "A", _TILDE, "exit 0; a folder called ~",
        either(scored(2, file_has("home/out.parquet", "PAR1")), refused(64)),
        commands=((*SCORE, "--output=~/out.parquet"),), files={"in.csv": PEOPLE},
    ),
    Case(
        "tilde_source", "A", _TILDE, "exit 66: ~/in.csv does not exist",
        either(scored(2), refused(64)),
        commands=(("score", "~/in.csv", *TINY),), files={"home/in.csv": PEOPLE},
    ),
    Case(
        "tilde_unknown_user", "A", _TILDE, "exit 0; a folder called ~nobodyhere",
        refused(64, says=("nobodyhere",)),
        commands=((*SCORE, "--output=~nobodyhere/out.csv"),), files={"in.csv": PEOPLE},
    ),
    Case(
        "tilde_models", "A", _TILDE, "exit 78: no such version below a folder called ~",
        either(scored(2), refused(64)),
        commands=(("score", "in.csv", "--model", "v0001", "--models", "~/outputs/models",
                   *TINY[2:]),),
        files={"in.csv": PEOPLE}, make=lambda folder: model()(folder / "home"),
    ),
    Case(
        "tilde_inbox", "A", _TILDE, "exit 66: ~/inbox does not exist",
        either(succeeds(destinations(1)), refused(64)),
        commands=(("inbox", "--folder", "~/inbox", *INBOX[3:]),),
        files={"home/inbox/a.csv": PEOPLE},
    ),
    Case(
        "tilde_ingest_target", "A", _TILDE, "exit 0; an empty table, the names in a hidden file",
        either(succeeds(file_has("home/t.parquet", "PAR1"), absent("~")), refused(64)),
        commands=((*INGEST, "--target", "~/t.parquet"),), files=languages("Alpha", "Beta"),
    ),
    Case(
        "int96_sentinel_dates", "A", "INT96 outside 1677-2262",
        "exit 0; year 9999 became 1816, year 1 became 1754, and verify said whole",
        either(scored(3, years(9999, 1)), refused(65, says=("valid_to",))),
        commands=(SCORE_PARQUET,), make=int96,
    ),
    Case(
        "folder_upper_case_suffix", "A", _DISCOVERY, "exit 0; 2 of 4 rows",
        scored(4),
        commands=(SCORE_FOLDER,), files={"data/a.csv": PEOPLE, "data/B.CSV": MORE},
    ),
    Case(
        "folder_tsv", "A", _DISCOVERY, "exit 0; 2 of 4 rows",
        scored(4), commands=(SCORE_FOLDER,),
        files={"data/a.csv": PEOPLE, "data/b.tsv": MORE.replace(",", "\t")},
    ),
    Case(
        "folder_pq", "A", _DISCOVERY, "exit 0; 1 of 2 rows",
        scored(2), commands=(SCORE_FOLDER,),
        make=both(table("data/a.parquet", {"name": ["Katoro"]}),
                  table("data/b.PQ", {"name": ["Burgmann"]})),
    ),
    Case(
        "folder_other_kinds", "A", _DISCOVERY, "exit 0; others passed over in silence",
        scored(2, says=("e.xlsx",)), commands=(SCORE_FOLDER,),
        files={"data/a.csv": PEOPLE, "data/e.xlsx": b"PK\x03\x04"},
    ),
    Case(
        "folder_of_other_kinds_only", "A", _DISCOVERY, "exit 66: holds no file",
        refused(65, 66, says=("e.xlsx",)), commands=(SCORE_FOLDER,),
        files={"data/e.xlsx": b"PK\x03\x04"},
    ),
    Case(
        "symlinked_subfolder", "A", _DISCOVERY, "exit 0; 2 of 4 rows",
        scored(4), commands=(SCORE_FOLDER,),
        files={"data/a.csv": PEOPLE, "far/b.csv": MORE},
        make=lambda folder: (folder / "data/more").symlink_to("../far"),
    ),
    Case(
        "symlink_loop", "A", _DISCOVERY, "exit 0; links were not followed",
        scored(2), commands=(SCORE_FOLDER,), files={"data/a.csv": PEOPLE},
        make=lambda folder: (folder / "data/again").symlink_to("."),
    ),
    Case(
        "inbox_upper_case_suffix", "A", _DISCOVERY, "exit 0; the file never scored, not named",
        succeeds(destinations(1)), commands=(INBOX,), files={"inbox/NEW.CSV": PEOPLE},
    ),
    Case(
        "inbox_other_kinds", "A", _DISCOVERY, "exit 0; passed over in silence",
        succeeds(destinations(1), says=("notes.xlsx",)), commands=(INBOX,),
        files={"inbox/a.csv": PEOPLE, "inbox/notes.xlsx": b"PK\x03\x04"},
    ),
    Case(
        "hive_partitioned", "A", "hive folders",
        "exit 0; the column country gone, two inputs called part-0.parquet",
        scored(4, column("country", ["FR", "FR", "PL", "PL"]), distinct_inputs),
        commands=(SCORE_FOLDER,),
        make=both(*(table(f"data/country={c}/part-0.parquet", {"name": ["Katoro", "Burgmann"]})
                    for c in ("FR", "PL"))),
    ),
    Case(
        "ingest_cr_only", "A", "line ends", "exit 0; 20 names became one of 160 characters",
        either(succeeds(labels_of("Alpha", "Beta", rows=40)), refused(65, says=("Beta",))),
        commands=(INGEST,),
        files={"in/Alpha.txt": language("Alpha"), "in/Beta.txt": language("Beta", end="\r")},
    ),
    Case(
        "ingest_upper_TXT", "A", "label discovery", "exit 0; the label vanished",
        succeeds(labels_of("Alpha", "Beta", "Gamma", rows=60)), commands=(INGEST,),
        files={**languages("Alpha", "Beta"), "in/Gamma.TXT": language("Gamma")},
    ),
    Case(
        "ingest_subfolder_ignored", "A", "label discovery", "exit 0; the label vanished",
        either(succeeds(labels_of("Alpha", "Beta", "Gamma", rows=60)),
               succeeds(says=("further",)), refused(65, says=("further",))),
        commands=(INGEST,),
        files={**languages("Alpha", "Beta"), "in/further/Gamma.txt": language("Gamma")},
    ),
    Case(
        "ingest_empty_file", "A", "label discovery", "exit 0; the label vanished",
        either(succeeds(says=("Gamma",)), refused(65, says=("Gamma",))), commands=(INGEST,),
        files={**languages("Alpha", "Beta"), "in/Gamma.txt": ""},
    ),
    Case(
        "ingest_all_but_one_empty", "A", "evidence too poor to train or promote",
        "exit 0; a model of one label, accuracy 1.0, became champion",
        every(refused(64, 65), no_champion), commands=(INGEST,),
        files={**languages("Alpha"), "in/Gamma.txt": ""},
    ),
    Case(
        "train_cyrillic_greek", "A", "metrics count what scoring refuses",
        "exit 0; accuracy 1.0, promoted; then every such name is unknown_script",
        every(no_champion, silent("internal error")), commands=(INGEST, TRAIN), make=foreign,
    ),
    Case(
        "evaluate_on_int_names", "A", "labelled tables are not checked as inputs are",
        "exit 0; accuracy 0",
        refused(65, says=("'name'", "int64")), commands=((*EVALUATE, "l.parquet"),),
        make=table("l.parquet", {"name": [1, 2], "language": LABELS}),
    ),
    Case(
        "interval", "A", "Parquet annotations and metadata lost", "exit 0; INTERVAL became BLOB",
        either(scored(1, same_interval), refused(65, says=("iv",))),
        commands=(SCORE_PARQUET,), make=interval,
    ),
    *(
        Case(
            name, "A", "names of destinations", "exit 0; one destination for both",
            succeeds(destinations(2)), commands=(INBOX,),
            files={f"inbox/{one}": PEOPLE, f"inbox/{other}": MORE},
        )
        for name, one, other in (
            ("inbox_umlauts", "Müller.csv", "Möller.csv"),
            ("inbox_han", "名.csv", "氏.csv"),
            ("inbox_unicode_forms", "é.csv", "e\u0301.csv"),
            ("inbox_upper_case", "people.csv", "People.csv"),
        )
    ),
    Case(
        "inbox_two_kinds", "A", "names of destinations", "exit 0; one destination for both",
        succeeds(destinations(2)), commands=(INBOX,), files={"inbox/people.csv": PEOPLE},
        make=table("inbox/people.parquet", {"name": ["Katoro"]}),
    ),
]  # fmt: skip

# --- B: exit code 70, "please report this" --------------------------------------------------------

_BAD_MANIFEST = "a manifest that does not parse as ours"
_CRASH = [
    *(
        Case(
            f"export_csv_{kind}", "B", "CSV export of a type that CSV has not",
            "exit 70, after the run was published",
            either(scored(2, file_has("out.csv", "name")), refused(64, 65, 73)),
            commands=(("score", f"{kind}.parquet", *TINY, "-o", "out.csv"),), make=bytes_columns,
        )
        for kind in ("uuid", "binary", "json", "fixed")
    ),
    Case(
        "evaluate_on_csv", "B", "labelled tables are not checked as inputs are", "exit 70",
        succeeds(says=("accuracy",)), commands=((*EVALUATE, "l.csv"),),
        files={"l.csv": "name,language\nKatoro,Polish\nBurgmann,Italian\n"},
    ),
    Case(
        "evaluate_on_empty_file", "B", "labelled tables are not checked as inputs are", "exit 70",
        refused(65), commands=((*EVALUATE, "l.parquet"),), files={"l.parquet": ""},
    ),
    Case(
        "evaluate_on_int_labels", "B", "labelled tables are not checked as inputs are", "exit 70",
        refused(65, says=("'language'",)), commands=((*EVALUATE, "l.parquet"),),
        make=table("l.parquet", {"name": ["Katoro", "Burgmann"], "language": [1, 2]}),
    ),
    Case(
        "evaluate_on_twin_columns", "B", "labelled tables are not checked as inputs are", "exit 70",
        refused(65), commands=((*EVALUATE, "l.csv"),),
        files={"l.csv": "name,name,language\nKatoro,Katoro,Polish\n"},
    ),
    Case(
        "evaluate_on_folder", "B", "labelled tables are not checked as inputs are",
        "exit 74: the disk: reading failed",
        either(succeeds(says=("accuracy",)), refused(65, 66, never=("the disk",))),
        commands=((*EVALUATE, "l"),),
        make=table("l/a.parquet", {"name": ["Katoro", "Burgmann"], "language": LABELS}),
    ),
    Case(
        "file_name_not_utf8", "B", "file names that are not UTF-8", "exit 70",
        scored(2, silent("\udcff")),
        commands=(("score", os.fsdecode(b"b\xff.csv"), *TINY),), make=odd_file_name,
    ),
    Case(
        "inbox_file_name_not_utf8", "B", "file names that are not UTF-8", "exit 70",
        succeeds(destinations(1), silent("\udcff")), commands=(INBOX,),
        make=lambda folder: odd_file_name(folder / "inbox"),
    ),
    *(
        Case(
            f"manifest_{what}_{command[0]}", "B", _BAD_MANIFEST, "exit 70",
            either(succeeds(), refused(65)), commands=((*SCORE, "--top-k", "2"), command),
            files={"in.csv": PEOPLE}, make=foreign_run("run=20200101T000000Z-aaaaaaaa", text),
        )
        for what, text in (("null_version", '{"schema_version": null}'), ("deep", "[" * 200_000))
        for command in (SCORE, ("monitor", "outputs/predictions/in"),
                        ("purge", "outputs/predictions/in", "--older-than", "1", "--yes"))
    ),
    Case(
        "purge_odd_run_name", "B", "a folder that is only called like a run", "exit 70",
        succeeds(), make=foreign_run("run=99999999T999999Z-aaaaaaaa", "{}"),
        commands=(("purge", "outputs/predictions/in", "--older-than", "1", "--yes"),),
    ),
    *(
        Case(
            f"model_json_{what}", "B", "fields of model.json", old,
            refused(78, says=(what.partition("__")[0].replace("config_", ""),)),
            commands=(("score", "in.csv", "--model", "v0001", *TINY[2:]),),
            files={"in.csv": PEOPLE}, make=model(**changes),
        )
        for what, old, changes in (
            ("hidden_size", "exit 70", {"config__hidden_size": 1e308}),
            ("labels", "exit 70", {"labels": lambda labels: [None, *labels[1:]]}),
            ("temperature", "exit 70", {"temperature": 1e-300}),
            ("priors", "exit 0; scored", {"priors": lambda priors: [str(p) for p in priors]}),
        )
    ),
]  # fmt: skip

# --- C: names where none belong -------------------------------------------------------------------

_HEADER = "a header that is data"
_SHOWN = [
    Case(
        "no_header", "C", _HEADER, "exit 65: column 'name' not found; columns: P0001, ⟨names⟩ …",
        refused(65, never=("P0001", "Katoro", "Athens")), commands=(SCORE,),
        files={"in.csv": "P0001,Katoro,Athens\nP0002,Burgmann,Gdynia\n"},
    ),
    Case(
        "no_header_repeats", "C", _HEADER, "exit 65: line 1 repeats '⟨name⟩'",
        refused(65, never=("Katoro",)), commands=(SCORE,),
        files={"in.csv": "Katoro,Katoro\nBurgmann,Mitashi\n"},
    ),
    Case(
        "no_header_close", "C", _HEADER, "exit 65: … did you mean '⟨name⟩'?",
        refused(65, never=("Nameko",)), commands=(SCORE,),
        files={"in.csv": "1,Nameko\n2,Burgmann\n"},
    ),
    Case(
        "no_header_two_files", "C", _HEADER, "exit 65: different columns: '⟨name⟩' …",
        refused(65, never=CELLS), commands=(SCORE_FOLDER,),
        files={"data/a.csv": "1,Katoro\n2,Burgmann\n", "data/b.csv": "3,Mitashi\n4,Hofacht\n"},
    ),
    Case(
        "prior_of_names", "C", "a prior, weight or label file with names in it",
        "exit 64; the cell is quoted",
        refused(64, 65, never=("Katoro", "Burgmann")), commands=((*SCORE, "--prior", "prior.csv"),),
        files={"in.csv": PEOPLE, "prior.csv": "language,share\nKatoro,0.5\nBurgmann,0.5\n"},
    ),
    Case(
        "prior_of_names_as_shares", "C", "a prior, weight or label file with names in it",
        "exit 64; the cell is quoted",
        refused(64, 65, never=("Katoro", "Burgmann")), commands=((*SCORE, "--prior", "prior.csv"),),
        files={"in.csv": PEOPLE, "prior.csv": "language,share\nPolish,Katoro\nGreek,Burgmann\n"},
    ),
    Case(
        "labels_of_names", "C", "a prior, weight or label file with names in it",
        "exit 65; the cell is quoted",
        refused(65, never=("Katoro", "Burgmann")), commands=((*EVALUATE, "l.parquet"),),
        make=table("l.parquet", {"name": ["a", "b"], "language": ["Katoro", "Burgmann"]}),
    ),
    Case(
        "metadata_with_a_name", "C", "Parquet metadata under --names omit",
        "exit 0; the metadata was copied to the output",
        scored(1, no_cell_published), commands=((*SCORE_PARQUET, "--names", "omit"),),
        make=table("in.parquet", {"name": ["Katoro"]}, {"note": "Katoro"}),
    ),
]  # fmt: skip

# --- D: messages that mislead ---------------------------------------------------------------------

_MISLEADING = [
    Case(
        "excel_sep_semicolon", "D", "sep= line", "exit 65: line 1 has an empty name",
        scored(2, column("name", ["Katoro", "Burgmann"])), commands=(SCORE,),
        files={"in.csv": "sep=;\r\nid;name;town\r\n007;Katoro;Łódź\r\n008;Burgmann;Kraków\r\n"},
    ),
    Case(
        "nullability_differs", "D", "columns that differ in what is no difference",
        "exit 65: different columns: another order",
        scored(4), commands=(SCORE_FOLDER,),
        make=both(table("data/a.parquet", {"id": [1, 2], "name": ["Katoro", "Burgmann"]}),
                  table("data/b.parquet", {"id": [3, 4], "name": ["Mitashi", "Hofacht"]},
                        required="id")),
    ),
    Case(
        "header_nfd", "D", "Unicode forms", "exit 65: 'X' not found; did you mean 'X'?",
        scored(1), commands=((*SCORE, "--name-column", "nom_de_fami\u00e8lle"),),
        files={"in.csv": "id,nom_de_famie\u0300lle\n1,Katoro\n"},
    ),
    Case(
        "ingest_utf16_bom", "D", "encodings of language files", "exit 65: iconv -f LATIN1",
        either(succeeds(labels_of("Alpha", "Beta", rows=40)),
               refused(65, says=("UTF-16",), never=("LATIN1",))),
        commands=(INGEST,),
        files={"in/Alpha.txt": language("Alpha"), "in/Beta.txt": language("Beta").encode("utf-16")},
    ),
    Case(
        "ingest_labelled_csv", "D", "what ingest expects",
        "exit 65: not a readable zip archive; download it again",
        either(succeeds(labels_of("Alpha", "Beta", rows=20)),
               refused(65, never=("download it again",))),
        commands=(("ingest", "in/x.csv"),),
        files={"in/x.csv": "name,language\n" + "".join(
            f"{name},{label}\n" for label in ("Alpha", "Beta") for name in names(label, 10))},
    ),
    *(
        Case(
            f"{kind.lower()}_named_csv", "D", "what a file is, whatever it is called",
            "exit 65: not UTF-8; give --encoding",
            refused(65, says=(kind,), never=("--encoding", "<")), commands=(SCORE,),
            files={"in.csv": content},
        )
        for kind, content in (
            ("Excel", workbook()),
            ("html", b"<!DOCTYPE html>\n<html><body>name</body></html>\n"),
        )
    ),
    Case(
        "parquet_named_csv", "D", "what a file is, whatever it is called",
        "exit 65: not UTF-8; give --encoding",
        refused(65, says=("Parquet",), never=("--encoding",)), commands=(SCORE,),
        make=table("in.csv", {"name": ["Katoro"]}),
    ),
    Case(
        "spark_backslash_quotes", "D", "dialects", "exit 65: text after a closing quote",
        either(scored(2), refused(65, says=("backslash",), never=("Smith",))), commands=(SCORE,),
        files={"in.csv": 'id,name,note\n1,"Katoro, Al","says \\"hi\\""\n2,Burgmann,x\n'},
    ),
    *(
        Case(
            name, "D", "remedies that lose every row", "exit 65; offers --on-bad-line reject",
            either(scored(2), refused(65, says=says, never=(LOSES_ROWS, *CELLS))),
            commands=(SCORE,), files={"in.csv": text},
        )
        for name, says, text in (
            ("trailing_delimiter_rows_only", ("delimiter",),
             "id;name\n1;Katoro;\n2;Burgmann;\n"),
            ("dos_eof_0x1a", ("1A",), "id,name\r\n1,Katoro\r\n2,Burgmann\r\n\x1a"),
            ("title_row", ("title",),
             "Customer export 2026-01-31\nid,name\n1,Katoro\n2,Burgmann\n"),
        )
    ),
    Case(
        "duckdb_json_name", "D", "types of the name column",
        "exit 65: names are extension<arrow.json>",
        refused(65, says=("'name'", "cast")), commands=(SCORE_PARQUET,),
        make=table("in.parquet", {"name": pa.array(['"Katoro"'], pa.json_())}),
    ),
]  # fmt: skip

# --- E: inconvenience -----------------------------------------------------------------------------

_OUTPUT_NAME = "a file name for -o makes a folder"
_INCONVENIENT = [
    Case(
        "output_csv_gz", "E", _OUTPUT_NAME, "exit 0; a folder out.csv.gz",
        either(scored(2, file_has("out.csv.gz", "\x1f")), refused(64, says=("out.csv.gz",))),
        commands=((*SCORE, "-o", "out.csv.gz"),), files={"in.csv": PEOPLE},
    ),
    Case(
        "output_tsv", "E", _OUTPUT_NAME, "exit 0; a folder out.tsv",
        either(scored(2, file_has("out.tsv", "Katoro")), refused(64, says=("out.tsv",))),
        commands=((*SCORE, "-o", "out.tsv"),), files={"in.csv": PEOPLE},
    ),
    Case(
        "output_xlsx", "E", _OUTPUT_NAME, "exit 0; a folder out.xlsx",
        refused(64, says=("xlsx",)),
        commands=((*SCORE, "-o", "out.xlsx"),), files={"in.csv": PEOPLE},
    ),
    Case(
        "output_upper_case", "E", _OUTPUT_NAME, "exit 0; a folder OUT.CSV",
        scored(2, file_has("OUT.CSV", "Katoro")),
        commands=((*SCORE, "-o", "OUT.CSV"),), files={"in.csv": PEOPLE},
    ),
    Case(
        "ingest_nfd_nfc_label", "E", "one label in two Unicode forms", "exit 0; two labels",
        either(succeeds(labels_of("Fran\u00e7ais", "Beta", rows=50)), refused(65)),
        commands=(INGEST,),
        files={"in/Fran\u00e7ais.txt": language("Alpha", 10),
               "in/Franc\u0327ais.txt": language("Gamma"), **languages("Beta")},
    ),
    Case(
        "label_with_a_bar", "E", "characters of labels", "exit 0; ambiguous sets, a broken table",
        refused(65, says=("|",)), commands=(INGEST,),
        files={"in/a|b.txt": language("Alpha"), **languages("Beta")},
    ),
    Case(
        "workers_0", "E", "option values", "exit 0; taken for the default",
        refused(64, says=("workers",)),
        commands=(("score", "in.csv", *TINY[:2], "--workers", "0"),), files={"in.csv": PEOPLE},
    ),
    Case(
        "head_negative", "E", "option values", "exit 0; ignored",
        refused(64, says=("head",)), commands=((*SCORE, "--head", "-1"),), files={"in.csv": PEOPLE},
    ),
    Case(
        "min_confidence_60", "E", "option values", "exit 64; blames an option that does not exist",
        refused(64, says=("--min-confidence",)),
        commands=((*SCORE, "--min-confidence", "60"),), files={"in.csv": PEOPLE},
    ),
    Case(
        "delimiter_backslash_t", "E", "option values", "exit 64, without saying how",
        either(scored(2), refused(64, says=("tab",))),
        commands=((*SCORE, "--delimiter", "\\t"),),
        files={"in.csv": PEOPLE.replace(",", "\t")},
    ),
    Case(
        "pandas_index_csv", "E", "files of other tools", "exit 65: line 1 has an empty name",
        either(scored(2), refused(65, says=("index",))), commands=(SCORE,),
        files={"in.csv": ",id,name\n0,17,Katoro\n1,18,Burgmann\n"},
    ),
    Case(
        "spark_csv_empty_part", "E", "files of other tools", "exit 65: a part is empty",
        scored(2), commands=(SCORE_FOLDER,),
        files={"data/_SUCCESS": "", "data/part-00000-a.csv": PEOPLE, "data/part-00001-a.csv": ""},
    ),
    Case(
        "lazy_frame", "E", "what the library is given", "AttributeError",
        either(succeeds(), refused(64, 65)), call=lazy_frame,
    ),
    Case(
        "lone_surrogate", "E", "what the library is given", "UnicodeEncodeError",
        either(succeeds(), refused(64, 65)), call=lone_surrogate,
    ),
    Case(
        "int128_column", "E", "what the library is given", "ComputeError",
        either(succeeds(), refused(64, 65)), call=int128_column,
    ),
]  # fmt: skip

CASES = [*_LOSS, *_CRASH, *_SHOWN, *_MISLEADING, *_INCONVENIENT]
