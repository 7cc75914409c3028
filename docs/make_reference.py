"""Write docs/python.md and docs/cli.md from the code.

    python -m docs.make_reference

The pages come from the docstrings of the names in `premem_core.__all__`, and from the help of every
command. `tests/test_reference.py` fails where a page is out of date.
"""

import inspect
import re
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer

import premem_core as premem
from premem_core.__main__ import app
from premem_core.demo import demo_study

ROOT = Path(__file__).parents[1]
MADE = "<!-- Made from the code by `python -m docs.make_reference`; change the code instead. -->"
SECTION = re.compile(r"(Args|Attributes|Columns|Example|Raises|Returns):")
LONGEST_LINE = 100
ITEM = re.compile(r"(?P<names>[\w, ]+): (?P<text>.*)", re.DOTALL)


def python_page() -> str:
    """docs/python.md."""
    about = inspect.getdoc(premem) or ""
    parts = [
        "# Python API",
        MADE,
        markdown(about),
        "On the demo study (`premem demo --store store`) it prints:",
        fenced("", output_on_the_demo(example_of(about))),
        "The examples below go on from there.",
        "## Opening and reading a store",
        *described("open_store", premem.open_store),
        *described_class("StoreReader", premem.StoreReader),
        "## A task's runs together",
        *described("analyse", premem.analyse),
        *described_class("Study", premem.Study),
        *described_class("Analysis", premem.Analysis),
        "## Arrays of your own",
        *(part for name in ARRAYS for part in described(name, getattr(premem, name))),
        *described_class("ThresholdFit", premem.ThresholdFit),
        "## Figures",
        "### `premem.figures`",
        markdown(inspect.getdoc(premem.figures) or ""),
        "\n".join(listed(premem.figures)),
        "## Errors",
        "### `premem.PrememError`",
        markdown(inspect.getdoc(premem.PrememError) or ""),
    ]
    return "\n\n".join(parts) + "\n"


ARRAYS = (
    "premem_accuracy",
    "masked_accuracy",
    "memorized",
    "identity_r2",
    "linear_r2",
    "best_threshold",
)


def described(name: str, function: Callable[..., Any], owner: str = "premem") -> list[str]:
    """A function's heading, how it is called, and its docstring."""
    return [
        f"### `{owner}.{name}`",
        fenced("", call(name, function)),
        markdown(inspect.getdoc(function) or ""),
    ]


def described_class(name: str, kind: type) -> list[str]:
    """A class's docstring, then its public properties and methods in their order."""
    owner = "store" if kind is premem.StoreReader else name.lower()
    parts = [f"### `premem.{name}`", markdown(inspect.getdoc(kind) or "")]
    members = [item for base in reversed(kind.__mro__[:-1]) for item in vars(base).items()]
    for member, value in members:
        if member.startswith("_") or not (about := inspect.getdoc(value)):
            continue
        if inspect.isfunction(value):
            parts += described(member, value, owner)
        elif hasattr(value, "func") or isinstance(value, property):
            parts += [f"### `{owner}.{member}`", markdown(about)]
    return parts


def listed(module: Any) -> Iterator[str]:
    """The public names of a module, with the first sentence of each."""
    for name in module.__all__:
        value = getattr(module, name)
        about = inspect.getdoc(value) if callable(value) else f"A `{type(value).__name__}`."
        yield f"- `{name}`: {(about or '').splitlines()[0]}"


def call(name: str, function: Callable[..., Any]) -> str:
    """How a function is called; where it is long, one parameter to a line."""
    found = inspect.signature(function)
    parameters = [p for p in found.parameters.values() if p.name != "self"]
    given = [parameter(p) for p in parameters]
    star = next((i for i, p in enumerate(parameters) if p.kind is p.KEYWORD_ONLY), None)
    if star is not None:
        given.insert(star, "*")
    result = annotation(found.return_annotation)
    line = f"{name}({', '.join(given)}) -> {result}"
    if len(line) <= LONGEST_LINE:
        return line
    return f"{name}(\n" + "".join(f"    {each},\n" for each in given) + f") -> {result}"


def parameter(given: inspect.Parameter) -> str:
    """Such as `split: str = "train"`."""
    default = "" if given.default is given.empty else f" = {given.default!r}".replace("'", '"')
    return f"{given.name}: {annotation(given.annotation)}{default}"


