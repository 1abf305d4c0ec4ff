"""An HTTP server that knows nothing but SQL, as PostgREST does it: `POST /NAME` calls the function NAME(body bytea) in one transaction,
which reads the request from settings and leaves status and headers of its answer in others. A server that fails to commit is tried again.

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
TOLD = ("method", "path", "target", "headers", "try")
KNOWN = "SELECT p.proname AS name FROM pg_proc AS p WHERE p.pronamespace = 'http_api'::regnamespace"
local = threading.local()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
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
        try:
            if {"name": path[1:]} not in sql(KNOWN):
                return 404, [], b""
            sql("BEGIN")
            for name, value in told.items():
                sql("SELECT set_config($1, $2, true)", f"request.{name}", value)
            row, = sql(CALL.format(path[1:]), body)
            sql("COMMIT")
            return row["status"], json.loads(row["headers"]), row["body"] or b""
        except DatabaseError as error:
            if sql.is_lost():
                sql.close()
                local.sql = None
                return None
            sql("ROLLBACK")
            return None if error.sqlstate in ("40001", "40P01") else (500, [["Content-Type", "text/plain"]], error.sqlstate.encode())

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
