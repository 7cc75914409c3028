"""The documents stay true: the packages, commands, links, files and functions in them exist."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import typer

from premem_core.__main__ import app
from tests.helpers.paths import ROOT

CORE = ROOT / "premem_core"
README = ROOT / "README.md"
DOCS = sorted([README, ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
WITH_HISTORY = [*DOCS, ROOT / "CHANGELOG.md"]  # which names files that are gone
TO_READ = [file for file in DOCS if file.name not in ("cli.md", "measurements.md")]
MOST_LINES = 120  # of the README
FENCED = re.compile(r"^```.*?\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`]+)`")
COMMAND = re.compile(r"(?:^|\s)(?:premem|python -m premem_core) ([a-z][a-z-]+)(.*)")
OPTION = re.compile(r"(?<!\S)--[a-z][a-z-]*")
LINK = re.compile(r"\]\(([^)\s]+)\)")
SOURCE = re.compile(r"(?<![\w/>-])[\w/-]+\.py\b")
CITED = re.compile(r"docs/method\.md,[\s#]+(?:sections?[\s#]+)?(\d+)(?:[\s#]+and[\s#]+(\d+))?")
CITED_DESIGN = re.compile(r"docs/design\.md,[\s#]+([a-z ]+)")

each_document = pytest.mark.parametrize("file", WITH_HISTORY, ids=lambda file: file.name)


def code(file: Path) -> list[str]:
    """The lines of fenced code, and the inline code, of a document."""
    text = file.read_text()
    fenced = [block.replace("\\\n", " ") for block in FENCED.findall(text)]
    inline = [" ".join(span.split()) for span in INLINE.findall(FENCED.sub("", text))]
    return [*(line for block in fenced for line in block.splitlines()), *inline]


def headings(file: Path) -> list[str]:
    text = FENCED.sub("", file.read_text())
    return re.findall(r"^#+ (.+)$", text, re.MULTILINE)


def anchor(heading: str) -> str:
    """What a heading is called in a link."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def sources() -> list[Path]:
    folders = [CORE, *(ROOT / name for name in ("pages", "benchmarks", "docs", "tests"))]
    files = [file for folder in folders for file in folder.rglob("*.py")]
    return [ROOT / "app.py", ROOT / "serve.py", *(f for f in files if f != Path(__file__))]


def options(command: Any) -> set[str]:
    named = {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
    return {*named, "--help"}


def defined(file: Path) -> set[str]:
    """Functions and classes of a module, and methods as Class.method."""
    names = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{n.name}" for n in node.body if isinstance(n, ast.FunctionDef)}
    return names


def in_the_tree() -> tuple[set[str], set[str]]:
    """What the README's tree names at the top, and in premem_core."""
    section = README.read_text().split("## The tree")[1]
    rows = FENCED.findall(section)[0].splitlines()
    names = [re.split(r"\s{2,}", row.strip())[0].split() for row in rows]
    inside = [row.startswith(" ") for row in rows]
    top, core = (
        {name for own, within in zip(names, inside, strict=True) if within == of for name in own}
        for of in (False, True)
    )
    return top, core


def test_the_tree_names_every_package_and_nothing_else():
    top, core = in_the_tree()
    packages = {f"{file.parent.name}/" for file in CORE.glob("*/__init__.py")}
    assert core == packages | {file.name for file in CORE.glob("*.py")} - {"__init__.py"}
    folders = {"pages/", "premem_core/", "data/", "docs/", "benchmarks/", "tests/"}
    assert top == {"app.py", "serve.py"} | folders


def test_the_readme_is_short():
    assert len(README.read_text().splitlines()) <= MOST_LINES


@each_document
def test_every_command_that_a_document_names_exists_and_takes_the_options_that_stand_with_it(file):
    commands = typer.main.get_group(app).commands
    for line in code(file):
        for name, rest in COMMAND.findall(line.partition(" #")[0]):
            assert name in commands, line
            command = commands[name]
            if hasattr(command, "commands"):
                words = rest.split()
                assert not words or words[0] in command.commands, line
                command = command.commands[words[0]] if words else command
            assert set(OPTION.findall(rest)) <= options(command), line


@pytest.mark.parametrize("file", TO_READ, ids=lambda file: file.name)
def test_every_option_that_a_document_names_alone_is_one_of_some_command(file):
    commands = typer.main.get_group(app).commands.values()
    several = [own for group in commands for own in getattr(group, "commands", {}).values()]
    known = set().union(*(options(command) for command in [*commands, *several]))
    for span in code(file):
        if span.startswith("--"):
            assert set(OPTION.findall(span)) <= known, span


def test_the_documents_name_the_commands_that_a_newcomer_needs():
    named = {name for file in DOCS for line in code(file) for name, _ in COMMAND.findall(line)}
    assert named >= {"score", "fit", "predict", "curate", "import-published", "finetune", "grade"}
    assert named >= {"demo", "dashboard", "robustness", "regrade", "collect", "generate", "replay"}


@each_document
def test_every_make_target_that_a_document_names_exists(file):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {name for line in code(file) for name in re.findall(r"^make ([a-z-]+)", line)}
    assert named <= targets


@each_document
def test_every_link_leads_to_a_file_and_a_heading_that_exist(file):
    text = FENCED.sub("", file.read_text())
    for link in LINK.findall(text):
        if link.startswith(("https://", "http://")):
            continue
        path, _, place = link.partition("#")
        target = (file.parent / path).resolve() if path else file
        assert target.is_relative_to(ROOT), link
        assert target.exists(), link
        assert not place or place in map(anchor, headings(target)), link


@each_document
def test_no_document_names_a_path_outside_of_the_repository(file):
    text = file.read_text()
    assert "../shared" not in text
    assert not re.search(r"(?<![\w.:/])/(work|home|tmp|root|Users)/", text)


@pytest.mark.parametrize("file", DOCS, ids=lambda file: file.name)
def test_every_source_file_that_a_document_names_exists(file):
    names = {path.name for path in [*sources(), Path(__file__)]} | {"FILE.py"}  # the reader's own
    for name in (found for line in code(file) for found in SOURCE.findall(line)):
        known = name in names if "/" not in name else (ROOT / name).exists()
        assert known or (CORE / name).exists(), name


def test_every_function_in_the_designs_walks_exists():
    rows = re.findall(r"^\| [^|]+ \| `([\w/]+\.py)` \| (.+) \|$", design(), re.MULTILINE)
    assert len(rows) > 30
    for file, functions in rows:
        missing = set(INLINE.findall(functions)) - defined(CORE / file)
        assert not missing, f"{file}: {missing}"


def design() -> str:
    return (ROOT / "docs" / "design.md").read_text()


def test_sections_that_the_code_cites_exist_and_nothing_is_cited_outside_of_the_repository():
    sections = re.findall(r"^## (\d+)\. ", (ROOT / "docs/method.md").read_text(), re.MULTILINE)
    assert sections == [str(n) for n in range(1, 16)]
    titles = {heading.lower() for heading in headings(ROOT / "docs" / "design.md")}
    cited = set()
    for file in sources():
        text = file.read_text()
        cited |= {number for pair in CITED.findall(text) for number in pair if number}
        assert {each.strip() for each in CITED_DESIGN.findall(text)} <= titles, file
        assert not re.search(r"\b(METHOD|DESIGN)\b|\.\./shared", text), file
    assert {"1", "3", "4", "5", "6", "7", "8"} <= cited <= set(sections)
