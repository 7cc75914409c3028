"""The wheel alone, in an empty environment without torch: `make test-wheel`.

It builds the wheel and installs it with its dependencies from the package index.
"""

import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.helpers.dashboards import get, interrupted, running
from tests.helpers.paths import ROOT

TRAIN = ROOT / "data" / "demo" / "train_1000.jsonl"

pytestmark = [pytest.mark.wheel, pytest.mark.timeout(900)]

EVERY_PAGE = """
import sys
from streamlit.testing.v1 import AppTest
from premem_core import installation
for page in sorted((installation.FILES / "pages").glob("*.py")):
    app = AppTest.from_file(str(installation.FILES / "app.py"), default_timeout=120)
    app.switch_page(f"pages/{page.name}").run()
    print(page.name, app.header[0].value, [e.message for e in app.exception], sep="|")
    print(*(warning.value for warning in app.warning if page.name == "score.py"))
assert "torch" not in sys.modules
"""
PM_TABLE = """
import premem_core as premem
print(premem.__version__, premem.open_store("store").premem("demo").shape)
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Path:
    """The folder of an environment's programs, in which the wheel is installed."""
    folder = tmp_path_factory.mktemp("wheel")
    build = ["wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)]
    subprocess.run([sys.executable, "-m", "pip", *build], check=True)
    [wheel] = folder.glob("premem-*.whl")
    venv.create(folder / "env", with_pip=True)
    programs = folder / "env" / "bin"
    subprocess.run([programs / "python", "-m", "pip", "install", "-q", wheel], check=True)
    return programs


@pytest.fixture(scope="module")
def folder(environment, tmp_path_factory) -> Path:
    """A working directory with the demo study in `store`."""
    folder = tmp_path_factory.mktemp("work")
    run(folder, environment / "premem", "demo", "--store", "store")
    return folder


def run(folder: Path, *command: object) -> str:
    done = subprocess.run(
        list(map(str, command)), cwd=folder, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_brings_no_torch_and_its_dependencies_fit_together(environment, tmp_path):
    python = environment / "python"
    assert "No broken requirements" in run(tmp_path, python, "-m", "pip", "check")
    installed = run(tmp_path, python, "-m", "pip", "list")
    assert "streamlit" in installed
    for package in ("torch", "transformers", "vllm", "ray", "openai"):
        assert f"\n{package} " not in installed, package


def test_premem_has_help_and_the_demo_study_is_analysed(environment, folder):
    assert "dashboard" in run(folder, environment / "premem", "--help")
    assert "26 checkpoints of 5 runs" in run(
        folder, environment / "premem", "fit", "--task", "demo"
    )
    assert run(folder, environment / "python", "-c", PM_TABLE) == "0.1.0 (26, 14)\n"


def test_every_page_of_the_dashboard_is_drawn_and_the_score_page_says_what_is_missing(
    environment, folder, monkeypatch
):
    monkeypatch.setenv("PREMEM_STORE", "store")
    shown = run(folder, environment / "python", "-P", "-c", EVERY_PAGE)
    pages = [line.split("|") for line in shown.splitlines() if "|" in line]
    assert [page[0] for page in pages] == sorted(p.name for p in (ROOT / "pages").glob("*.py"))
    assert all(page[2] == "[]" for page in pages), shown
    assert "run: pip install 'premem[score]'" in shown.replace("\\", "")  # escaped for Markdown


def test_the_dashboard_answers(environment, folder):
    command = [str(environment / "premem"), "dashboard"]
    with running(command, folder) as (url, process):
        assert "<title>" in get(url)
        assert "BACKEND_BASE_URL" in get(f"{url}/fits")
        assert "Traceback" not in interrupted(process)


@pytest.mark.parametrize(
    "command",
    [
        ("finetune", "base", "--train", TRAIN, "--out", "new"),
        ("score", ROOT / "data" / "demo" / "runs" / "lr3e-3_ep15_n1000", "--train",
         TRAIN, "--store", "new"),
        ("demo", "--rebuild", "--store", "new"),
    ],
    ids=lambda command: command[0],
)  # fmt: skip
def test_what_needs_torch_says_which_extra_to_install_and_leaves_nothing(
    environment, folder, command
):
    done = subprocess.run(
        [environment / "premem", *command], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "run: pip install 'premem[score]'" in done.stderr
    assert not (folder / "new").exists()
