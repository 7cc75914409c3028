"""DESIGN: imports run one way, and the viewing half never loads a model library."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / "premem_core"
STREAMLIT = {
    "ui.py",
    "score_form.py",
    "grade_form.py",
    "curate_form.py",
    "jobs_panel.py",
    "folder_upload.py",
    "data_file.py",
}

# What each layer may import of premem_core, lowest first; a module may use any layer below its own.
LAYERS = (
    {"errors", "types", "locks", "shards", "schema", "page_html", "whole_file"},
    {"redrawing", "rewording"},
    {"perturbations", "metrics", "sampling_plan", "estimators", "fits", "thresholds", "baselines"},
    {"checkpoints", "store", "causal_lm", "grading", "uploads", "wordproblems", "duplicates"},
    {
        "backends",
        "datasets",
        "curves",
        "published",
        "training",
        "regrading",
        "comparison",
        "weights",
        "gradients",
    },
    {"scoring", "replay", "robustness", "caveats", "weight_pass"},
    {"question_left_out"},
    {"prediction", "completions", "example_table", "overrides", "labels"},
    {"rankings"},
    {"gates"},
    {"curation"},
    {"data_card"},
    {"exports"},
    {"collection", "endpoint"},
    {"generation"},
    {"figures"},
    {"analysis"},
    {"report"},
    {"progress", "worker"},
    {"processes", "cluster", "job_record"},
    {"dispatcher"},
    {"jobs"},
    {"job_estimate"},
    {"ui", "folder_upload", "demo"},
    {"experiment", "data_file"},
    {"score_form", "grade_form", "curate_form"},
    {"jobs_panel"},
    {"commands"},
    {"__main__"},
)
PAGES_MAY_USE = {
    "curves",
    "figures",
    "fits",
    "metrics",
    "ui",
    "score_form",
    "store",
    "errors",
    "types",
}
MAY_ALSO_USE = {
    "score.py": {
        "backends",
        "checkpoints",
        "data_file",
        "datasets",
        "grading",
        "jobs",
        "jobs_panel",
        "perturbations",
        "scoring",
    },
    "curves.py": {"jobs_panel"},
    "fits.py": {"analysis", "baselines", "prediction", "report", "thresholds"},
    "map.py": {"example_table"},
    "examples.py": {"example_table"},
    "example.py": {"completions", "example_table", "grade_form", "perturbations", "robustness"},
    "robustness.py": {"completions", "perturbations", "robustness"},
    "grades.py": {"completions", "grade_form", "regrading"},
    "compare.py": {"comparison", "completions"},
    "curate.py": {
        "collection",
        "curate_form",
        "curation",
        "exports",
        "gates",
        "rankings",
    },
}


def imports(file: Path) -> set[str]:
    """Top-level imports, those inside functions included, as dotted names."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return names


def core_modules(file: Path) -> set[str]:
    parts = [name.split(".") for name in imports(file) if name.startswith("premem_core.")]
    return {part[1] for part in parts}


def module(file: Path) -> str:
    return file.relative_to(CORE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("file", sorted(CORE.rglob("*.py")), ids=lambda f: f.name)
def test_imports_run_one_way(file):
    name = module(file)
    if name == "__init__":
        return
    level = next(n for n, layer in enumerate(LAYERS) if name in layer)
    allowed = set().union(*LAYERS[: level + 1])
    assert core_modules(file) <= allowed


def test_every_module_stands_in_one_layer():
    names = [name for layer in LAYERS for name in layer]
    assert sorted(names) == sorted({module(f) for f in CORE.rglob("*.py")} - {"__init__"})


@pytest.mark.parametrize("file", sorted(CORE.rglob("*.py")), ids=lambda f: f.name)
def test_only_the_viewing_modules_know_streamlit_and_only_the_store_knows_sql(file):
    names = {name.split(".")[0] for name in imports(file)}
    assert ("streamlit" in names) == (file.name in STREAMLIT)
    assert ("duckdb" in names) == (file.name in ("store.py", "schema.py"))


@pytest.mark.parametrize("file", sorted((ROOT / "pages").glob("*.py")), ids=lambda f: f.name)
def test_a_page_reads_computes_and_draws_and_nothing_else(file):
    allowed = PAGES_MAY_USE | MAY_ALSO_USE.get(file.name, set())
    assert core_modules(file) <= allowed
    assert {name.split(".")[0] for name in imports(file)} <= {"streamlit", "premem_core"}


def test_the_dashboard_starts_without_a_model_library():
    code = """
import sys, premem_core.ui, premem_core.score_form, premem_core.jobs, premem_core.__main__
loaded = {"torch", "transformers", "vllm", "ray", "peft"} & set(sys.modules)
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_nothing_unpickles_or_trusts_remote_code():
    for file in [*CORE.rglob("*.py"), *(ROOT / "pages").glob("*.py")]:
        text = file.read_text()
        assert not {"pickle", "joblib", "dill", "marshal"} & imports(file), file
        assert "trust_remote_code=True" not in text, file
        assert "allow_pickle=True" not in text, file
        assert "torch.load" not in text, file


def test_a_page_with_a_fragment_of_its_own_is_not_drawn_in_one():
    named = next(
        ast.literal_eval(node.value)
        for node in ast.parse((ROOT / "app.py").read_text()).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets) == "WITH_FRAGMENTS"
    )
    own = {"jobs_panel", "fragment"}
    having = [
        page.name
        for page in (ROOT / "pages").glob("*.py")
        for node in ast.walk(ast.parse(page.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in own
    ]
    assert set(having) == set(named)
