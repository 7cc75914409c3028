"""Time that the dashboard's pages need in Chromium, on a store of the size of the published data.

python benchmarks/pages.py kang2024 --texts gsm8k

The store is that of published_store.py.

drawn: time of the page's last change before it neither changes nor exchanges data with its server
for QUIET ms. cold: first opening of the page on a new server, in the order of PAGES. warm: a new
navigation with full caches of browser and server. switch: a click in the sidebar. bare: a minimal
page (bare_page.py), in the same browser before and after, to show how fast the machine is.
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
    "verdict": ("Verdict", "run"),
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
MOST_SECONDS = 30  # after this time, two repetitions are enough
LIMIT_WARM, LIMIT_MOVE = 1.0, 300  # s, ms; LIMIT_WARM also for a click that opens another page
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
    // A table's canvas contains the text for screen readers, which is added later.
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
    """Bytes that were received since the counters were last reset."""

    socket: int = 0
    http: int = 0


@dataclass
class Times:
    """Times of one page, in seconds."""

    cold: float = 0
    warm: list[float] = field(default_factory=list)
    switch: list[float] = field(default_factory=list)


def watch(page: Page) -> Wire:
    """Count the bytes that a page receives."""
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
    """Seconds from the navigation, or from the first input after `clock.reset`, to drawn."""
    waited = page.wait_for_function(f"clock.drawn({QUIET})", timeout=120_000, polling=50)
    return float(waited.json_value()) / 1000


def open_page(page: Page, url: str) -> float:
    page.mouse.move(1000, 5)
    page.goto(url, wait_until="commit")
    return until_drawn(page)


def after(page: Page, act: Callable[[], object], url: str | None = None) -> float:
    """Seconds from the input of `act` to drawn, at an address that matches `url`."""
    page.evaluate("clock.reset()")
    act()
    if url:
        page.wait_for_url(re.compile(url), timeout=60_000)
    return until_drawn(page)


def switch(page: Page, title: str) -> float:
    link = page.get_by_test_id("stSidebarNav").get_by_role("link", name=title, exact=True)
    return after(page, link.click)


def unfinished(seconds: list[float], repetitions: int) -> bool:
    """Whether to measure again; at least twice."""
    return len(seconds) < 2 or (len(seconds) < repetitions and sum(seconds) < MOST_SECONDS)


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
        del times[path].switch[0]  # it is cold: its query parameters are not those above
    return times


def measure_wire(page: Page, addresses: dict[str, str]) -> dict[str, Wire]:
    """The bytes of a warm navigation. It is not timed, because counting takes about 0.1 s."""
    wire, wires = watch(page), {}
    for path, address in addresses.items():
        open_page(page, address)
        wire.socket = wire.http = 0
        open_page(page, address)
        wires[path] = replace(wire)
    return wires


def measure_moves(page: Page, addresses: dict[str, str]) -> dict[str, list[float]]:
    """Times of MOVES inputs of each kind, in seconds."""
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
    """Print the table of pages, and return what is over the limit."""
    columns = f"{'cold':>8}{'warm':>8}{'(max)':>8}{'switch':>8} s{'socket':>10}{'HTTP':>8} KB, warm"
    print(f"\n{'page':12}{columns}")
    over = []
    for path, page_times in times.items():
        name = path or "overview"
        warm, switched = map(statistics.median, (page_times.warm, page_times.switch))
        print(
            f"{name:12}{page_times.cold:8.2f}{warm:8.2f}{max(page_times.warm):8.2f}{switched:8.2f}"
            f"{wires[path].socket / 1024:12,.0f}{wires[path].http / 1024:8,.0f}",
            flush=True,
        )
        for kind, seconds in (("warm", warm), ("switch", switched)):
            if seconds > LIMIT_WARM:
                over.append(f"{name}: {seconds:.2f} s {kind}, limit {LIMIT_WARM} s")
    return over


def print_moves(moves: dict[str, list[float]]) -> list[str]:
    """Print the table of inputs, and return what is over the limit."""
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
    options = parser.parse_args()
    with ExitStack() as stack:
        home = options.store or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "store"
        started = time.perf_counter()
        run = build(home, options.source, options.texts, options.fewest_samples)
        print(f"store: {time.perf_counter() - started:.0f} s, {run} with completions", flush=True)
        if options.build_only:
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
