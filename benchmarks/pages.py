"""How long the dashboard's pages take in Chromium, on a store of the published size.

python benchmarks/pages.py kang2024 --texts gsm8k

The store is that of published_store.py.

Drawn: the last change of the page before it was still, neither asking its server nor hearing from
it, for QUIET ms. Cold: this page's first opening on a fresh server, in the order of PAGES. Warm: a
fresh navigation with browser and server caches full. Switch: a click in the sidebar. Bare: a page
with one slider and one number (bare_page.py), in the same browser before and after: what this
machine takes for the least.
"""

import argparse
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import Page

sys.path.insert(0, str(Path(__file__).parents[1]))

from dashboard import ROOT, chromium, serve
from published_store import build

PAGES = {  # path: title in the sidebar, query parameter that names the run
    "": ("Overview", None),
    "score": ("Score a run", None),
    "curves": ("Memorization curves", None),
    "fits": ("R² fits", None),
    "map": ("Memorization map", "run"),
    "examples": ("Examples", "run"),
    "example": ("One example", "run"),
    "robustness": ("Robustness", "run"),
    "compare": ("Compare", "run_a"),
    "grades": ("Grades", "run"),
}
WARM, MOVES, QUIET = 5, 20, 300
PATIENCE = 30  # s in which fewer repetitions are enough
LIMIT_WARM, LIMIT_MOVE = 1.0, 300  # s, ms; a click that opens another page has the page's
WORDS = ["apples", "books", "half", "twice", "week", "money", "total", "sold", "left", "each"]
CLOCK = """
    const clock = window.clock = {start: 0, sent: -1, heard: -1, changed: -1}
    clock.reset = () => Object.assign(clock, {start: null, sent: -1, heard: -1, changed: -1})
    for (const kind of ['pointerdown', 'keydown'])
        addEventListener(kind, e => clock.start ??= e.timeStamp, true)
    window.WebSocket = class extends WebSocket {
        constructor(...all) {
            super(...all)
            this.addEventListener('message', () => clock.heard = performance.now())
        }
        send(content) { clock.sent = performance.now(); super.send(content) }
    }
    // Inside a table's canvas stands what a screen reader reads, which comes later.
    const seen = node => (node.closest ? node : node.parentElement)
        ?.closest('[data-testid=stMain], [data-testid=stSidebar], canvas')?.dataset.testid
        .startsWith('st')
    new MutationObserver(changes => {
        if (changes.some(c => seen(c.target))) clock.changed = performance.now()
    }).observe(document, {subtree: true, childList: true, attributes: true, characterData: true})
    const canvas = CanvasRenderingContext2D.prototype, write = canvas.fillText
    canvas.fillText = function (...all) {
        clock.changed = performance.now()
        write.apply(this, all)
    }
    clock.drawn = quiet => {
        const app = document.querySelector('[data-testid=stApp]')
        const charts = [...document.querySelectorAll('.js-plotly-plot')]
        const done = app?.dataset.testScriptState === 'notRunning'
            && clock.start !== null && clock.sent >= clock.start && clock.heard > clock.sent
            && !document.querySelector('[data-testid=stSkeleton]')
            && charts.every(chart => chart.querySelector('.main-svg'))
        const still = performance.now() - Math.max(clock.heard, clock.changed) > quiet
        return done && still ? clock.changed - clock.start : null
    }
"""


@dataclass
class Wire:
    """Bytes that came since they were last counted."""

    socket: int = 0
    http: int = 0


@dataclass
class Times:
    """What was measured of a page; seconds."""

    cold: float = 0
    warm: list[float] = field(default_factory=list)
    switch: list[float] = field(default_factory=list)


def watch(page: Page) -> Wire:
    """Count the bytes that come to a page."""
    wire = Wire()

    def over_socket(content: str | bytes) -> None:
        wire.socket += len(content)

    def over_http(event: dict[str, float]) -> None:
        wire.http += int(event["encodedDataLength"])

    page.on("websocket", lambda opened: opened.on("framereceived", over_socket))
    protocol = page.context.new_cdp_session(page)
    protocol.send("Network.enable")
    protocol.on("Network.loadingFinished", over_http)
    return wire


