import pytest
from benchmarks.page import PAGE, blocks, figures, fill


def test_the_page_says_what_the_figures_say():
    page = PAGE.read_text(encoding="utf-8")
    assert fill(page, blocks(figures())) == page


def test_only_what_stands_between_marks_is_replaced():
    page = "a\n<!-- one -->\nold\n<!-- end -->\nb\n<!-- two -->\n<!-- end -->\nc\n"
    assert fill(page, {"one": "new \\1", "two": "x"}) == (
        "a\n<!-- one -->\nnew \\1\n<!-- end -->\nb\n<!-- two -->\nx\n<!-- end -->\nc\n"
    )
    with pytest.raises(AssertionError, match="three"):
        fill(page, {"three": ""})
