"""libpq through ctypes: as much of a driver as a small HTTP server needs."""

import ctypes
import ctypes.util
import os
from pathlib import Path

BYTEA = 17
OK = (1, 2)  # PGRES_COMMAND_OK, PGRES_TUPLES_OK


def load():
    beside = Path(os.environ.get("PGBIN", "")).parent / "lib" / "libpq.so.5"
    library = ctypes.CDLL(str(beside) if beside.exists() else ctypes.util.find_library("pq"))
    pointers, texts = ("PQconnectdb", "PQexecParams"), ("PQgetvalue", "PQfname", "PQresultErrorField", "PQerrorMessage")
    for name in pointers + texts:
        getattr(library, name).restype = ctypes.c_void_p if name in pointers else ctypes.c_char_p
    return library


PQ = load()


class DatabaseError(Exception):
    def __init__(self, sqlstate, message):
        super().__init__(message)
        self.sqlstate = sqlstate


class Connection:
    """A connection to where the environment says (PGHOST and so on)."""

    def __init__(self):
        self.pointer = ctypes.c_void_p(PQ.PQconnectdb(b"client_encoding=UTF8 options='-c client_min_messages=warning'"))

    def is_lost(self):
        return PQ.PQstatus(self.pointer) != 0

    def close(self):
        PQ.PQfinish(self.pointer)

    def __call__(self, sql, *parameters):
        """The rows of a statement, each a dictionary. bytes are passed as bytea, all else as text."""
        values = [value if isinstance(value, bytes) or value is None else str(value).encode() for value in parameters]
        count, formats = len(values), [int(isinstance(value, bytes)) for value in parameters]
        result = ctypes.c_void_p(PQ.PQexecParams(
            self.pointer, sql.encode(), count, None, (ctypes.c_char_p * count)(*values),
            (ctypes.c_int * count)(*[len(value or b"") for value in values]), (ctypes.c_int * count)(*formats), 0))
        try:
            if PQ.PQresultStatus(result) not in OK:
                sqlstate = PQ.PQresultErrorField(result, ord("C")) or b"08006"
                raise DatabaseError(sqlstate.decode(), PQ.PQerrorMessage(self.pointer).decode())
            columns = range(PQ.PQnfields(result))
            return [{PQ.PQfname(result, column).decode(): self.value(result, row, column) for column in columns} for row in range(PQ.PQntuples(result))]
        finally:
            PQ.PQclear(result)

    @staticmethod
    def value(result, row, column):
        if PQ.PQgetisnull(result, row, column):
            return None
        text = PQ.PQgetvalue(result, row, column).decode()
        return bytes.fromhex(text[2:]) if PQ.PQftype(result, column) == BYTEA else text
