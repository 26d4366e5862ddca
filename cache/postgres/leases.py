"""The right to ask upstream for a key: held by one service at a time, for a limited time.

A lease is a row that expires by the database's clock. Its token is a number that no other lease
ever has, so that a service which was asleep past its time learns that it holds nothing any more.
Its answer is harmless even then: the first one that was committed stays.
"""

import os
import socket
from collections.abc import Collection
from typing import Any

from cache.database import Connection
from cache.postgres.link import Link
from cache.postgres.sessions import fleeting_session

# In the order of the keys, everywhere: who locks rows in one order never waits in a circle.
_TAKE = """
WITH clock AS (SELECT extract(epoch FROM clock_timestamp()) AS now)
INSERT INTO leases (key, holder, expires_at)
SELECT wanted.key, ?, now + ? FROM clock, unnest(?::bytea[]) AS wanted (key)
WHERE NOT EXISTS
    (SELECT 1 FROM leases AS held WHERE held.key = wanted.key AND held.expires_at >= now)
ORDER BY wanted.key
ON CONFLICT (key) DO UPDATE
SET token = excluded.token, holder = excluded.holder, expires_at = excluded.expires_at
WHERE leases.expires_at < (SELECT now FROM clock)
RETURNING key, token
"""
_RENEW = """
UPDATE leases SET expires_at = extract(epoch FROM clock_timestamp()) + ? WHERE token IN
    (SELECT token FROM leases WHERE token = ANY(?::bigint[]) ORDER BY key FOR UPDATE)
RETURNING token
"""
_GIVE_BACK = """
DELETE FROM leases WHERE token IN
    (SELECT token FROM leases WHERE token = ANY(?::bigint[]) ORDER BY key FOR UPDATE)
RETURNING token
"""


class Leases:
    """The leases of one database, as one service takes them. Every method from any thread.

    Args:
        url: The database.
        seconds: How long a lease lasts unless it is renewed.
    """

    def __init__(self, url: str, seconds: float) -> None:
        self.seconds = seconds
        self._holder = f"process {os.getpid()} on {socket.gethostname()}"  # For people to read.
        self._link = Link(url, fleeting_session, transaction=False)

    def take(self, keys: Collection[bytes]) -> dict[bytes, int]:
        """Take what nobody holds, or held too long; the keys taken, with their tokens."""
        values = [self._holder, self.seconds, list(keys)]
        return {bytes(key): int(token) for key, token in self._run(_TAKE, values)}

    def renew(self, tokens: Collection[int]) -> set[int]:
        """Hold on for another while; those of `tokens` that are still held."""
        return {int(token) for (token,) in self._run(_RENEW, [self.seconds, list(tokens)])}

    def give_back(self, tokens: Collection[int]) -> set[int]:
        """Let others have them; those of `tokens` that were still held."""
        return {int(token) for (token,) in self._run(_GIVE_BACK, [list(tokens)])}

    def close(self) -> None:
        """Close the connection. What is still held expires."""
        self._link.close()

    def _run(self, statement: str, values: list[Any]) -> list[Any]:
        def run(connection: Connection) -> list[Any]:
            return list(connection.execute(statement, values))

        return self._link.run(run)
