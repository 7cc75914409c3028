"""What a page under AppTest shows of texts."""

import re
from html import unescape

from streamlit.testing.v1 import AppTest


def verbatim(app: AppTest) -> list[str]:
    """The texts that are shown as they are, from top to bottom."""
    bodies = [element.body for element in app.get("html")]
    return [unescape(re.sub(r"<[^>]*>", "", body)) for body in bodies if "premem-text" in body]
