"""What a page under AppTest shows of texts."""

import re
from html import unescape

from streamlit.testing.v1 import AppTest


def verbatim(app: AppTest) -> list[str]:
    """The texts that are shown as they are, from top to bottom."""
    return _of(app, "premem-text")


def titles(app: AppTest) -> list[str]:
    """What stands above them."""
    return _of(app, "premem-title")


def numbers(app: AppTest) -> list[str]:
    """The large numbers."""
    found = [element.body for element in app.get("html") if "premem-numbers" in element.body]
    return [unescape(each) for body in found for each in re.findall(r"<dd>(.*?)</dd>", body)]


def tables(app: AppTest) -> list[list[list[str]]]:
    """The cells of every small table, by rows, the head first."""
    found = [element.body for element in app.get("html") if "premem-table" in element.body]
    return [
        [
            [unescape(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
            for row in re.findall(r"<tr>(.*?)</tr>", table)
        ]
        for table in found
    ]


def _of(app: AppTest, name: str) -> list[str]:
    found = [
        text
        for element in app.get("html")
        for text in re.findall(rf'<div class="{name}"[^>]*>(.*?)</div>', element.body, re.DOTALL)
    ]
    return [unescape(re.sub(r"<[^>]*>", "", text)) for text in found]
