"""What a page under AppTest shows of texts."""

import re
from html import unescape

from streamlit.testing.v1 import AppTest

from premem_core.dashboard import cached_reads
from tests.helpers.paths import PAGES


def show(page, store, monkeypatch, **query) -> AppTest:
    """A page of this store at an address that asks for `query`; it must raise nothing."""
    monkeypatch.setenv("PREMEM_STORE", str(store))
    cached_reads.store.clear()  # all other caches have the store's path and version in their keys
    app = AppTest.from_file(str(PAGES / page), default_timeout=60)
    for name, value in query.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception
    return app


def text(app: AppTest) -> str:
    return " ".join(element.value for element in [*app.markdown, *app.caption, *app.warning])


def seen(app: AppTest) -> str:
    """The text as a reader sees it: what is escaped for Markdown stands for itself."""
    return _unescaped(text(app))


def errors(app: AppTest) -> str:
    """The errors as a reader sees them."""
    return _unescaped(" ".join(error.value for error in app.error))


def verbatim(app: AppTest) -> list[str]:
    """The texts that are shown as they are, from top to bottom."""
    return _of(app, "premem-text")


def titles(app: AppTest) -> list[str]:
    """What stands above them."""
    return _of(app, "premem-title")


def numbers(app: AppTest) -> list[str]:
    """The large numbers."""
    found = [html for html in _html(app) if "premem-numbers" in html]
    return [unescape(each) for html in found for each in re.findall(r"<dd>(.*?)</dd>", html)]


def tables(app: AppTest) -> list[list[list[str]]]:
    """The cells of every small table, by rows, the head first."""
    found = [html for html in _html(app) if "premem-table" in html]
    return [
        [
            [unescape(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
            for row in re.findall(r"<tr>(.*?)</tr>", table)
        ]
        for table in found
    ]


def _unescaped(markdown: str) -> str:
    return re.sub(r"\\([^\w\s]|_)", r"\1", markdown)


def _html(app: AppTest) -> list[str]:
    return [element.body for element in app.get("html")]  # type: ignore[union-attr]


def _of(app: AppTest, name: str) -> list[str]:
    found = [
        text
        for html in _html(app)
        for text in re.findall(rf'<div class="{name}"[^>]*>(.*?)</div>', html, re.DOTALL)
    ]
    return [unescape(re.sub(r"<[^>]*>", "", text)) for text in found]
