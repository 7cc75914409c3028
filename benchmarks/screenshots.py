"""Take pictures of the dashboard's pages on the demo study, for the documentation.

python benchmarks/screenshots.py [page …] writes docs/screenshots/<page>-light-1440.png. With
--theme dark or --width 800, the file name says so.
"""

import argparse
import io
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlencode

from dashboard import ROOT, chromium, serve
from PIL import Image
from playwright.sync_api import Browser

sys.path.insert(0, str(ROOT))

from premem_core.demo import demo_study
from premem_core.grading import hand_grades, regrade
from premem_core.records import Grade, SampleKey
from premem_core.store.completions import read_completions
from premem_core.store.database import Store
from premem_core.store.examples import read_task_examples

RUN = demo_study.SETTINGS[demo_study.SHIPPED_RUN]
LONGEST = "lr3e-3_ep24_n500"
STEP = 384
FORM = {
    "folder": f"data/demo/runs/{RUN.name}",
    "train": f"data/demo/train_{RUN.problems}.jsonl",
    "test": "data/demo/test.jsonl",
}
CHOICE = {
    "runs": LONGEST,
    "strategies": ["low pre-memorization accuracy", "high perplexity"],
    "gates": ["suspected wrong labels", "exact and near duplicates"],
    "gate-labels": "0.3",
}
PAGES = {
    "overview": "",
    "score": f"score?{urlencode(FORM)}",
    "verdict": "verdict",
    "curves": "curves",
    "fits": "fits",
    "map": "map",
    "examples": "examples",
    "example": "example",  # `prepare` replaces it by an example with a grade set by hand
    "robustness": "robustness",
    "compare": "compare",
    "grades": f"grades?{urlencode({'against': 'paper', 'run': LONGEST})}",
    "curate": f"curate?{urlencode(CHOICE, doseq=True)}",
}
DRAWN = """
    () => document.querySelector('[data-testid=stApp][data-test-script-state=notRunning]')
        && [...document.querySelectorAll('[data-testid=stPlotlyChart]')].every(
            chart => chart.querySelector('.main-svg'))
"""


def prepare(folder: Path) -> None:
    """Make the demo study, with grades of a second grader and a grade set by hand."""
    demo_study.install(folder / "store")
    home = Store(folder / "store")
    regrade.grade_in_process(home, LONGEST, "paper", lambda done, total: None)
    drawn = read_completions(home, LONGEST, STEP, "train")
    row = drawn[drawn["grade"] == Grade.INCORRECT].iloc[0]
    key = SampleKey(STEP, "train", "", int(row["example"]), int(row["sample"]))
    hand_grades.set_grade(home, LONGEST, key, Grade.CORRECT, "it says so in words", who="kim")
    problem = read_task_examples(home, "demo", "train").set_index("example")["id"][row["example"]]
    PAGES["example"] = f"example?{urlencode({'example': problem, 'at': STEP, 'run': LONGEST})}"
    for name in (".streamlit", "data"):
        (folder / name).symlink_to(ROOT / name)


def take(browser: Browser, address: str, theme: str, width: int, file: Path) -> None:
    """Write a picture of a whole page, as a PNG with at most 256 colours."""
    context = browser.new_context(
        color_scheme="dark" if theme == "dark" else "light",
        viewport={"width": width, "height": 900},
    )
    page = context.new_page()
    page.goto(address)
    height = 900
    for _ in range(2):  # a taller window may lay out more
        page.wait_for_function(DRAWN, timeout=60_000)
        page.wait_for_timeout(1200)
        content = page.get_by_test_id("stMainBlockContainer").bounding_box()
        height = max(900, round(content["height"]) if content else 0)
        page.set_viewport_size({"width": width, "height": height})
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    # This method also keeps the colours of thin lines, which cover few pixels.
    few = picture.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=4, dither=Image.Dither.NONE)
    few.save(file, optimize=True)
    context.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pages", nargs="*", metavar="page", help="default: all")
    parser.add_argument("--theme", choices=("light", "dark"), default="light")
    parser.add_argument("--width", type=int, default=1440, help="pixels")
    options = parser.parse_args()
    out = ROOT / "docs" / "screenshots"
    out.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        prepare(Path(folder))
        with serve("store", Path(folder)) as url:
            for name in options.pages or PAGES:
                file = out / f"{name}-{options.theme}-{options.width}.png"
                take(browser, f"{url}/{PAGES[name]}", options.theme, options.width, file)
                print(file.relative_to(ROOT), f"{file.stat().st_size // 1024} KB")


if __name__ == "__main__":
    main()
