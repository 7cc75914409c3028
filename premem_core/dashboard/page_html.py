"""The HTML that a page's address answers with: Streamlit's own, told where its server is.

By itself Streamlit 1.67 looks for its server below the page's address first, and waits after it
found none there: a tenth of a second of every page that a link opens.
"""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

# The server is where the same HTML has its scripts from, "./static/".
SERVER = '<script>window.__streamlit = {BACKEND_BASE_URL: new URL(".", location).href}</script>'


def page_routes(pages: Path, index_html: Path, base_url_path: str = "") -> list[Route]:
    """A route for every page.

    Args:
        pages: the folder of the pages.
        index_html: Streamlit's own.
        base_url_path: Streamlit's option.
    """
    base = base_url_path.strip("/")
    html = index_html.read_text(encoding="utf-8").replace("<head>", f"<head>{SERVER}", 1)

    async def answer(_: Request) -> Response:
        return HTMLResponse(html, headers={"Cache-Control": "no-cache"})

    paths = sorted(page.stem for page in pages.glob("*.py"))
    return [Route(f"/{base}/{path}" if base else f"/{path}", answer) for path in paths]
