"""What a connection talks over, to be cut from outside."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Callable


class Line:
    """The line of a driver's own connection. No driver gives up by itself where the network swallows everything."""

    def __init__(self, connection: Any) -> None:
        self._terminate = getattr(connection, "terminate", None)
        self._socket: socket.socket | None = None
        if self._terminate is None and hasattr(connection, "fileno"):
            # A descriptor of our own: the connection's number may soon be that of another.
            self._socket = socket.fromfd(connection.fileno(), socket.AF_INET, socket.SOCK_STREAM)

    def cut(self) -> None:
        """What waits for the server fails at once. Of a driver that has neither `terminate` nor `fileno`, it goes on waiting."""
        if self._terminate is not None:
            self._terminate()
        elif self._socket is not None:
            with suppress(OSError):  # it is broken already
                self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()


@contextmanager
def within(seconds: float, cut: Callable[[], None]) -> Iterator[None]:
    """Cuts a connection that has not answered by then, without asyncio."""
    alarm = threading.Timer(max(seconds, 0), cut)
    alarm.daemon = True
    alarm.start()
    try:
        yield
    finally:
        alarm.cancel()
