"""Elements of pages: tables, numbers and texts as HTML, whatever stands in them."""

from collections.abc import Callable

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from premem_core.analysis.copied_text import Passage
from premem_core.dashboard import elements
from tests.helpers.shown import numbers, tables, verbatim

NASTY = '<b>&amp; "x" $y$ *z*</b>\n  [link](a)'


@pytest.fixture
def html(monkeypatch) -> list[str]:
    """What the elements draw."""
    drawn: list[str] = []
    monkeypatch.setattr(elements.st, "html", drawn.append)
    return drawn


def test_a_table_cuts_long_texts_and_nothing_else():
    rows = pd.DataFrame({"question": ["x" * 100, "y" * 101], "id": ["i" * 200, "j"], "n": [1, 2]})
    table = elements.table_of(rows, ["question", "id"])
    assert table["question"].tolist() == ["x" * 100, "y" * 99 + "…"]
    assert table["id"].tolist() == ["i" * 200, "j"]
    assert rows["question"].tolist()[1] == "y" * 101  # the rows stay as they were


def test_a_small_table_shows_its_cells_verbatim_and_its_numbers_as_they_are_to_be_written(html):
    rows = pd.DataFrame({"name": [NASTY, "b"], "share": [0.5, 0.25]})
    elements.small_table(
        rows, {"name": "Na<me", "share": ("Share", "{:.0%}".format)}, alt="two rows"
    )
    [table] = html
    assert table.count("premem-number") == 3
    assert "<b>" not in table
    assert 'aria-label="two rows"' in table
    assert "50%" in table


def test_texts_are_shown_character_by_character_with_their_passages_marked(html):
    elements.passages([("A <title>", [Passage("copied", True), Passage(NASTY, False)])])
    [shown] = html
    assert "<mark>copied</mark>" in shown
    assert "<b>" not in shown
    assert "A &lt;title&gt;" in shown
    elements.passages([("t", [Passage("copied", True), Passage("own", False)])], mark=False)
    assert "<mark>own</mark>" in html[1]
    elements.passages([])
    assert len(html) == 2


def draw_nasty_texts() -> None:
    from premem_core.dashboard import elements
    from tests.dashboard.test_elements import NASTY

    elements.verbatim(("one", NASTY), ("other", "2 < 3"))
    elements.numbers(("Title", NASTY.partition("\n")[0], "a note"), ("Other", "5 %", ""))


def test_a_page_shows_the_texts_and_numbers_that_it_was_given():
    app = AppTest.from_function(draw_nasty_texts).run()
    assert not app.exception
    assert verbatim(app) == [NASTY, "2 < 3"]
    assert numbers(app) == [NASTY.partition("\n")[0], "5 %"]
    assert tables(app) == []


def test_a_download_is_written_when_it_is_clicked(monkeypatch):
    made: dict[str, Callable[[], bytes]] = {}
    monkeypatch.setattr(
        elements.st,
        "download_button",
        lambda label, content, **options: made.update(content=content),
    )
    written = []
    elements.download_file("Get", "a.txt", lambda file: written.append(file.write_text("é")))
    assert written == []
    assert made["content"]() == "é".encode()
