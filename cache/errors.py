"""The cache's errors: one tree, one place.

CacheError
├── CanonicalError             a value has no canonical JSON, or a text is no strict JSON
├── ExportError                an export cannot be read or written, is cut short, or was changed
├── ConflictError              two stores answer differently, and that was to be an error
├── LockFileError              a run's lock file cannot be read
└── StoreError                 the store cannot do what was asked
    ├── StoreLocked            another process writes to it
    ├── StoreUnwritable        it can be read, but nothing can be added
    │   ├── StoreFull          no space left
    │   ├── StoreReadOnly      opened for reading, or the folder forbids writing
    │   └── StoreUnreachable   the database server does not answer
    ├── StoreDamaged           not a database, or one with damaged pages
    ├── SchemaTooNew           written by a newer version of this program
    ├── SearchTooLong          a search by text that a store of this size has no time for
    └── UnsupportedFilesystem  a network file system
"""


class CacheError(Exception):
    """Base of everything that the cache raises on purpose.

    The message says what was expected, what came, and what to do.
    """


class CanonicalError(CacheError, ValueError):
    """A value that canonical JSON cannot carry exactly, or a text that is no strict JSON."""


class ExportError(CacheError):
    """An export cannot be read or written, is cut short, or was changed."""


class ConflictError(CacheError):
    """Two stores answer the same request differently, and that was to be an error."""


class LockFileError(CacheError):
    """A run's lock file cannot be read."""


class StoreError(CacheError):
    """The store cannot do what was asked."""


class StoreLocked(StoreError):
    """Another process holds the store for writing."""


class StoreUnwritable(StoreError):
    """Nothing can be added to the store at the moment; what it holds can still be read."""


class StoreFull(StoreUnwritable):
    """There is no space left for the store to grow."""


class StoreReadOnly(StoreUnwritable):
    """The store was opened for reading, or its file or folder forbids writing."""


class StoreUnreachable(StoreUnwritable):
    """The database server does not answer; until it does, nothing can be read either."""


class StoreDamaged(StoreError):
    """The file is not a database, or some of its pages are damaged."""


class SchemaTooNew(StoreError):
    """The store was written by a newer version of this program."""


class UnsupportedFilesystem(StoreError):
    """The store lies on a network file system, where SQLite's locks and shared memory fail."""


class SearchTooLong(StoreError):
    """A search by text that a store of this size has no time for."""

    def __init__(self) -> None:
        super().__init__("that search takes too long in a store of this size: add a rarer word")
