"""Checks that links inside the built documentation lead somewhere: `python docs/check_links.py SITE`."""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The places and the links of a page."""

    def __init__(self, path: Path):
        super().__init__()
        self.places: set[str] = {"", "top"}
        self.links: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keeps ids, names, and what is linked or shown."""
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.places.add(value)
            elif name in ("href", "src") and value:
                self.links.add(value)


def broken(site: Path) -> list[str]:
    """Links of pages to files or places of the site that are not there."""
    made = site / "made"  # reports and maps, which have scripts of their own
    pages = {path: Page(path) for path in sorted(site.rglob("*.html")) if made not in path.parents}
    found = []
    for path, page in pages.items():
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path.resolve()
            target = target / "index.html" if target.is_dir() else target
            place = unquote(parts.fragment)
            known = next((each for each in pages if each.resolve() == target), None)
            if not target.exists() or (known and place not in pages[known].places):
                found.append(f"{path.relative_to(site)}: {link}")
    return found


if __name__ == "__main__":
    if lines := broken(Path(sys.argv[1])):
        sys.exit("links that lead nowhere:\n" + "\n".join(lines))
