"""The store's folder and its database: how it is opened, locked and versioned."""

import fcntl
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb
import pandas as pd

from premem_core.errors import StoreError
from premem_core.files import flock
from premem_core.store.schema import MIGRATIONS, Connection, migrate, read_meta

# What a full disk makes of a statement, a commit, and what is asked of the connection after it.
WRITE_ERRORS = (duckdb.IOException, duckdb.TransactionException, duckdb.FatalException)
# What DuckDB makes of whatever a signal raises while a statement runs: Ctrl-C, or a job cancelled.
INTERRUPTED = "Query interrupted"


COARSEST_CLOCK = 2.0  # seconds between two times of a file, on the worst of file systems


class Store:
    """A store folder; made on first use.

    Raises:
        StoreError: the folder cannot be made, or a newer Premem wrote it.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.database = self.path / "premem.duckdb"
        try:
            for name in ("inbox", "completions", "checkpoints", "jobs"):
                (self.path / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"the store {self.path} cannot be made ({error.strerror}); give a writable folder"
            ) from error
        if not self.database.exists():
            with self.lock(fcntl.LOCK_EX), self._connect(read_only=False) as connection:
                migrate(connection)
        schema = self._schema()
        if schema > len(MIGRATIONS):
            raise StoreError(
                f"the store {self.path} has schema {schema}, this Premem knows {len(MIGRATIONS)}; "
                "update Premem"
            )
        if schema < len(MIGRATIONS):
            with self.writing():
                pass
        self._stamp: list[tuple[int, int]] = []  # of the files when `_version` was read
        self._version = 0

    def _schema(self) -> int:
        with self.reading() as connection:
            try:
                return read_meta(connection, "schema")
            except duckdb.CatalogException:  # killed before its first table: made now
                return 0

    # How the database is reached

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A read-only connection under the shared lock; closed at the end."""
        with self.lock(fcntl.LOCK_SH), self._connect(read_only=True) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection under the exclusive lock: one transaction, and the version rises by one."""
        with self.lock(fcntl.LOCK_EX), self.transaction() as connection:
            yield connection

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        with self._connect(read_only=False) as connection:
            migrate(connection)
            try:
                connection.begin()
                try:
                    yield connection
                    connection.execute("UPDATE meta SET value = value + 1 WHERE key = 'version'")
                except BaseException:
                    with suppress(duckdb.Error):  # what went wrong may have ended it already
                        connection.rollback()
                    raise
                connection.commit()
            except WRITE_ERRORS as error:
                reason = str(error).splitlines()[0]
                raise StoreError(
                    f"{self.database} could not be written ({reason}); nothing was changed: free "
                    "space on its disk and do it again"
                ) from error

    def lock(self, kind: int) -> AbstractContextManager[None]:
        # A file of its own: closing a handle of the database file would drop DuckDB's own lock.
        return flock(self.path / "premem.lock", kind)

    @contextmanager
    def _connect(self, read_only: bool) -> Iterator[Connection]:
        config = {"autoinstall_known_extensions": False, "autoload_known_extensions": False}
        with ExitStack() as stack:
            try:
                opened = stack.enter_context(
                    connect(str(self.database), read_only=read_only, config=dict(config))
                )
            except duckdb.Error as error:
                reason = str(error).splitlines()[0]
                raise StoreError(
                    f"{self.database} cannot be opened ({reason}); close other programs that use "
                    "it, or restore it from a copy"
                ) from error
            yield opened

    def version(self) -> int:
        """A counter that each commit raises: the key of every cache.

        Opening the database takes 20 ms, so it is read again only where its files have changed, or
        did so too lately for their times to tell.
        """
        stamp = []
        for file in (self.database, self.database.with_name(f"{self.database.name}.wal")):
            with suppress(FileNotFoundError):
                stat = file.stat()
                stamp.append((stat.st_mtime_ns, stat.st_size))
        changed = max(stamp, default=(0, 0))[0] / 1e9
        if stamp != self._stamp or time.time() - changed < COARSEST_CLOCK:
            with self.reading() as connection:
                self._version = read_meta(connection, "version")
            self._stamp = stamp
        return self._version

    def copy_database(self, file: Path) -> None:
        """Write the database anew, without the room that was freed in it."""
        with self.lock(fcntl.LOCK_SH), connect() as connection:
            connection.execute(f"ATTACH '{_quoted(self.database)}' AS ours (READ_ONLY)")
            connection.execute(f"ATTACH '{_quoted(file)}' AS copied")
            connection.execute("COPY FROM DATABASE ours TO copied")

    def relative(self, path: Path) -> str:
        """`path` as the store writes it down: relative when inside it, so that it can move."""
        path, home = path.resolve(), self.path.resolve()
        return str(path.relative_to(home) if path.is_relative_to(home) else path)

    def job_folder(self, run: str) -> Path:
        """Where the scoring job of a run keeps its state; made by who starts one."""
        return self.path / "jobs" / quote(run, safe="")


@contextmanager
def connect(database: str = ":memory:", **options: Any) -> Iterator[Connection]:
    """DuckDB without the progress bar that it would print into a command's output."""
    with duckdb.connect(database, **options) as connection:
        connection.execute("SET enable_progress_bar = false")
        try:
            yield connection
        except RuntimeError as error:
            if str(error) != INTERRUPTED:
                raise
            raise KeyboardInterrupt from error


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def read_frame(
    store: Store, query: str, columns: Sequence[str], parameters: Sequence[object] = ()
) -> pd.DataFrame:
    """What a query gives, only these columns, in order."""
    with store.reading() as connection:
        return connection.execute(query, parameters).df()[list(columns)]
