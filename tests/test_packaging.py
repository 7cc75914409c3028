"""What pip installs: declared dependencies, files in the wheel, versions, and what is not there."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from streamlit.testing.v1 import AppTest

import premem_core
from premem_core import installation
from premem_core.demo import demo_study
from premem_core.errors import InstallationError
from premem_core.records import Checkpoint, Run
from premem_core.scoring import jobs
from premem_core.scoring.spec import ScoringSpec
from premem_core.store.database import Store
from tests.helpers import tiny
from tests.helpers.paths import DEMO, ROOT
from tests.helpers.shown import seen

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
BASE = PYPROJECT["project"]["dependencies"]
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
WHEEL = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]

DISTRIBUTIONS = {
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
    "math_verify": "math-verify",
    "mlflow": "mlflow-skinny",
}
# Declared though no line imports it, and who does.
USED_BY_OTHERS = {
    "orjson": "plotly, where it is installed",
    "accelerate": "transformers",
    "jinja2": "transformers, which renders chat templates",
    "sqlalchemy": "mlflow, for a database on this machine",
    "alembic": "mlflow, likewise",
}
# Imported, but not pinned: the version comes with one that is.
PINNED_BY_OTHERS = {"starlette", "anyio", "pydantic", "fsspec", "huggingface-hub"}


def names(requirements: list[str]) -> set[str]:
    return {str(canonicalize_name(Requirement(line).name)) for line in requirements} - {"premem"}


def product_files() -> list[Path]:
    core, pages = ROOT / "premem_core", ROOT / "pages"
    return [*core.rglob("*.py"), *pages.glob("*.py"), ROOT / "app.py", ROOT / "serve.py"]


def imported(node: ast.AST, inside: bool = False) -> Iterator[tuple[str, bool]]:
    """Each top-level package that a file imports, and whether only a function does.

    What only a type checker reads counts as inside.
    """
    for child in ast.iter_child_nodes(node):
        within = inside or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        within |= isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        if isinstance(child, ast.Import):
            yield from ((alias.name.split(".")[0], within) for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module and not child.level:
            yield child.module.split(".")[0], within
        yield from imported(child, within)


def third_party() -> Iterator[tuple[Path, str, bool]]:
    for file in product_files():
        for package, inside in imported(ast.parse(file.read_text())):
            if package != "premem_core" and package not in sys.stdlib_module_names:
                yield file, canonicalize_name(DISTRIBUTIONS.get(package, package)), inside


def test_what_product_code_imports_is_declared_and_the_other_way_round():
    declared = names(BASE).union(*(names(EXTRAS[extra]) for extra in installation.EXTRAS))
    used = {package for _, package, _ in third_party()}
    assert used - declared == set()
    assert declared - used == set(USED_BY_OTHERS)


def test_what_only_an_extra_brings_is_imported_inside_functions_only():
    outside = [
        f"{file.relative_to(ROOT)} imports {package}"
        for file, package, inside in third_party()
        if package not in names(BASE) and not inside
    ]
    assert outside == []


def test_an_extra_has_the_packages_that_the_installation_looks_for():
    for extra, packages in installation.EXTRAS.items():
        distributions = {str(canonicalize_name(DISTRIBUTIONS.get(p, p))) for p in packages}
        assert distributions == names(EXTRAS[extra]), extra
    assert set(installation.PURPOSES) == set(installation.EXTRAS)
    assert "torch" not in names(BASE)


@pytest.mark.parametrize(
    ("file", "declared"),
    [
        ("requirements.txt", [*BASE, *EXTRAS["score"], *EXTRAS["server"], *EXTRAS["generate"]]),
        ("requirements-vllm.txt", EXTRAS["vllm"]),
        ("requirements-ray.txt", EXTRAS["ray"]),
        (
            "requirements-dev.txt",
            [*EXTRAS["dev"], *EXTRAS["trackio"], *EXTRAS["wandb"], *EXTRAS["mlflow"]],
        ),
    ],
)
def test_the_tested_pins_lie_in_the_declared_ranges(file, declared):
    ranges = {canonicalize_name(r.name): r for r in map(Requirement, declared)}
    lines = (ROOT / file).read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert names(declared) - PINNED_BY_OTHERS == {canonicalize_name(pin.name) for pin in pins}
    for pin in pins:
        [version] = [specifier.version for specifier in pin.specifier]
        declared_range = ranges[canonicalize_name(pin.name)]
        assert version in declared_range.specifier, pin.name
        assert pin.extras == declared_range.extras, pin.name


def test_the_wheel_takes_all_that_the_dashboard_and_the_demo_need():
    taken = WHEEL["force-include"]
    assert set(taken) == {"app.py", "serve.py", "pages", ".streamlit", "data"}
    for source, target in taken.items():
        assert (ROOT / source).exists(), source
        assert target == f"premem_core/_files/{source}"
    assert installation.FILES == ROOT  # this is a checkout
    for name in PYPROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["only-include"]:
        assert (ROOT / name).exists(), name


def test_the_version_stands_in_one_place_and_the_citation_agrees():
    assert PYPROJECT["project"]["dynamic"] == ["version"]
    assert PYPROJECT["tool"]["hatch"]["version"]["path"] == "premem_core/__init__.py"
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == premem_core.__version__
    assert citation["references"][0]["identifiers"][0]["value"] == "arXiv:2411.07681"


def test_the_workflow_and_the_hooks_run_what_ci_and_lint_run():
    steps = re.findall(r"^make ([\w-]+)$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())
    assert sorted(workflow["jobs"]["test"]["strategy"]["matrix"]["target"]) == sorted(steps)
    makefile = (ROOT / "Makefile").read_text()
    lint = re.findall(r"\t\$\(VENV\)/bin/(ruff|mypy)( \w+)?", makefile.partition("\nlint:")[2])
    [local] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [hook["entry"] for hook in local["hooks"]] == [
        f".venv/bin/{tool}{argument}" for tool, argument in lint
    ]


def without(package: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A command where a package is not installed."""
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from premem_core.__main__ import main; main()"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("package", "extra", "arguments"),
    [
        ("safetensors", "score", ("score", DEMO / "runs" / "lr3e-3_ep15_n1000", "--train")),
        ("torch", "score", ("finetune", "base", "--out", "out", "--train")),
    ],
)
def test_a_command_without_its_extra_says_in_one_sentence_what_to_install(
    package, extra, arguments, tmp_path
):
    train = DEMO / "train_1000.jsonl"
    store = ("--store", tmp_path / "store") if arguments[0] == "score" else ()
    done = without(package, *arguments, train, *store)
    assert done.returncode == 1
    assert done.stderr.strip() == (
        f"error: the package {package} is not installed; for scoring and fine-tuning, "
        f"run: pip install 'premem[{extra}]'"
    )
    assert not list(tmp_path.iterdir())


