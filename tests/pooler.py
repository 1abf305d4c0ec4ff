"""PgBouncers before a server, for the clients whose tests go through one: in transaction mode, with and without prepared statements."""

import socket
import subprocess
import time
from contextlib import contextmanager

import debian
from common import Failure
from server import free_port, server_user

PREPARED = (0, 100)  # max_prepared_statements
START_TIMEOUT = 20  # seconds
SETTINGS = """[databases]
* = host={base} port={port} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
admin_users = postgres
pool_mode = transaction
default_pool_size = 10
max_prepared_statements = {prepared}
"""


@contextmanager
def pooler(server, prepared):
    """The port of one."""
    port = free_port()
    settings = server.base / f"pgbouncer-{port}.ini"
    settings.write_text(SETTINGS.format(base=server.base, port=server.port, listen=port, prepared=prepared))
    process = subprocess.Popen([str(debian.pgbouncer()), "-q", str(settings)], cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, **server_user())
    try:
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise Failure("PgBouncer does not start") from None
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def poolers(server):
    """What tests find in their environment: PGBOUNCER_0 and PGBOUNCER_100 are ports."""
    with pooler(server, PREPARED[0]) as without, pooler(server, PREPARED[1]) as prepared:
        yield {f"PGBOUNCER_{PREPARED[0]}": str(without), f"PGBOUNCER_{PREPARED[1]}": str(prepared)}
