"""This checkout against another one: the same pages and the same scoring by both, in turn.

    python benchmarks/against.py ../before kang2024 --texts gsm8k --store /tmp/store

Pages: both dashboards run at once on one store; each page is opened, and its threshold moved, by
turns in one browser. Scoring: the command `score` on the demo's checkpoints, by turns. Printed are
the medians of both and their ratio, this checkout ÷ the other one: below 1 is faster.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from dashboard import ROOT, chromium, serve
from playwright.sync_api import Page
from published_store import build

from pages import CLOCK, PAGES, after, open_page  # type: ignore[attr-defined]

MOVED = ("curves", "fits", "map", "examples", "robustness")
DEMO = ROOT / "data" / "demo"


def by_turns(
    name: str, ours: Callable[[], float], others: Callable[[], float], rounds: int
) -> float:
    """Measure both by turns, after one round that does not count; the ratio of their medians."""
    ours(), others()
    pairs = []
    for number in range(rounds):
        # Who goes first changes: the second may profit from what the first has warmed.
        first, second = (ours, others) if number % 2 == 0 else (others, ours)
        a, b = first(), second()
        pairs.append((a, b) if number % 2 == 0 else (b, a))
    this, other = (statistics.median(side) for side in zip(*pairs, strict=True))
    print(f"{name:28}{this:9.3f}{other:9.3f} s{this / other:8.2f}", flush=True)
    return this / other


def compare_pages(page: Page, this: str, other: str, rounds: int) -> list[float]:
    """Ratios of warm navigations, and of moves of the threshold."""

    def opened(url: str) -> Callable[[], float]:
        return lambda: open_page(page, url)

    def moved(url: str) -> Callable[[], float]:
        def once() -> float:
            open_page(page, url)
            page.locator(".st-key-t input[type=range]").first.focus()
            seconds = [after(page, lambda: page.keyboard.press("ArrowLeft")) for _ in range(4)]
            return statistics.median(seconds)

        return once

    ratios = [
        by_turns(path or "overview", opened(f"{this}/{path}"), opened(f"{other}/{path}"), rounds)
        for path in PAGES
    ]
    return ratios + [
        by_turns(f"{path}: threshold", moved(f"{this}/{path}"), moved(f"{other}/{path}"), rounds)
        for path in MOVED
    ]


def compare_scoring(other: Path, rounds: int) -> float:
    """Ratio of the wall seconds of `score`."""

    def scored(checkout: Path) -> Callable[[], float]:
        def once() -> float:
            with tempfile.TemporaryDirectory(prefix="premem-") as folder:
                started = time.perf_counter()
                subprocess.run(
                    [
                        *(sys.executable, "-m", "premem_core", "score"),
                        *(next((DEMO / "runs").iterdir()), "--store", Path(folder) / "store"),
                        *("--train", DEMO / "train_1000.jsonl", "--train-sample", "150"),
                        *("--test", DEMO / "test.jsonl", "--backend", "hf", "--workers", "1"),
                        *("--samples", "2", "--max-new-tokens", "128"),
                    ],
                    cwd=checkout,
                    env=os.environ | {"PYTHONPATH": str(checkout)},
                    check=True,
                    capture_output=True,
                )
                return time.perf_counter() - started

        return once

    return by_turns("score", scored(ROOT), scored(other), rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path, help="a checkout of another commit")
    parser.add_argument("source", type=Path, help="the published runs")
    parser.add_argument("--texts", type=Path, required=True, help="with train.jsonl, test.jsonl")
    parser.add_argument("--store", type=Path, help="of the published size, made there if missing")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--scoring-rounds", type=int, default=3)
    given = parser.parse_args()
    other = given.other.resolve()
    with ExitStack() as stack:
        home = given.store or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "store"
        build(home, given.source, given.texts, False)
        this_url = stack.enter_context(serve(str(home)))
        other_url = stack.enter_context(serve(str(home), other, other / "serve.py"))
        window = stack.enter_context(chromium()).new_context(
            viewport={"width": 1440, "height": 1000}
        )
        window.add_init_script(f"(() => {{{CLOCK}}})()")
        print(f"{'':28}{'this':>9}{'other':>9}  {'ratio':>8}")
        ratios = compare_pages(window.new_page(), this_url, other_url, given.rounds)
    print(f"pages, geometric mean of the ratios: {statistics.geometric_mean(ratios):.3f}")
    compare_scoring(other, given.scoring_rounds)


if __name__ == "__main__":
    main()
