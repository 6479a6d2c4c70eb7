"""Pages in a browser: none scrolls sideways, from a telephone to a wide screen, and on a telephone
no table does but a confusion matrix."""

import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from flat import monitor, score

from charrnn.model.version import resolve
from charrnn.reports.model import model_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
WIDTHS = (390, 600, 1000, 1600)  # CSS pixels
# Adds the width of a page, and the number of its tables that are wider than their boxes.
SCROLLED = """
const page = this.contentDocument, boxes = [...page.querySelectorAll('figure.table')];
const wide = boxes.filter(b => b.scrollWidth > b.clientWidth + 1 && !b.querySelector('.matrix'));
document.title += page.documentElement.scrollWidth + ':' + wide.length + ';';
"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_no_page_scrolls_sideways(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("people.csv").write_text("id,name\n1,Katoro\n2,Burghof\n3,\n4,Катя\n")
    run = Path(score("people.csv", model="v0001", models=str(models), workers=1))
    pages = {
        "model": model_report(resolve("pretrained", models)),
        "run": (run / "report.html").read_bytes(),
        "index": Path(monitor()).read_bytes(),
    }
    for name, page in pages.items():
        frames = [
            f'<iframe width="{width}" height="900" srcdoc="{html.escape(page.decode())}" '
            f'onload="{html.escape(SCROLLED)}"></iframe>'
            for width in WIDTHS
        ]
        Path("frames.html").write_text(f"<title></title>{''.join(frames)}")
        done = subprocess.run(
            [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
             "--virtual-time-budget=20000", "--dump-dom", str(tmp_path / "frames.html")],
            capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip
        title = re.findall(r"<title>([0-9;:]*)</title>", done.stdout)[0]
        found = sorted(tuple(map(int, part.split(":"))) for part in title.split(";")[:-1])
        assert [width for width, _ in found] == list(WIDTHS), name
        assert found[0][1] == 0, name
