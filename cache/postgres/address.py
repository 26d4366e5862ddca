"""Where a PostgreSQL database is: a URL, shown without its password."""

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from cache.errors import StoreError

_DEFAULTS = {
    "application_name": "taco-rewards",
    "connect_timeout": "5",  # seconds
    "tcp_user_timeout": "10000",  # milliseconds until a silent network counts as a lost connection
}


def conninfo(url: str) -> str:
    """What libpq connects with; the URL's own options win over our time limits.

    Raises:
        StoreError: no URL that libpq understands.
    """
    return make_conninfo(**(_DEFAULTS | _parsed(url) | {"client_encoding": "utf8"}))


def shown(url: str) -> str:
    """The URL for messages: user, host, port and database, no password and no options."""
    parts = _parsed(url)
    user = f"{parts['user']}@" if parts.get("user") else ""
    port = f":{parts['port']}" if parts.get("port") else ""
    return f"postgresql://{user}{parts.get('host', 'localhost')}{port}/{parts.get('dbname', '')}"


def _parsed(url: str) -> dict[str, str]:
    try:
        return {name: str(value) for name, value in conninfo_to_dict(url).items()}
    except psycopg.ProgrammingError:
        # libpq's own message quotes the URL, and with it the password.
        raise StoreError(
            "the store's URL cannot be read: expected "
            "postgresql://user:password@host:5432/database, special characters as %40 and the like"
        ) from None
