"""Every page under axe-core, in both themes: nothing that keeps a reader out."""

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from premem_core.demo import demo_study
from premem_core.grading import regrade, run_graders
from premem_core.models import checkpoints
from premem_core.problems import examples
from premem_core.scoring import jobs
from premem_core.scoring.progress import CheckpointProgress, Progress, write_progress
from premem_core.scoring.spec import ScoringSpec
from premem_core.store.database import Store
from tests.browser.waiting import new_page, until_settled
from tests.helpers.paths import ROOT

RUN = demo_study.SETTINGS[demo_study.SHIPPED_RUN]
FILLED = {
    "folder": demo_study.SHIPPED / "runs" / RUN.name,
    "train": demo_study.SHIPPED / f"train_{RUN.problems}.jsonl",
    "test": demo_study.SHIPPED / "test.jsonl",
}
ADDRESSES = {
    "overview": "",
    "score": f"score?{urlencode(FILLED)}",
    "verdict": "verdict",
    "curves": "curves",
    "fits": "fits",
    "map": "map",
    "examples": "examples",
    "example": "example",
    "robustness": "robustness",
    "compare": "compare",
    "grades to be made": "grades",
    "grades": "grades?against=paper",
    "curate": "curate?gates=exact+and+near+duplicates&strategies=low+pre-memorization+accuracy"
    "&strategies=high+perplexity",
}
# axe measures no contrast of what is scrolled out of sight.
HEIGHT = 5000
OPEN_EXPANDERS = """
    document.querySelectorAll('[data-testid=stExpander] details:not([open]) > summary').forEach(
        summary => summary.click())
"""


@pytest.fixture(scope="module")
def url(start_streamlit: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> str:
    store = tmp_path_factory.mktemp("accessibility") / "store"
    demo_study.install(store)
    home = Store(store)
    first = run_graders.regradable_runs(home)[0]
    regrade.grade_in_process(home, first, "paper", lambda done, total: None)
    add_failed_job(home)
    return str(start_streamlit(ROOT / "serve.py", PREMEM_STORE=str(store)).url)


def add_failed_job(home: Store) -> None:
    """The job whose panel shows the most: reasons, what its process printed, all buttons."""
    train = examples.read_examples(FILLED["train"]).examples[:4]
    run = checkpoints.read_run(FILLED["folder"])
    folder = jobs.create_job(home, ScoringSpec("failed", "gsm8k"), run, "sums", train, ())
    rows = (
        CheckpointProgress(run.checkpoints[0].step, "scored", 20, 20),
        CheckpointProgress(run.checkpoints[1].step, "failed", 4, 20, "it is not whole"),
    )
    write_progress(folder.state, Progress("failed", "failed", 24, 40, checkpoints=rows))


@pytest.fixture(scope="module", params=["light", "dark"])
def page(chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    with chromium.new_context(color_scheme=request.param) as context:
        yield new_page(context, height=HEIGHT)


def wait_until_drawn(page: Page) -> None:
    heading = page.get_by_test_id("stMain").get_by_role("heading", level=2).first
    expect(heading).to_be_visible(timeout=60_000)
    until_settled(page)


def barriers(page: Page, where: str) -> list[str]:
    """The serious and critical findings of axe-core, a paragraph each."""
    found = Axe().run(page).response["violations"]
    return [
        f"{where}: {rule['id']} ({rule['impact']}): {rule['help']}. {len(rule['nodes'])} such, "
        f"first\n    {' '.join(rule['nodes'][0]['html'].split())[:300]}\n    "
        + rule["nodes"][0]["failureSummary"].replace("\n", "\n    ")
        for rule in found
        if rule["impact"] in ("serious", "critical")
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", ADDRESSES)
def test_axe_finds_nothing_serious_on_any_page_or_in_its_popovers(page, url, name, request):
    where = request.node.callspec.id
    page.goto(f"{url}/{ADDRESSES[name]}")
    wait_until_drawn(page)
    page.evaluate(OPEN_EXPANDERS)
    wait_until_drawn(page)
    found = barriers(page, where)
    for opener in page.get_by_test_id("stPopover").all():
        title = opener.inner_text().splitlines()[0]
        opener.get_by_role("button").click()
        expect(page.get_by_test_id("stPopoverBody")).to_be_visible()
        wait_until_drawn(page)
        found += barriers(page, f"{where}, {title} open")
        page.keyboard.press("Escape")
        expect(page.get_by_test_id("stPopoverBody")).to_be_hidden()
    if found:
        pytest.fail("\n".join(found), pytrace=False)


def test_a_picture_that_says_nothing_to_a_screen_reader_is_found(page, url):
    page.goto(url)
    wait_until_drawn(page)
    page.evaluate("document.querySelector('h2').after(document.createElement('img'))")
    [found] = barriers(page, "overview")
    assert found.startswith("overview: image-alt (critical): ")
    assert "<img>" in found