def test_generating_without_its_extra_says_what_to_install():
    error = installation.explain(ModuleNotFoundError("No module named 'openai'", name="openai"))
    assert str(error).endswith("run: pip install 'premem[generate]'")


def test_a_missing_module_that_is_in_no_extra_stays_an_error_of_ours():
    assert installation.explain(ModuleNotFoundError("gone", name="premem_core.gone")) is None
    done = without("numpy", "fit", "--task", "demo")
    assert "Traceback" in done.stderr


@pytest.mark.parametrize(
    ("backend", "package", "extra"), [("hf", "torch", "score"), ("server", "openai", "server")]
)
def test_a_job_does_not_start_without_what_its_backend_needs(
    backend, package, extra, tmp_path, monkeypatch
):
    store = Store(tmp_path / "store")
    run = Run(tmp_path, (Checkpoint(tmp_path / "checkpoint-10", 10),))
    jobs.create_job(store, ScoringSpec("lr1", "gsm8k", backend), run, "t", tiny.sums(0, 1), [])
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InstallationError, match=rf"pip install 'premem\[{extra}\]'"):
        jobs.start_job(store, "lr1")
    assert sorted(tmp_path.rglob("*")) == before


def test_the_score_page_without_what_scoring_needs_says_so_and_shows_no_form(tmp_path, monkeypatch):
    demo_study.install(tmp_path / "store")
    monkeypatch.setenv("PREMEM_STORE", str(tmp_path / "store"))
    monkeypatch.setitem(sys.modules, "torch", None)
    st.cache_resource.clear()
    page = AppTest.from_file(str(ROOT / "pages" / "score.py"), default_timeout=60).run()
    assert not page.exception
    assert len(page.warning) == 1
    assert (
        "the package torch is not installed; for scoring and fine-tuning, "
        "run: pip install 'premem[score]'"
    ) in seen(page)
    assert not page.text_input
