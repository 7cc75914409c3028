"""SQL of the user: it reads everything and changes nothing."""

import pytest

from premem_core.errors import StoreError
from premem_core.store.database import Store
from premem_core.store.sql import read_sql
from tests.helpers.stores import register


@pytest.fixture
def store(tmp_path) -> Store:
    store = Store(tmp_path)
    register(store)
    return store


def test_a_query_gives_a_frame_with_its_parameters_filled_in(store):
    rows = read_sql(store, "SELECT id, question FROM examples WHERE id > ? ORDER BY id", ["1"])
    assert rows.to_dict("list") == {"id": ["2", "3"], "question": ["q2", "q3"]}
    assert "examples" in read_sql(store, "SHOW TABLES")["name"].tolist()


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("DELETE FROM examples", "the query is DELETE, but it may only read"),
        ("SELECT 1; DROP TABLE examples", "SELECT and DROP"),
        ("COPY examples TO 'out.csv'", "the query is COPY"),
        ("ATTACH 'other.db'", "the query is ATTACH"),
        ("", "the query is empty"),
        ("SELECT nothing FROM examples", "the query failed"),
        ("SELEKT", "the query failed"),
    ],
)
def test_what_is_not_one_select_is_refused_in_one_sentence(store, query, sentence):
    with pytest.raises(StoreError, match=sentence):
        read_sql(store, query)
    assert len(read_sql(store, "SELECT * FROM examples")) == 4
