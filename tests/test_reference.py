"""docs/cli.md and docs/python.md are made from the code, and are what the code makes now."""

import pytest

from docs import make_reference
from premem_core.__main__ import app
from tests.helpers.paths import ROOT


@pytest.mark.parametrize("file", make_reference.PAGES, ids=lambda file: file.name)
def test_a_page_made_from_the_code_is_up_to_date(file):
    made = make_reference.PAGES[file]()
    assert file.read_text(encoding="utf-8") == made, "run: make reference"


def test_the_pages_name_every_command_and_every_public_name():
    import premem_core

    cli = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    for command in app.registered_commands:
        name = (command.name or command.callback.__name__).replace("_", "-")
        assert f"\n## premem {name}\n" in cli, name
    python = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    for name in premem_core.__all__:
        assert f"### `premem.{name}`" in python, name
