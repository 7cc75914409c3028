"""A file that is there whole or not at all, and what lies beside it."""

import errno
import os

import pytest

from premem_core.errors import UsageError
from premem_core.files import replace_file, sweep_unfinished, unfinished_name, write_whole


def test_what_lies_beside_it_stays(tmp_path):
    beside = tmp_path / "out.tmp"
    beside.mkdir()
    (beside / "precious").write_text("kept")
    with write_whole(tmp_path / "out") as unfinished:
        unfinished.mkdir()
    assert (beside / "precious").read_text() == "kept"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["out", "out.tmp"]


def test_a_failure_leaves_what_was_there(tmp_path):
    file = tmp_path / "out"
    file.write_text("before")

    def fail() -> None:
        with write_whole(file) as unfinished:
            unfinished.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert file.read_text() == "before"
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


def test_a_link_is_followed(tmp_path):
    (tmp_path / "there").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "there" / "file")
    with write_whole(link) as unfinished:
        unfinished.write_text("new")
    assert link.is_symlink()
    assert (tmp_path / "there" / "file").read_text() == "new"


def test_where_nothing_can_be_written_is_one_sentence(tmp_path):
    with (
        pytest.raises(UsageError, match=r"cannot write .*No such file"),
        write_whole(tmp_path / "nowhere" / "out"),
    ):
        pass


def test_a_file_is_replaced_whole(tmp_path):
    file = tmp_path / "state.json"
    for content in (b"first", b"second", b""):
        replace_file(file, content, to_disk=True)
        assert file.read_bytes() == content
    assert [beside.name for beside in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_a_replacement_that_fails_leaves_the_file_and_nothing_beside_it(
    tmp_path, monkeypatch, error
):
    def fail(_):
        raise error

    file = tmp_path / "job.json"
    file.write_bytes(b"before")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(type(error)):
        replace_file(file, b"after", to_disk=True)
    assert file.read_bytes() == b"before"
    assert [beside.name for beside in tmp_path.iterdir()] == ["job.json"]


def test_two_writers_of_one_file_never_write_into_the_same_one(tmp_path):
    names = {unfinished_name("shard.parquet") for _ in range(100)}
    assert len(names) == 100
    assert all(name.startswith("shard.parquet.") and name.endswith(".tmp") for name in names)
    assert max(map(len, names)) <= len("shard.parquet") + 14


def test_a_replaced_file_may_be_read_by_whom_the_umask_lets(tmp_path):
    before = os.umask(0o022)
    try:
        replace_file(tmp_path / "shard", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "shard").stat().st_mode & 0o777 == 0o644


def test_a_sweep_removes_unfinished_files_by_the_name_that_they_would_have_got(tmp_path):
    kept = [tmp_path / "a.parquet", tmp_path / unfinished_name("b.parquet")]
    for file in [*kept, tmp_path / unfinished_name("a.parquet")]:
        file.touch()
    sweep_unfinished(tmp_path, lambda name: name == "a.parquet")
    assert sorted(tmp_path.iterdir()) == sorted(kept)
    sweep_unfinished(tmp_path)
    assert sorted(tmp_path.iterdir()) == kept[:1]
