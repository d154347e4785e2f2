"""Several processes that begin on one new folder at the same moment all get to work."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier

from relay.store.database import Database

AT_ONCE = 4


def test_a_new_file_is_opened_by_several_at_once(tmp_path: Path) -> None:
    """SQLite itself does not wait where two change the mode of a new file: whoever is late tries again."""
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for number in range(25):
            file, start = tmp_path / str(number) / "relay.sqlite", Barrier(AT_ONCE)

            def begin(_: int, file: Path = file, start: Barrier = start) -> int:
                database = Database(file, busy=timedelta(seconds=5))
                start.wait()
                try:
                    return int(database.run(lambda db: db.execute("select count(*) from rows").fetchone()[0]))
                finally:
                    database.close()

            assert list(threads.map(begin, range(AT_ONCE))) == [0] * AT_ONCE
