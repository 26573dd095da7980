"""The URLs of what stores: the database and Redis. `config.Settings` takes them only as these functions do.

A password that is not percent-encoded falls apart in a URL, and its parts turn up as a host, a path or a port, which
are shown and logged. So what does not read as it must is refused here, and no refusal repeats any of it.
"""

from __future__ import annotations

import inspect
import re
import warnings
from urllib.parse import SplitResult, unquote, urlsplit

from psycopg2 import ProgrammingError
from psycopg2.extensions import make_dsn
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

DRIVERS = {
    "postgres": "postgresql+psycopg2",
    "postgresql": "postgresql+psycopg2",
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
}
ONE_SERVER = ("redis", "rediss")
SOCKET = "redis+unix"
SENTINEL = "redis+sentinel"
SEVERAL_SERVERS = (SENTINEL, "redis+cluster")
ENCODED = "a password's / ? # @ : and % are percent-encoded in it, such as %2F for /"
NO_DATABASE = f"must be a database URL such as postgresql://user:password@host/name; {ENCODED}"
NO_REDIS = f"must be a Redis URL such as redis://:password@host:6379/0 (docs/scaling.md has others); {ENCODED}"
UNKNOWN_OPTION = "has an option behind its ? that the driver does not take"
NOT_UTF8 = "asks for another encoding than UTF-8, which is always used: leave out charset and client_encoding"
UTF8 = {"utf8", "utf8mb3", "utf8mb4", "unicode"}  # as databases and drivers call it, whose own is set by `db`
# As SQLAlchemy takes a URL apart: what is left behind the user and password, if there are any.
AFTER_USER = re.compile(r"[\w+]+://(?:[^:/]*(?::[^@]*)?@)?(.*)", re.DOTALL)
OPTION = re.compile(r"\w+=.*")  # whether there is such a one is the driver's to say
OF_REDIS = re.compile(r"(username|password|client_name)=[^=]*")  # options that may hold an `@`
PASSWORD_OF_QUERY = re.compile(r"([?&][^=&]*pass[^=&]*=)[^&]*", re.IGNORECASE)
NO_HOST = re.compile(r"[\s\[\]@,]")
LARGEST_PORT = 65_535


def known_driver(name: str) -> str:
    """The driver of ours for a database URL's scheme: hosts hand out `postgres://` and `mysql://`."""
    return DRIVERS.get(name, name)


def database_url(text: str) -> str:
    """A database URL with our driver. Raises ValueError, with a sentence that holds nothing of it."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):  # ValueError: of a port that is none
        raise ValueError(NO_DATABASE) from None
    url = url.set(drivername=known_driver(url.drivername))
    if url.drivername not in {*DRIVERS.values(), "sqlite"}:
        raise ValueError("must start with sqlite:, postgresql: or mysql:")
    if url.drivername != "sqlite" and not _is_whole(text, url):
        raise ValueError(NO_DATABASE)
    _asked_of_the_driver(url)
    encodings = (*url.normalized_query.get("charset", ()), *url.normalized_query.get("client_encoding", ()))
    if any(re.sub("[^a-z0-9]", "", name.lower()) not in UTF8 for name in encodings):
        raise ValueError(NOT_UTF8)
    return url.render_as_string(hide_password=False)


def shown_database(text: str) -> str:
    """A database URL for people, without its passwords."""
    return PASSWORD_OF_QUERY.sub(r"\1***", make_url(text).render_as_string(hide_password=True))


def redis_url(text: str) -> str:
    """A Redis URL of which each part can be told. Raises ValueError, with a sentence that holds nothing of it."""
    try:
        found = urlsplit(text)
        reads = not found.fragment and _is_server(found) and not _has_stray_sign(found.query, OF_REDIS)
    except ValueError:  # of a port that is none, or a bracket
        reads = False
    if not reads:
        raise ValueError(NO_REDIS)
    return text


def account(url: str) -> dict[str, str]:
    """User and password in a Redis URL that names several servers, decoded; empty for one that names one server, whose
    client decodes them itself.
    """
    found = urlsplit(url)
    given = {"username": unquote(found.username or ""), "password": unquote(found.password or "")}
    return {name: value for name, value in given.items() if value and found.scheme in SEVERAL_SERVERS}


def _is_whole(text: str, url: URL) -> bool:
    rest = AFTER_USER.fullmatch(text)
    place, _, query = (rest[1] if rest else "@").partition("?")
    strays = "@" in place or (url.username is not None and _has_stray_sign(query, OPTION))
    port = 1 if url.port is None else url.port
    return not strays and 0 < port <= LARGEST_PORT


def _is_server(url: SplitResult) -> bool:
    if url.scheme == SOCKET:  # of an account there may be, no host: `user:password@` and the path
        return bool(url.path) and (not url.netloc or url.netloc.endswith("@"))
    if "@" in url.path:
        return False
    if url.scheme in ONE_SERVER:
        return url.port != 0 and (not url.hostname or not NO_HOST.search(url.hostname))
    servers = [urlsplit(f"//{each.strip()}") for each in url.netloc[url.netloc.find("@") + 1 :].split(",")]
    named = url.scheme != SENTINEL or bool(url.path.strip("/"))
    return url.scheme in SEVERAL_SERVERS and named and all(each.hostname and each.port for each in servers)


def _has_stray_sign(query: str, option: re.Pattern[str]) -> bool:
    """True for an `@` that belongs to no option: what is before it was meant for a password."""
    return any("@" in pair and not option.fullmatch(pair) for pair in query.split("&"))


def _asked_of_the_driver(url: URL) -> None:
    """Raise ValueError for what would end the first connection instead."""
    dialect = url.get_dialect()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an option that SQLite ignores
            _, options = dialect().create_connect_args(url)
        if dialect.name == "postgresql":
            make_dsn(**options)
        elif dialect.name == "mysql":
            inspect.signature(dialect.import_dbapi().connect).bind(**options)
    except (ArgumentError, UnicodeError):  # of a host before the file of SQLite, of what is no UTF-8
        raise ValueError(NO_DATABASE) from None
    except (ProgrammingError, TypeError, ValueError):
        raise ValueError(UNKNOWN_OPTION) from None
