"""The store's folder and its database: opening, locking and the version."""

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

# What DuckDB raises when the disk is full: in a statement, in a commit, and in any later statement.
WRITE_ERRORS = (duckdb.IOException, duckdb.TransactionException, duckdb.FatalException)
# DuckDB's message when a signal handler raises while a statement runs, as on Ctrl-C.
INTERRUPTED = "Query interrupted"

COARSEST_CLOCK = 2.0  # seconds; some file systems round a file's time to this


class Store:
    """A store folder, which is created if it does not exist.

    Args:
        create: if False, the store must exist.

    Raises:
        StoreError: the folder cannot be created, or is not a store, or a newer Premem wrote it.
    """

    def __init__(self, path: Path | str, *, create: bool = True) -> None:
        self.path = Path(path)
        self.database = self.path / "premem.duckdb"
        if create:
            self._make_folders()
        if not self.database.exists():
            if not create:
                raise StoreError(
                    f"{self.path} is not a store (no premem.duckdb in it); give a store's folder"
                )
            with self.lock(fcntl.LOCK_EX), self._connect(read_only=False) as connection:
                migrate(connection)
        schema = self._schema()
        if schema > len(MIGRATIONS):
            raise StoreError(
                f"the store {self.path} has schema {schema}, but this Premem knows only schema "
                f"{len(MIGRATIONS)}; update Premem"
            )
        if schema < len(MIGRATIONS):
            with self.writing():
                pass
        self._stamp: list[tuple[int, int]] = []  # times and sizes of the files for `_version`
        self._version = 0

    def _make_folders(self) -> None:
        try:
            for name in ("inbox", "completions", "checkpoints", "jobs"):
                (self.path / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"the store {self.path} cannot be created ({error.strerror}); give a folder that "
                "can be written to"
            ) from error

    def _schema(self) -> int:
        with self.reading() as connection:
            try:
                return read_meta(connection, "schema")
            except duckdb.CatalogException:  # the process that created it was killed
                return 0

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A read-only connection, under the lock that readers share."""
        with self.lock(fcntl.LOCK_SH), self._connect(read_only=True) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection under the exclusive lock, in one transaction that raises the version."""
        with self.lock(fcntl.LOCK_EX), self.transaction() as connection:
            yield connection

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """As `writing`, for a caller that holds the exclusive lock already.

        Raises:
            StoreError: the database cannot be opened or written; nothing was changed.
        """
        with self._connect(read_only=False) as connection:
            migrate(connection)
            try:
                connection.begin()
                try:
                    yield connection
                    connection.execute("UPDATE meta SET value = value + 1 WHERE key = 'version'")
                except BaseException:
                    with suppress(duckdb.Error):  # the error may have ended the transaction
                        connection.rollback()
                    raise
                connection.commit()
            except WRITE_ERRORS as error:
                reason = str(error).splitlines()[0]
                raise StoreError(
                    f"{self.database} could not be written ({reason}); nothing was changed: free "
                    "space on its disk and try again"
                ) from error

    def lock(self, kind: int) -> AbstractContextManager[None]:
        """Hold the store's lock; `kind` is as in `files.flock`."""
        # Not on the database file itself: closing a handle of it would release DuckDB's lock.
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
        """A counter that rises with every commit; caches use it as a key.

        Opening the database takes 20 ms. So the counter is read again only if the database's files
        have changed, or may have changed within the precision of their times.
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
        """Write a copy of the database to `file`, without the unused space in it."""
        with self.lock(fcntl.LOCK_SH), connect() as connection:
            connection.execute(f"ATTACH '{_quoted(self.database)}' AS ours (READ_ONLY)")
            connection.execute(f"ATTACH '{_quoted(file)}' AS copied")
            connection.execute("COPY FROM DATABASE ours TO copied")

    def relative(self, path: Path) -> str:
        """`path` as it is stored: relative if inside the store, so that the store can move."""
        path, home = path.resolve(), self.path.resolve()
        return str(path.relative_to(home) if path.is_relative_to(home) else path)

    def job_folder(self, run: str) -> Path:
        """The folder of a run's scoring job, which is created when a job starts."""
        return self.path / "jobs" / quote(run, safe="")


@contextmanager
def connect(database: str = ":memory:", **options: Any) -> Iterator[Connection]:
    """A DuckDB connection without a progress bar, which would be mixed into a command's output."""
    try:
        with duckdb.connect(database, **options) as connection:
            connection.execute("SET enable_progress_bar = false")
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
    """These columns of the result of a query, in this order."""
    with store.reading() as connection:
        return connection.execute(query, parameters).df()[list(columns)]
