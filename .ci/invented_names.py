"""Write a folder of three invented language files: python invented_names.py FOLDER"""

import sys
from itertools import product
from pathlib import Path

SYLLABLES = {"Alpha": "ka ro mi ta shi", "Beta": "stein burg mann hof acht", "Gamma": "ev iy nko"}

folder = Path(sys.argv[1])
folder.mkdir()
for label, syllables in SYLLABLES.items():
    names = ["".join(name).capitalize() for name in product(syllables.split(), repeat=3)]
    (folder / f"{label}.txt").write_text("\n".join(names) + "\n")
