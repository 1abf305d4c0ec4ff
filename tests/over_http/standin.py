"""An HTTP server that knows nothing but SQL, as PostgREST does it: `POST /NAME` calls the function NAME(body bytea) in one transaction,
which reads the request from settings and leaves status and headers of its answer in others. A server that fails to commit is tried again.
Where NAME is a procedure, NAME(body bytea, INOUT status, headers, answer), it is called outside of a transaction: it commits as it goes on,
and what it began is not begun again.

    PGDATABASE=shop python3 tests/over_http/standin.py 8000
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from libpq import Connection, DatabaseError

TRIES = 5
CALL = """SELECT f.body, coalesce(nullif(current_setting('response.status', true), ''), '200') AS status,
                 coalesce(nullif(current_setting('response.headers', true), ''), '[]') AS headers
            FROM (SELECT http_api."{}"($1::bytea) AS body OFFSET 0) AS f"""
CALL_PROCEDURE = """CALL http_api."{}"($1::bytea, NULL, NULL, NULL)"""
TOLD = ("method", "path", "target", "headers", "try")
KIND = "SELECT p.prokind AS kind FROM pg_proc AS p WHERE p.pronamespace = 'http_api'::regnamespace AND p.proname = $1"
local = threading.local()


def tell(sql, told, is_local):
    for name, value in told.items():
        sql("SELECT set_config($1, $2, $3)", f"request.{name}", value, is_local)


def in_one_transaction(sql, name, body, told):
    sql("BEGIN")
    tell(sql, told, True)
    row, = sql(CALL.format(name), body)
    sql("COMMIT")
    return row["status"], json.loads(row["headers"]), row["body"] or b""


def in_its_own(sql, name, body, told):
    tell(sql, told, False)
    row, = sql(CALL_PROCEDURE.format(name), body)
    return row["status"], json.loads(row["headers"]), row["answer"] or b""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if len(body) < length:
            self.close_connection = True  # the client has gone before it had said all
            return
        answers = (self.answer(attempt, body) for attempt in range(1, TRIES + 1))
        status, headers, body = next((answer for answer in answers if answer), (503, [["Retry-After", "1"]], b""))
        # What was answered is committed; only now does the first byte leave.
        self.send_response(int(status))
        for name, value in headers:
            self.send_header(name, value)
        if int(status) not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        try:
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else body)
        except ConnectionError:
            self.close_connection = True  # the client has gone; it can ask again

    do_GET = do_HEAD = do_PATCH = do_PUT = do_DELETE = do_POST

    def answer(self, attempt, body):
        """Status, headers and body; None if the transaction is to be tried again."""
        path = urlsplit(self.path).path
        told = dict(zip(TOLD, (self.command, path, self.path, json.dumps({n.lower(): v for n, v in self.headers.items()}), attempt)))
        sql = local.sql = getattr(local, "sql", None) or Connection()
        again = True
        try:
            found = sql(KIND, path[1:])
            if not found:
                return 404, [], b""
            again = found[0]["kind"] == "f"
            return (in_one_transaction if again else in_its_own)(sql, path[1:], body, told)
        except DatabaseError as error:
            lost = sql.is_lost()
            if lost:
                sql.close()
                local.sql = None
            else:
                sql("ROLLBACK")
            if again and (lost or error.sqlstate in ("40001", "40P01")):
                return None
            return 500, [["Content-Type", "text/plain"]], error.sqlstate.encode()

    def finish(self):
        super().finish()
        if getattr(local, "sql", None):
            local.sql.close()
            local.sql = None

    def log_message(self, *_):
        """Says nothing: a request is nobody else's business."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


if __name__ == "__main__":
    Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
