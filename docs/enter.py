"""Run by the first, hidden cell of pages in Python, as enter.sh in a shell: `%run ../enter.py NAME [run]`."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

script = Path(os.environ["RNNATLAS_PAGES"]) / "enter.sh"
subprocess.run(
    ["bash", "-c", '. "$0" "$@"; pwd', script, *sys.argv[1:]], check=True, stdout=subprocess.DEVNULL
)
os.chdir(Path(os.environ["RNNATLAS_MADE"]).parent / "work" / sys.argv[1])
warnings.simplefilter("ignore")
