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


def _of(app: AppTest, name: str) -> list[str]:
    found = [
        text
        for element in app.get("html")
        for text in re.findall(rf'<div class="{name}"[^>]*>(.*?)</div>', element.body, re.DOTALL)
    ]
    return [unescape(re.sub(r"<[^>]*>", "", text)) for text in found]
