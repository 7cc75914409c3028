"""The files of a scoring job are known in one place."""

import re

from premem_core.store.database import Store
from premem_core.store.job_folder import JobFolder, runs_with_jobs
from tests.helpers.paths import ROOT

FILES = ("job.json", "queries.parquet", "execution.json", "state.json", "log.txt", "turn.lock")


def test_a_folder_holds_a_job_once_its_description_is_there(tmp_path):
    store, run = Store(tmp_path), "lr 2e-5/é.1"
    folder = JobFolder.of(store, run)
    folder.path.mkdir()
    folder.state.touch()
    assert not folder.holds_job
    assert runs_with_jobs(store) == []
    folder.description.touch()
    assert folder.holds_job
    assert runs_with_jobs(store) == [run]


def test_no_other_file_builds_the_paths_of_a_job():
    built = re.compile("|".join(rf'/ f?"{re.escape(name)}"' for name in FILES))
    for file in [*(ROOT / "premem_core").rglob("*.py"), *(ROOT / "pages").glob("*.py")]:
        if file.name != "job_folder.py":
            assert not built.search(file.read_text()), file
