"""Waiting in a browser for what is there, never for a time."""

import re
import time
from collections.abc import Callable

from playwright.sync_api import BrowserContext, Page, WebSocketRoute
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

PATIENCE = 60  # seconds
QUIET = 300  # milliseconds without a message or a change, after which a page is settled

# When the page last sent something to its server, heard from it, and changed.
_CLOCK = """
    const clock = window.settling = {sent: -1, heard: -1, changed: -1}
    window.WebSocket = class extends WebSocket {
        constructor(...all) {
            super(...all)
            this.addEventListener('message', () => clock.heard = performance.now())
        }
        send(content) {
            clock.sent = performance.now()
            super.send(content)
        }
    }
    new MutationObserver(() => clock.changed = performance.now()).observe(
        document, {subtree: true, childList: true, attributes: true, characterData: true})
"""
_SETTLED = """
    quiet => {
        const {sent, heard, changed} = window.settling
        const charts = [...document.querySelectorAll('[data-testid=stPlotlyChart]')]
        return document.querySelector('[data-testid=stApp][data-test-script-state=notRunning]')
            && !document.querySelector('[data-testid=stSkeleton]')
            && charts.every(chart => chart.querySelector('.main-svg'))
            && document.getAnimations().every(animation => animation.playState !== 'running')
            && heard >= sent
            && performance.now() - Math.max(heard, changed) > quiet
    }
"""


def new_page(context: BrowserContext, height: int = 1100) -> Page:
    """A page for `until_settled`, 1440 pixels wide."""
    page = context.new_page()
    page.set_viewport_size({"width": 1440, "height": height})
    page.add_init_script(f"(() => {{{_CLOCK}}})()")
    return page


def until_settled(page: Page, quiet: int = QUIET) -> None:
    """Wait until a page is drawn: its server has answered, and nothing has changed since.

    Args:
        quiet: for how many milliseconds nothing has.
    """
    page.wait_for_function(_SETTLED, arg=quiet, polling=50, timeout=1000 * PATIENCE)


def send(page: Page, act: Callable[[], object]) -> None:
    """Do what makes a page send something to its server, and wait until the page is drawn.

    A table sends a ticked row a moment after the click: until then a page looks settled.
    """
    before = page.evaluate("window.settling.sent")
    act()
    page.wait_for_function(
        "before => window.settling.sent > before", arg=before, timeout=1000 * PATIENCE
    )
    until_settled(page)


def until(page: Page, condition: Callable[[], object]) -> None:
    """Wait for what the test's own process sees, while the page goes on."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE} s in vain"
        page.evaluate("() => new Promise(requestAnimationFrame)")  # handlers run meanwhile


class HeldMessages:
    """What a page's server sends, held back from a certain message on; make it before `goto`."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._after: bytes | None = None
        self._held: list[tuple[WebSocketRoute, str | bytes]] | None = None
        page.route_web_socket(re.compile("/_stcore/stream"), self._connect)

    def begin_after(self, text: str) -> None:
        """Let messages pass until one has this text; it is the last."""
        self._after = text.encode()

    def begin(self) -> None:
        """Let no further message pass."""
        self._held = []

    def until_drawn(self, times: int) -> None:
        """Wait until the server has finished drawing so many times since it is held back."""
        until(self._page, lambda: self._drawn() >= times)

    def release(self) -> None:
        """Let pass what was held back, and what comes."""
        late, self._held, self._after = self._held or [], None, None
        for browser, message in late:
            browser.send(message)

    def _drawn(self) -> int:
        messages = [message for _, message in self._held or [] if isinstance(message, bytes)]
        kinds = [ForwardMsg.FromString(message).WhichOneof("type") for message in messages]
        return kinds.count("script_finished")

    def _connect(self, browser: WebSocketRoute) -> None:
        server = browser.connect_to_server()
        server.on_message(lambda message: self._deliver(browser, message))

    def _deliver(self, browser: WebSocketRoute, message: str | bytes) -> None:
        if self._held is not None:
            self._held.append((browser, message))
            return
        browser.send(message)
        if self._after is not None and isinstance(message, bytes) and self._after in message:
            self._held = []
