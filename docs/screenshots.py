"""Pictures of what `make docs` made, for the gallery: `python docs/screenshots.py [NAME…]`.

Needs Chromium. Pictures are kept in docs/images, so the documentation builds without it.
"""

import base64
import shutil
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))

from tests.report.browser import browsing  # noqa: E402

WHOLE = "0"
PAGES = {
    "start": ("start/report.html", 1000, 900, WHOLE),
    "lab": ("lab/report.html", 1000, 900, WHOLE),
    "languages": ("languages/map.html", 1200, 760, WHOLE),
    "digits": ("digits/map.html", 1200, 760, WHOLE),
}
"""Name → file, width, height, and where on the page the picture begins (JavaScript)."""


def take(chromium: str, names: list[str]) -> None:
    """Writes docs/images/gallery-NAME.png of each."""
    with tempfile.TemporaryDirectory() as profile, browsing(chromium, Path(profile)) as page:
        for name in names:
            file, width, height, top = PAGES[name]
            path = DOCS / "_build" / "made" / file
            page.open(path, width)
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
            page.call("Emulation.setDeviceMetricsOverride", **size)
            page.value(f"scrollTo(0, {top})")
            page.value("new Promise(done => setTimeout(done, 5000))")  # points move to their places
            shot = page.call("Page.captureScreenshot")
            (DOCS / "images" / f"gallery-{name}.png").write_bytes(base64.b64decode(shot["data"]))


if __name__ == "__main__":
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        sys.exit("expected chromium or google-chrome on PATH, found neither; install one")
    take(browser, sys.argv[1:] or list(PAGES))
