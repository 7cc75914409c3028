"""A selection is built, two rows are dropped by hand, and its recipe builds it again."""

import csv
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from playwright.sync_api import BrowserContext, Page, expect
from typer.testing import CliRunner

from premem_core.__main__ import app
from premem_core.demo import demo_study
from tests.browser.waiting import new_page, send, until_settled
from tests.helpers.paths import ROOT


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("curate") / "store"
    demo_study.install(folder)
    return folder


@pytest.fixture(scope="module")
def url(start_streamlit: Callable[..., Any], store: Path) -> str:
    return str(start_streamlit(ROOT / "serve.py", PREMEM_STORE=str(store)).url)


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    page = new_page(context, height=2600)
    yield page
    page.close()


def drawn(page: Page) -> None:
    expect(page.get_by_role("heading", name="The selection")).to_be_visible()
    until_settled(page)


def download(page: Page, name: str, folder: Path) -> Path:
    with page.expect_download() as waited:
        page.get_by_role("button", name=name, exact=True).click()
    file = folder / f"{len(list(folder.iterdir()))}-{waited.value.suggested_filename}"
    waited.value.save_as(file)
    return file


def ids(file: Path) -> list[str]:
    return [json.loads(line)["id"] for line in file.read_text(encoding="utf-8").splitlines()]


def tick(page: Page, which: int, row: int) -> None:
    """The check box of a row of a table."""
    box = page.get_by_test_id("stDataFrame").nth(which).bounding_box()
    send(page, lambda: page.mouse.click(box["x"] + 18, box["y"] + 52 + 35 * row))


@pytest.mark.slow
def test_two_rows_are_dropped_by_hand_and_the_recipe_builds_the_same_again(
    page, url, store, context, tmp_path
):
    page.goto(f"{url}/curate?t=-2.3&runs=lr3e-3_ep15_n1000")
    drawn(page)
    headline = page.get_by_text(re.compile(r"^\d[\d,]* examples of 500, judged by run"))
    expect(headline).to_be_visible()
    bound = page.get_by_role("spinbutton", name="Pre-memorization accuracy, at most")
    bound.fill("0.5")
    bound.press("Enter")
    drawn(page)
    before = ids(download(page, "Data", tmp_path))

    tick(page, 0, 1)
    tick(page, 0, 3)
    drawn(page)
    page.get_by_role("button", name="Drop the selected rows").click()
    expect(page.get_by_role("button", name="Restore the 2 dropped by hand")).to_be_visible()
    drawn(page)
    data, recipe = download(page, "Data", tmp_path), download(page, "Recipe", tmp_path)
    assert ids(data) == [each for at, each in enumerate(before) if at not in (1, 3)]
    told = headline.inner_text()

    fresh = new_page(context, height=2600)
    fresh.goto(f"{url}/curate?budget=7&t=-1&dropped=train-0001")  # what was asked for gives way
    drawn(fresh)
    fresh.get_by_role("button", name="Open a recipe").click()
    fresh.locator("input[type=file]").set_input_files(recipe)
    expect(fresh.get_by_text(told)).to_be_visible()
    fresh.keyboard.press("Escape")
    drawn(fresh)
    assert download(fresh, "Data", tmp_path).read_bytes() == data.read_bytes()
    fresh.reload()
    expect(fresh.get_by_text(told)).to_be_visible()
    drawn(fresh)
    assert download(fresh, "Data", tmp_path).read_bytes() == data.read_bytes()
    fresh.close()

    again = tmp_path / "again.jsonl"
    command = ["curate", "--store", str(store), "--from-recipe", str(recipe), "--out", str(again)]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert again.read_bytes() == data.read_bytes()

    page.get_by_role("spinbutton", name="New problems").fill("30")
    page.keyboard.press("Enter")
    drawn(page)
    sheet, prompts = download(page, "Worksheet", tmp_path), download(page, "Prompts", tmp_path)
    assert len(list(csv.DictReader(sheet.read_text(encoding="utf-8").splitlines()))) == 30
    assert len(set(ids(prompts))) == 30

    page.get_by_role("radio", name="folder for datasets").click()
    drawn(page)
    with zipfile.ZipFile(download(page, "Data", tmp_path)) as packed:
        parts = {Path(name).name: name for name in packed.namelist()}
        assert {"README.md", "recipe.yaml", "train.parquet"} <= set(parts)
        assert packed.read(parts["recipe.yaml"]) == recipe.read_bytes()
        table = pd.read_parquet(io.BytesIO(packed.read(parts["train.parquet"])))
        assert table["id"].tolist() == ids(data)
        assert "By hand: 2 excluded." in packed.read(parts["README.md"]).decode()

    page.get_by_role("button", name="Restore the 2 dropped by hand").click()
    drawn(page)
    page.get_by_role("radio", name="jsonl").click()
    drawn(page)
    assert ids(download(page, "Data", tmp_path)) == before


def test_what_a_gate_finds_is_shown_and_let_through(page, url):
    page.goto(
        f"{url}/curate?t=-2.13&runs=lr1e-3_ep5_n1000&gates=suspected+wrong+labels&gate-labels=0.4"
    )
    drawn(page)
    headline = page.get_by_text(re.compile("left out by quality gates"))
    expect(headline).to_be_visible()
    n = int(re.match(r"([\d,]+) examples", headline.inner_text())[1].replace(",", ""))
    tick(page, 0, 0)
    expect(page.get_by_text("Solution", exact=True)).to_be_visible()
    page.get_by_role("button", name="Let through").click()
    expect(page).to_have_url(re.compile("excused=train-"))
    expect(page.get_by_text(re.compile(rf"^{n + 1} examples of"))).to_be_visible()


def test_ticked_rows_of_one_selection_are_not_dropped_from_another(page, url):
    page.goto(f"{url}/curate?t=-2.3")
    drawn(page)
    tick(page, 0, 1)
    drop = page.get_by_role("button", name="Drop the selected rows")
    expect(drop).to_be_enabled()
    bound = page.get_by_role("spinbutton", name="Pre-memorization accuracy, at most")
    bound.fill("0.3")
    bound.press("Enter")
    drawn(page)
    expect(drop).to_be_disabled()


def test_an_id_is_put_in_and_taken_back_by_hand(page, url):
    page.goto(f"{url}/curate?t=-2.3&budget=5&dropped=train-0007")
    drawn(page)
    expect(page.get_by_text(re.compile(r"^5 examples of"))).to_be_visible()
    page.get_by_role("button", name="By hand: 1").click()
    put_in = page.get_by_role("combobox", name="Always kept")
    put_in.fill("train-0001")
    put_in.press("Enter")
    expect(page).to_have_url(re.compile("kept=train-0001"))
    expect(page.get_by_role("dialog", name="By hand: 2")).to_be_visible()
    put_in.fill("nobody")
    put_in.press("Enter")
    expect(page.get_by_text(re.compile("names an example 'nobody'"))).to_be_visible()
