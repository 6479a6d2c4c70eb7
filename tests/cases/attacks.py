"""What was done from outside the process at commit 5b9e523, and the tests that do it now."""

from dataclasses import dataclass

OUTSIDE = "tests/faults/test_outside.py"
UNREADABLE = "tests/faults/test_unreadable.py"
CRAFTED = "tests/runs/test_crafted.py"
_PLANTED = f"{OUTSIDE}::test_what_is_planted_in_a_shared_folder_reaches_nothing"
_INSIDE = f"{OUTSIDE}::test_what_is_planted_in_a_staging_folder_stops_no_run"


@dataclass(frozen=True)
class Attack:
    """Something planted or done from outside.

    Attributes:
        old: what came of it at commit 5b9e523.
        now: what comes of it now, which the tests hold.
        tests: ids of the tests, without what is in brackets; ``only`` are words in the brackets.
    """

    name: str
    old: str
    now: str
    tests: str
    only: str = ""


ATTACKS = [
    Attack(
        "`.lock` is a link", "the file it points to was emptied", "refused (73), not opened",
        _PLANTED, "a lock that is a link",
    ),
    Attack("`.lock` is a FIFO", "hung for ever", "refused (73)", _PLANTED, "a lock that is a FIFO"),
    Attack(
        "`.out.csv.tmp` is a link", "overwritten with the table; out.csv became a link",
        "left alone, the export is a file of its own", _PLANTED, "an export on its way, a link",
    ),
    Attack(
        "`.out.csv.tmp` is another user's file", "he owned the `--private` export",
        "left alone; the export is ours, mode 0600", _PLANTED, "an export on its way, a file",
    ),
    Attack(
        "`.out.csv.tmp` is a FIFO", "hung for ever", "left alone", _PLANTED,
        "an export on its way, a FIFO",
    ),
    Attack(
        "`.staging-FINGERPRINT` is a link",
        "every file in the folder it points to was deleted, and the run landed there",
        "refused (73), nothing reached", _PLANTED, "a staging folder that is a link",
    ),
    Attack(
        "`.staging-FINGERPRINT` is a FIFO", "hung for ever", "refused (73)", _PLANTED,
        "a staging folder that is a FIFO",
    ),
    Attack(
        "a receipt or part in the staging folder is a link or a FIFO", "followed, or hung",
        "scored again", _INSIDE, "receipt that is|part that is",
    ),
    Attack(
        "`manifest.json` of an old run is a FIFO", "hung for ever", "passed over",
        f"{OUTSIDE}::test_a_manifest_that_is_a_fifo_or_a_link_is_passed_over",
    ),
    Attack(
        "a run whose manifest names parts elsewhere", "verify read them and said whole",
        "refused (65)", f"{CRAFTED}::test_parts_outside_a_run_are_not_its_parts",
    ),
    Attack(
        "a crafted manifest in a destination", "every further run, monitor and purge: exit 70",
        "passed over with a line",
        f"{CRAFTED}::test_a_manifest_that_is_none_is_passed_over_with_a_line",
    ),
    Attack(
        "a folder that is only called like a run", "purge: exit 70, or it was deleted",
        "left and named", f"{CRAFTED}::test_purge_leaves_and_names_what_is_only_named_like_a_run",
    ),
    Attack(
        "`@eaDir` of a NAS in the staging folder", "publishing impossible for good",
        "published without it", _INSIDE, "droppings of a NAS",
    ),
    Attack(
        "a link among staging folders", "stopped purge", "not followed, named",
        f"{CRAFTED}::test_purge_follows_no_link",
    ),
    Attack(
        "EINTR at close and ftruncate", "exit 74 (42 of 44)", "repeated where POSIX allows it",
        "tests/faults/test_syscalls.py::test_interrupted_calls_are_repeated",
    ),
    Attack(
        "`latest` is a folder or a file", "exit 74, the run blocked", "published, with a line",
        f"{OUTSIDE}::test_latest_that_is_no_link_stops_no_run",
    ),
    Attack(
        "a clock that was ahead", "a run of 2040 stayed the run before for ever",
        "compared with the run before it in truth",
        f"{CRAFTED}::test_a_run_of_a_clock_that_was_ahead_is_not_the_run_before",
    ),
    Attack(
        "an export with a name of 254 bytes", "exit 74 after publishing", "written; 256: refused",
        f"{OUTSIDE}::test_names_of_every_length_are_exported_or_refused_clearly",
    ),
    Attack(
        "a folder that may not be read", "`holds no file`", "refused by name (66)",
        f"{UNREADABLE}::test_an_unreadable_folder_is_not_called_empty",
    ),
    Attack(
        "a subfolder or file of an input that may not be read", "passed over in silence",
        "refused by name (66)",
        f"{UNREADABLE}::test_an_unreadable_part_of_an_input_is_refused_by_name",
    ),
    Attack(
        "a file of an inbox that may not be read", "exit 74, the others not scored",
        "the others scored; then 65 with its name",
        f"{UNREADABLE}::test_an_unreadable_file_of_an_inbox_does_not_stop_the_others",
    ),
    Attack(
        "links of `index.html`", "`javascript:` was a scheme", "URL-quoted",
        f"{CRAFTED}::test_links_of_the_history_begin_no_scheme",
    ),
    Attack(
        "a private run after a killed open one", "parts and export stayed readable for others",
        "mode 0600 throughout",
        f"{OUTSIDE}::test_a_private_run_leaves_nothing_that_others_can_read",
    ),
    Attack(
        "control characters in names of files and columns", "reached the terminal", "shown escaped",
        "tests/test_printable.py::",
    ),
    Attack(
        "an input that is swapped for another one and back", "899,521 wrong names were published",
        "refused (65), or the first file's rows", "tests/tables/test_unchanged.py::",
    ),
]  # fmt: skip