def annotation(given: Any) -> str:
    """A type as a person would write it."""
    text = given if isinstance(given, str) else inspect.formatannotation(given)
    text = text.replace("Literal['plain', 'jackknife', 'lu']", "Estimator")
    text = text.replace("Literal['identity', 'linear']", "Objective")
    text = re.sub(r"numpy\.ndarray\[tuple\[.*?\], numpy\.dtype\[([\w.]+)\]\]", r"NDArray[\1]", text)
    return re.sub(r"\b[a-z_.]+\.(?=[A-Za-z])", "", text)


def markdown(docstring: str) -> str:
    """A docstring's paragraphs, its sections as lists, its examples as code."""
    parts: list[str] = []
    section, block = "", list[str]()
    for line in [*docstring.splitlines(), "end:"]:
        heading = SECTION.fullmatch(line)
        if heading or line == "end:":
            parts += rendered(section, textwrap.dedent("\n".join(block)).strip("\n"))
            section, block = (heading[1] if heading else ""), []
        elif section and line and not line.startswith(" "):  # text again, after a section
            parts += rendered(section, textwrap.dedent("\n".join(block)).strip("\n"))
            section, block = "", [line]
        else:
            block.append(line)
    return "\n\n".join(part for part in parts if part)


def rendered(section: str, text: str) -> list[str]:
    """One section of a docstring."""
    if not text.strip():
        return []
    if section == "Example":
        return [fenced("python", text)]
    if section in ("", "Returns"):
        return [f"Returns: {text}" if section else console(text)]
    return [f"{section}:", "\n".join(map(bullet, re.split(r"\n(?! )", text)))]


def bullet(item: str) -> str:
    """An item of a section as one of a list, the names before its colon set as code."""
    line = " ".join(item.split())
    if not (found := ITEM.fullmatch(line)):
        return f"- {line}"
    names = ", ".join(f"`{name}`" for name in found["names"].split(", "))
    return f"- {names}: {found['text']}"


def console(text: str) -> str:
    """Text in which lines that begin with `>>>`, and what they print, are set as code."""
    paragraphs = re.split(r"\n\s*\n", text)
    return "\n\n".join(
        fenced("pycon", p) if p.lstrip().startswith(">>>") else p for p in paragraphs
    )


def fenced(language: str, code: str) -> str:
    lines = code.strip("\n")
    return f"```{language}\n{lines}\n```"


def example_of(docstring: str) -> str:
    """The code of a docstring's example."""
    return textwrap.dedent(docstring.partition("Example:\n")[2])


def output_on_the_demo(script: str) -> str:
    """What a script prints in a folder where the demo study is in `store`."""
    with tempfile.TemporaryDirectory(prefix="premem-") as folder:
        demo_study.install(Path(folder) / "store")
        command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{script}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


def cli_page() -> str:
    """docs/cli.md."""
    group = typer.main.get_command(app)
    parts = [
        "# Command line",
        MADE,
        "After `pip install`, a command is called `premem`; in a checkout, `python -m premem_core` "
        "is the same. Exit codes: 0 done, 1 failed, 2 wrong usage.",
        "\n".join(
            f"- [`premem {name}`](#premem-{name.replace(' ', '-')}): {summary(command)}"
            for name, command in commands(group)
        ),
    ]
    for name, command in commands(group):
        parts += [f"## premem {name}", *help_of(name, command)]
    return "\n\n".join(parts) + "\n"


def commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Every command with its whole name, those of a group after it."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def summary(command: Any) -> str:
    return " ".join((command.help or "").split("\n\n")[0].split())


def help_of(name: str, command: Any) -> Iterator[str]:
    """What a command does, how it is called, and its arguments and options."""
    paragraphs = (command.help or "").split("\n\n")
    yield from (" ".join(text.split()) for text in paragraphs if not text.startswith("Example:"))
    context = typer.Context(command, info_name=f"premem {name}")
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    usage = [f"premem {name}", *(p.name.upper() for p in arguments), "[OPTIONS]"]
    yield fenced("", " ".join(usage))
    yield from (
        "Example:\n\n" + fenced("sh", " ".join(text.removeprefix("Example:").split()))
        for text in paragraphs
        if text.startswith("Example:")
    )
    records = [(p.name.upper(), p.get_help_record(context)[1]) for p in arguments]
    records += [p.get_help_record(context) for p in options]
    yield "\n".join(f"- `{given}` {' '.join(about.split())}" for given, about in records)


PAGES: dict[Path, Callable[[], str]] = {
    ROOT / "docs" / "python.md": python_page,
    ROOT / "docs" / "cli.md": cli_page,
}

if __name__ == "__main__":
    for file, page in PAGES.items():
        file.write_text(page(), encoding="utf-8")
