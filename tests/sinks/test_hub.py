"""The hub: the requests of huggingface_hub itself, answered on this machine."""

import shutil

import pandas as pd
import pytest
from huggingface_hub import constants

from premem_core.curation import export, selection
from premem_core.errors import PushError, UsageError
from premem_core.sinks.hub import push_dataset
from premem_core.store.database import Store
from tests.helpers.hubs import served_hub
from tests.helpers.recipes import LOW, recipe

REPOSITORY = "me/hard-sums"


@pytest.fixture(scope="module")
def folder(stores, tmp_path_factory):
    """A curated data set."""
    asked = recipe(LOW)
    store = Store(stores / "full")
    _, issues, chosen = selection.build_selection(store, asked)
    made = tmp_path_factory.mktemp("curated") / "hard"
    export.export_folder(store, chosen, asked, issues, 60, made)
    return made


@pytest.fixture
def hub(monkeypatch):
    with served_hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
        monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        yield hub


def test_the_data_and_the_card_arrive_in_a_private_repository_under_the_users_token(folder, hub):
    address = push_dataset(folder, REPOSITORY)
    assert address == f"{hub.url}/datasets/{REPOSITORY}"
    assert hub.private == {REPOSITORY: True}
    [files] = hub.commits
    assert files == {
        part: (folder / part).read_bytes()
        for part in ("README.md", "recipe.yaml", "data/train.parquet")
    }
    assert {token for path, token in hub.requests if "repos" in path or "datasets" in path} == {
        "hf_of_a_test"
    }


def test_a_folder_that_is_pushed_again_makes_no_commit_and_a_changed_card_makes_one(
    folder, hub, tmp_path
):
    push_dataset(folder, REPOSITORY)
    push_dataset(folder, REPOSITORY)
    assert len(hub.commits) == 1
    changed = shutil.copytree(folder, tmp_path / "changed")
    (changed / "README.md").write_text("changed")
    push_dataset(changed, REPOSITORY)
    assert list(hub.commits[1]) == ["README.md"]


def test_a_public_repository_gets_data_only_where_that_is_asked_for(folder, hub):
    hub.private[REPOSITORY] = False
    with pytest.raises(UsageError, match="is public, and everyone would see the data"):
        push_dataset(folder, REPOSITORY)
    assert hub.commits == []
    push_dataset(folder, REPOSITORY, public=True)
    push_dataset(folder, "me/new", public=True)
    assert hub.private == {REPOSITORY: False, "me/new": False}


def test_what_cannot_be_pushed_is_one_sentence(folder, hub, tmp_path, monkeypatch):
    pd.DataFrame({"question": ["1+1?"]}).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(UsageError, match=r"is not a curated data set \(README.md is missing"):
        push_dataset(tmp_path, REPOSITORY)
    with pytest.raises(UsageError, match="--repo takes OWNER/NAME, not 'a/b/c'"):
        push_dataset(folder, "a/b/c")
    assert hub.requests == []
    hub.status = 403
    with pytest.raises(PushError, match=r"the hub did not take .*hard: ") as refused:
        push_dataset(folder, REPOSITORY)
    assert "\n" not in str(refused.value)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody answers
    with pytest.raises(PushError, match="the hub did not take"):
        push_dataset(folder, REPOSITORY)
