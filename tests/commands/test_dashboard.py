"""`premem dashboard` starts the pages of a store, from any working directory."""

import subprocess
import sys

import pytest

from premem_core.demo import demo_study
from tests.helpers.dashboards import get, interrupted, running
from tests.helpers.paths import ROOT

COMMAND = [sys.executable, "-P", "-m", "premem_core", "dashboard"]


def test_it_serves_the_pages_with_our_settings_until_ctrl_c(tmp_path):
    demo_study.install(tmp_path / "mine")
    # Python's own module of this name is not hidden by a file in the working directory.
    (tmp_path / "random.py").write_text("raise RuntimeError('not this one')")
    with running([*COMMAND, "--store", "mine"], tmp_path, PYTHONPATH=str(ROOT)) as (url, process):
        assert "<title>" in get(url)
        assert "BACKEND_BASE_URL" in get(f"{url}/curves")  # a route of serve.py's own
        printed = interrupted(process)
    assert f"URL: {url}" in printed  # the address that .streamlit/config.toml sets
    assert "Traceback" not in printed


@pytest.mark.parametrize("there", [[], ["notes.txt"]])
def test_a_folder_that_is_no_store_is_refused_and_left_as_it_is(tmp_path, there):
    for name in there:
        (tmp_path / name).touch()
    folder = tmp_path if there else tmp_path / "nowhere"
    done = subprocess.run(
        [*COMMAND, "--store", str(folder)],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert f"premem demo --store {folder}" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == there
