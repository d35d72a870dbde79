"""The check of links inside the documentation finds those that lead nowhere, and no others."""

import importlib.util
from pathlib import Path

FILE = Path(__file__).parents[1] / "docs" / "check_links.py"


def test_links_that_lead_nowhere_are_found(tmp_path):
    spec = importlib.util.spec_from_file_location("check_links", FILE)
    check_links = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(check_links)
    (tmp_path / "guides").mkdir()
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "report.html").write_text("<a href='nowhere'>")  # pages of its own kind
    good = "<h1 id='a'>A</h1><a href='#a'/><a href='guides/one.html#b'/><img src='made/report.html'>"
    good += "<a href='https://example.org/gone'/><a href='guides/'/>"
    (tmp_path / "index.html").write_text(good)
    (tmp_path / "guides" / "index.html").write_text("<a href='../index.html#a'/>")
    (tmp_path / "guides" / "one.html").write_text("<p id='b'><a href='../index.html#c'/><a href='two.html'/>")
    assert check_links.broken(tmp_path) == ["guides/one.html: ../index.html#c", "guides/one.html: two.html"]
