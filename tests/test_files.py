"""A file that is there whole or not at all, and what lies beside it."""

import pytest

from premem_core.errors import UsageError
from premem_core.files import write_whole


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
