"""The README stays true: its tree names every module, its commands exist."""

import re

from typer.testing import CliRunner

from premem_core.__main__ import app
from tests.helpers.paths import ROOT

README = (ROOT / "README.md").read_text()


def test_the_tree_names_every_module_and_nothing_else():
    tree = README.split("```")[3]
    named = set(re.findall(r"\b(\w+\.py|\w+/)", tree))
    there = {p.name for p in (ROOT / "premem_core").glob("*.py") if p.name != "__init__.py"}
    folders = {
        f"{p.name}/" for p in (ROOT / "premem_core").iterdir() if (p / "__init__.py").exists()
    }
    top = {"app.py", "serve.py", "pages/", "premem_core/"} | {
        f"{name}/" for name in ("data", "benchmarks", "docs", "tests")
    }
    inside = {"static/", "vllm.py", "hf.py", "decoding.py"}
    assert named == there | folders | top | inside


def test_every_command_in_the_readme_exists():
    commands = set(re.findall(r"python -m premem_core ([a-z-]+)", README))
    assert commands >= {"score", "fit", "import-published", "finetune", "grade", "demo"}
    for command in commands:
        assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0


def test_every_make_target_in_the_readme_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^make ([a-z-]+)", README, re.MULTILINE)) <= targets