def until_drawn(page: Page) -> float:
    """Seconds from navigation, or from the input since `clock.reset`, to drawn."""
    waited = page.wait_for_function(f"clock.drawn({QUIET})", timeout=120_000, polling=50)
    return float(waited.json_value()) / 1000


def open_page(page: Page, url: str) -> float:
    page.mouse.move(1000, 5)
    page.goto(url, wait_until="commit")
    return until_drawn(page)


def after(page: Page, act: Callable[[], object], url: str | None = None) -> float:
    """Seconds from what `act` puts in to drawn, at an address that matches `url`."""
    page.evaluate("clock.reset()")
    act()
    if url:
        page.wait_for_url(re.compile(url), timeout=60_000)
    return until_drawn(page)


def switch(page: Page, title: str) -> float:
    link = page.get_by_test_id("stSidebarNav").get_by_role("link", name=title, exact=True)
    return after(page, link.click)


def unfinished(seconds: list[float], wanted: int) -> bool:
    """Whether to measure again; twice at least."""
    return len(seconds) < 2 or (len(seconds) < wanted and sum(seconds) < PATIENCE)


def measure_pages(page: Page, addresses: dict[str, str]) -> dict[str, Times]:
    times = {path: Times() for path in PAGES}
    for path, address in addresses.items():
        times[path].cold = open_page(page, address)
    for path, address in addresses.items():
        open_page(page, address)
        while unfinished(times[path].warm, WARM):
            times[path].warm.append(open_page(page, address))
    for path, (title, _) in PAGES.items():
        while unfinished(times[path].switch, WARM + 1):
            switch(page, PAGES["" if path else "curves"][0])
            times[path].switch.append(switch(page, title))
        del times[path].switch[0]  # of other parameters than those above, and cold
    return times


def measure_wire(page: Page, addresses: dict[str, str]) -> dict[str, Wire]:
    """The bytes of a warm navigation; not timed, for to watch them takes a tenth of a second."""
    wire, told = watch(page), {}
    for path, address in addresses.items():
        open_page(page, address)
        wire.socket = wire.http = 0
        open_page(page, address)
        told[path] = replace(wire)
    return told


def measure_moves(page: Page, addresses: dict[str, str]) -> dict[str, list[float]]:
    """Seconds of MOVES inputs of each kind."""
    moves: dict[str, list[float]] = {}

    def repeat(name: str, once: Callable[[int], float]) -> None:
        seconds = moves[name] = []
        while unfinished(seconds, MOVES):
            seconds.append(once(len(seconds)))

    def slide(key: str, press: str) -> Callable[[int], float]:
        def once(_: int) -> float:
            page.locator(f".st-key-{key} input[type=range]").first.focus()
            return after(page, lambda: page.keyboard.press(press))

        return once

    def search(move: int) -> float:
        box = page.get_by_role("textbox", name="Search")
        box.fill(WORDS[move % len(WORDS)])
        return after(page, lambda: box.press("Enter"))

    def click(path: str, what: str, right: float, down: float, to: str) -> float:
        open_page(page, addresses[path])
        box = page.locator(what).first.bounding_box()
        assert box is not None
        x, y = (box["x"] + right * (box["width"] if right < 1 else 1), box["y"] + down)
        return after(page, lambda: page.mouse.click(x, y), rf"/{to}\?")

    for path in ("curves", "fits", "map", "examples", "robustness"):
        open_page(page, addresses[path])
        repeat(f"{path}: threshold", slide("t", "ArrowLeft"))
    open_page(page, addresses["examples"])
    repeat("examples: PM filter", slide("pm", "ArrowRight"))
    open_page(page, addresses["examples"])
    repeat("examples: search", search)
    chart, table = ".st-key-chart-map .nsewdrag", "[data-testid=stDataFrame]"
    repeat(
        "map: cell to examples",
        lambda move: click("map", chart, (move + 1) / (MOVES + 1), 100, "examples"),
    )
    repeat(
        "examples: row to example",
        lambda move: click("examples", table, 18, 52 + 35 * (move % 10), "example"),
    )
    open_page(page, addresses["example"])
    repeat("example: next", lambda _: after(page, lambda: page.keyboard.press("ArrowRight")))
    return moves


