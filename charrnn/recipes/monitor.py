"""Draw the history of scoring runs: rows, languages, expected accuracy, unscored rows, drift."""

from dataclasses import dataclass
from pathlib import Path

from charrnn.files import write_bytes
from charrnn.recipes.requests import MonitorRequest
from charrnn.reports.history import History, history_markdown, history_page, read_histories
from charrnn.runs.folders import passed_over_line


@dataclass(frozen=True)
class MonitorPage:
    """The page, and what it shows; ``unreadable`` has a sentence for each entry passed over in
    destinations without a readable run."""

    page: Path
    histories: list[History]
    markdown: str
    unreadable: list[str]

    @property
    def drift(self) -> list[tuple[str, str]]:
        """(destination, sentence) of each large drift of a newest run."""
        return [
            (history.name, sentence)
            for history in self.histories
            if (drift := history.runs[-1][1].drift)
            for sentence in drift.alarms()
        ]

    def lines(self) -> list[str]:
        """Return the lines about the histories on the page."""
        lines = []
        for history in self.histories:
            newest = history.runs[-1][0]
            lines.append(f"{history.name:20} {len(history.runs):,} runs, the last {newest}")
            passed_over = passed_over_line(history.passed_over)
            lines += [f"{'':20} {text}" for text in passed_over]
            lines += [f"{'':20} drift: {text}" for name, text in self.drift if name == history.name]
        return [*lines, *passed_over_line(self.unreadable), f"page                 {self.page}"]


def monitor(request: MonitorRequest) -> MonitorPage:
    """Draw the history of a destination's runs, or of all destinations in a folder, as one page.

    Raises:
        InputMissingError: the folder holds no run.
    """
    folder = str(request.folder)
    histories, unreadable = read_histories(request.folder, request.last)
    page = request.folder / "monitor.html"
    write_bytes(page, history_page(histories, folder))
    return MonitorPage(page, histories, history_markdown(histories, folder), unreadable)
