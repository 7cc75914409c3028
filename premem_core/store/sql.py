"""SQL queries of the user, which can read all of the store and change nothing."""

from collections.abc import Sequence

import duckdb
import pandas as pd

from premem_core.errors import StoreError
from premem_core.store.database import Store

# The names that DuckDB gives to statements that only read. DESCRIBE and SHOW count as SELECT.
READING = ("SELECT", "EXPLAIN")


def read_sql(store: Store, query: str, parameters: Sequence[object] = ()) -> pd.DataFrame:
    """The result of one SELECT in DuckDB's dialect.

    Args:
        parameters: the values for the `?` in the query.

    Raises:
        StoreError: the query is not one SELECT, or DuckDB refuses it.
    """
    try:
        with store.reading() as connection:
            kinds = [statement.type.name for statement in connection.extract_statements(query)]
            if len(kinds) != 1 or kinds[0] not in READING:
                raise StoreError(
                    f"the query is {' and '.join(kinds) or 'empty'}, but it may only read the "
                    "store; give one SELECT"
                )
            return connection.execute(query, parameters).df()
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        raise StoreError(f"the query failed ({reason}); correct it") from error
