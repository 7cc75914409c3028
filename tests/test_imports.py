"""The packages of premem_core: imports go down one list, never up, and packages stay small.

`pytest tests/test_imports.py -s` prints the tree with the length of every file.
"""

import ast
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.paths import PAGES, ROOT

CORE = ROOT / "premem_core"

# From the ground up: a file imports from its own package and from those before it in this list.
PACKAGES = (
    *("errors", "installation", "records", "files", "endpoint_address", "model_endpoint"),
    "metrics",
    "problems",
    "models",
    "store",
    "grading",
    "importers",
    "scoring",
    "analysis",
    "curation",
    "training",
    "sinks",
    "demo",
    "dashboard",
    "api",
    "commands",
    "__main__",
)
LONGEST_FILE = 400  # lines
LONGEST_MEDIAN = 10  # lines of the function in the middle
MOST_FILES = 14  # in a package

# Streamlit reads what the first show as Markdown; what the second return is shown as it is.
MESSAGES = {"error", "warning", "info", "success", "toast", "caption", "markdown", "write"}
ESCAPING = {"plain", "error_in_words"}

# A page picks, reads and draws: what is computed it gets from these packages.
PAGES_MAY_USE = {"errors", "records", "metrics", "store", "grading", "analysis", "curation"}
PAGES_MAY_USE |= {"dashboard"}
SCORE_PAGE_MAY_USE = {"installation", "models", "problems", "scoring"}


def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


def imports(file: Path) -> set[str]:
    """What a file imports, anywhere in it, as dotted names."""
    names = set()
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return names


def packages_used(file: Path) -> set[str]:
    names = [name.split(".") for name in imports(file) if name.startswith("premem_core.")]
    return {parts[1] for parts in names}


def package_of(file: Path) -> str:
    return file.relative_to(CORE).parts[0].removesuffix(".py")


def lines(file: Path) -> int:
    return len(file.read_text().splitlines())


def upward_imports() -> list[str]:
    found = []
    for file in CORE.rglob("*.py"):
        if file == CORE / "__init__.py":  # the public face: it offers the names of all packages
            continue
        floor = PACKAGES.index(package_of(file))
        found += [
            f"{file.relative_to(CORE)} → {used}"
            for used in packages_used(file)
            if PACKAGES.index(used) > floor
        ]
    return sorted(found)


def product_files() -> list[Path]:
    return sorted([*CORE.rglob("*.py"), *PAGES.glob("*.py"), ROOT / "app.py", ROOT / "serve.py"])


def test_imports_go_down_the_list_of_packages():
    for name in PACKAGES:
        there = sorted(CORE.glob(f"{name}/*.py")) or [CORE / f"{name}.py"]
        print(f"{name}  ({sum(map(lines, there))} lines)")
        if len(there) > 1:
            print("".join(f"    {file.name:32}{lines(file):5}\n" for file in there), end="")
    up = upward_imports()
    print(f"imports that go up between packages: {len(up)}")
    assert up == []


def test_every_file_lies_in_a_package_and_every_package_says_what_it_is():
    for file in CORE.rglob("*.py"):
        assert package_of(file) in (*PACKAGES, "__init__"), file
    for folder in {file.parent for file in CORE.rglob("*.py")}:
        files = [file for file in folder.glob("*.py") if file.name != "__init__.py"]
        assert len(files) <= MOST_FILES, folder
        about = ast.get_docstring(tree(folder / "__init__.py"))
        assert about, folder
        assert len(about.split()) >= 8, folder


def test_no_file_is_long_and_most_functions_are_short():
    lengths = [
        node.end_lineno - node.lineno + 1
        for file in product_files()
        for node in ast.walk(tree(file))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    longest = max(product_files(), key=lines)
    print(
        f"{len(product_files())} files, the longest {longest.name} with {lines(longest)} lines; "
        f"median function {statistics.median(lengths):g} lines"
    )
    assert lines(longest) <= LONGEST_FILE
    assert statistics.median(lengths) <= LONGEST_MEDIAN


def test_only_the_dashboard_knows_streamlit_and_only_the_store_knows_sql():
    for file in CORE.rglob("*.py"):
        names = {name.split(".")[0] for name in imports(file)}
        if "streamlit" in names:
            assert package_of(file) == "dashboard", file
            assert "figures" not in file.parts, file
        assert "duckdb" not in names or package_of(file) == "store", file


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.py")), ids=lambda file: file.name)
def test_a_page_picks_reads_and_draws_and_nothing_else(page):
    more = SCORE_PAGE_MAY_USE if page.name == "score.py" else {"problems", "scoring"}
    assert packages_used(page) <= PAGES_MAY_USE | more
    assert {name.split(".")[0] for name in imports(page)} <= {"streamlit", "premem_core"}


def test_the_dashboard_starts_without_a_model_library():
    code = """
import sys
import premem_core.__main__, premem_core.dashboard.pickers, premem_core.dashboard.score_form
import premem_core.scoring.jobs
loaded = {"torch", "transformers", "vllm", "ray", "peft"} & set(sys.modules)
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_nothing_unpickles_or_trusts_remote_code():
    for file in product_files():
        text = file.read_text()
        assert not {"pickle", "joblib", "dill", "marshal"} & imports(file), file
        assert "trust_remote_code=True" not in text, file
        assert "allow_pickle=True" not in text, file
        assert "torch.load" not in text, file


def test_a_page_with_a_fragment_of_its_own_is_not_drawn_in_one():
    named = next(
        ast.literal_eval(node.value)
        for node in tree(CORE / "dashboard" / "streamlit_workarounds.py").body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "WITH_FRAGMENTS"
    )
    own = {"jobs_panel", "fragment"}
    having = [
        page.name
        for page in PAGES.glob("*.py")
        for node in ast.walk(tree(page))
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in own
    ]
    assert set(having) == set(named)


def unescaped(node: ast.AST) -> set[str]:
    """The names in an expression that are used outside the functions that escape Markdown."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ESCAPING:
        return set()
    names = {node.id} if isinstance(node, ast.Name) else set()
    return names.union(*map(unescaped, ast.iter_child_nodes(node)))


def messages(node: ast.AST) -> list[ast.Call]:
    """The calls in it that show a text as Markdown."""
    calls = (call for call in ast.walk(node) if isinstance(call, ast.Call))
    return [call for call in calls if getattr(call.func, "attr", "") in MESSAGES]


def test_no_error_is_shown_as_markdown():
    """An error may repeat a text of a data file or of an address."""
    raw = []
    for file in [*PAGES.glob("*.py"), *(CORE / "dashboard").rglob("*.py"), ROOT / "app.py"]:
        shown = [
            (call, {handler.name})
            for handler in ast.walk(tree(file))
            if isinstance(handler, ast.ExceptHandler)
            for call in messages(handler)
        ]
        shown += [
            (call, unescaped(call))
            for call in messages(tree(file))
            if ast.unparse(call.func) in {"st.error", "st.toast"}
        ]
        for call, names in shown:
            used = set().union(*map(unescaped, call.args))
            raw += [f"{file.name}, line {call.lineno}: {name}" for name in used & names]
    assert raw == []