def measure_bare(page: Page) -> tuple[float, float]:
    """Median seconds of a warm navigation and of a slider's move on a bare page."""
    with serve("", script=ROOT / "benchmarks" / "bare_page.py") as url:
        opened = [open_page(page, url) for _ in range(WARM + 1)][1:]

        def once() -> float:
            page.get_by_role("slider").focus()
            return after(page, lambda: page.keyboard.press("ArrowLeft"))

        moved = [once() for _ in range(MOVES)]
    return statistics.median(opened), statistics.median(moved)


def print_bare(when: str, bare: tuple[float, float]) -> None:
    print(f"\nbare page {when}: warm {bare[0]:.2f} s, slider {1000 * bare[1]:.0f} ms", flush=True)


def print_pages(times: dict[str, Times], wires: dict[str, Wire]) -> list[str]:
    """The table of pages; what is over the limit."""
    columns = f"{'cold':>8}{'warm':>8}{'(max)':>8}{'switch':>8} s{'socket':>10}{'HTTP':>8} KB, warm"
    print(f"\n{'page':12}{columns}")
    over = []
    for path, own in times.items():
        name, warm, moved = path or "overview", *map(statistics.median, (own.warm, own.switch))
        print(
            f"{name:12}{own.cold:8.2f}{warm:8.2f}{max(own.warm):8.2f}{moved:8.2f}"
            f"{wires[path].socket / 1024:12,.0f}{wires[path].http / 1024:8,.0f}",
            flush=True,
        )
        for kind, seconds in (("warm", warm), ("switch", moved)):
            if seconds > LIMIT_WARM:
                over.append(f"{name}: {seconds:.2f} s {kind}, limit {LIMIT_WARM} s")
    return over


def print_moves(moves: dict[str, list[float]]) -> list[str]:
    """The table of inputs; what is over the limit."""
    print(f"\n{'input to drawn':28}{'median':>8}{'max':>8} ms{'times':>8}")
    over = []
    for name, seconds in moves.items():
        middle = 1000 * statistics.median(seconds)
        print(f"{name:28}{middle:8.0f}{1000 * max(seconds):8.0f}   {len(seconds):8}")
        limit = 1000 * LIMIT_WARM if " to " in name else LIMIT_MOVE
        if middle > limit:
            over.append(f"{name}: {middle:.0f} ms, limit {limit:.0f} ms")
    return over


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="the published runs")
    parser.add_argument("--texts", type=Path, required=True, help="with train.jsonl, test.jsonl")
    parser.add_argument(
        "--store", type=Path, help="made there, or used again; by default temporary"
    )
    parser.add_argument("--fewest-samples", action="store_true", help="5 per problem, not 50")
    parser.add_argument("--build-only", action="store_true")
    asked = parser.parse_args()
    with ExitStack() as stack:
        home = asked.store or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "store"
        started = time.perf_counter()
        run = build(home, asked.source, asked.texts, asked.fewest_samples)
        print(f"store: {time.perf_counter() - started:.0f} s, {run} with completions", flush=True)
        if asked.build_only:
            return
        url = stack.enter_context(serve(str(home)))
        addresses = {
            path: f"{url}/{path}" + (f"?{urlencode({key: run})}" if key else "")
            for path, (_, key) in PAGES.items()
        }
        browser = stack.enter_context(chromium())
        window = browser.new_context(viewport={"width": 1440, "height": 1000})
        window.add_init_script(f"(() => {{{CLOCK}}})()")
        page = window.new_page()
        print_bare("before", measure_bare(page))
        times = measure_pages(page, addresses)
        with window.new_page() as watched:
            wires = measure_wire(watched, addresses)
        over = print_pages(times, wires)
        over += print_moves(measure_moves(page, addresses))
        print_bare("after", measure_bare(page))
    print(f"\nLoad of the machine at the end: {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores")
    print("Over the limits:", *(over or ["nothing"]), sep="\n  ")


if __name__ == "__main__":
    main()
