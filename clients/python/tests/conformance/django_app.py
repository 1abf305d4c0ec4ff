"""The application of clients/conformance, on Django: `django_app.py PORT`. The environment is that of app.py."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import django
from django.conf import settings

PARTS = dict(part.split("=") for part in os.environ["DSN"].split())
MODE = os.environ.get("MODE", "transaction")
DATABASE = {
    "ENGINE": "django.db.backends.postgresql",
    "HOST": PARTS["host"],
    "PORT": PARTS["port"],
    "USER": "postgres",
    "NAME": PARTS["dbname"],
}
# Many applications have this; the decorator makes it harmless.
settings.configure(
    DATABASES={"default": {**DATABASE, "ATOMIC_REQUESTS": True}},
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    LOGGING_CONFIG=None,
)
django.setup()

from django.core.handlers.wsgi import WSGIHandler  # noqa: E402
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler  # noqa: E402
from django.db import connection  # noqa: E402
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse  # noqa: E402
from django.urls import path  # noqa: E402

from pg_idempotent.django import idempotent  # noqa: E402

gates: dict[str, tuple[threading.Event, threading.Event]] = {}


def execute(statement: str, *values: Any) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchone()[0] if cursor.description else None


def effect(request: Any) -> int:
    return int(execute('INSERT INTO conformance_effect ("case") VALUES (%s) RETURNING id', request.headers.get("X-Case", "")))


def paid(number: int) -> Any:
    headers = {"Location": f"/pay/{number}", "ETag": f'"{number}"', "Set-Cookie": f"session={number}", "X-Request-Id": str(number)}
    return JsonResponse({"payment": number}, status=201, headers=headers)


def pay(request: Any) -> Any:
    return paid(effect(request))


def echo(request: Any) -> Any:
    effect(request)
    return HttpResponse(request.body, content_type=request.headers.get("Content-Type") or "application/octet-stream")


def status(request: Any) -> Any:
    code, number = int(request.GET["code"]), effect(request)
    headers = {"ETag": f'"{number}"', **({"Retry-After": "1"} if code in (429, 503) else {})}
    if code in (204, 304):
        return HttpResponse(status=code, headers=headers, content_type="application/json")
    return JsonResponse({"effect": number}, status=code, headers=headers)


def large(request: Any) -> Any:
    number = effect(request)
    return HttpResponse("x" * int(request.GET["bytes"]), content_type="text/plain", headers={"ETag": f'"{number}"'})


def stream(request: Any) -> Any:
    number = effect(request)

    def chunks() -> Iterator[str]:
        for _ in range(int(request.GET["chunks"])):
            yield f"data: {number}\n\n"
            if "gate" in request.GET:
                pass_gate(request)

    return StreamingHttpResponse(chunks(), content_type="text/event-stream", headers={"ETag": f'"{number}"'})


def deferred(request: Any) -> Any:
    """Inserts what only COMMIT refuses."""
    execute("CREATE TEMP TABLE deferred (id int UNIQUE DEFERRABLE INITIALLY DEFERRED) ON COMMIT DROP")
    execute("INSERT INTO deferred VALUES (1), (1)")
    return (stream if "chunks" in request.GET else pay)(request)


def fall(request: Any) -> Any:
    effect(request)
    raise ZeroDivisionError


def is_among_first(request: Any) -> bool:
    """Whether this try of the key is one of the first `times`. A file outlives the process."""
    name = request.headers["Idempotency-Key"].strip('" ').encode().hex()
    with open(Path(os.environ["TRIES"]) / name, "a+") as file:
        file.write("x")
        return file.tell() <= int(request.GET["times"])


def conflict(request: Any) -> Any:
    number = effect(request)
    if is_among_first(request):
        execute("DO $$ BEGIN RAISE EXCEPTION 'conflict' USING ERRCODE = '40001'; END $$")
    return paid(number)


def crash(request: Any) -> Any:
    number = effect(request)
    if is_among_first(request):
        os._exit(1)
    return paid(number)


def gate(request: Any) -> tuple[threading.Event, threading.Event]:
    return gates.setdefault(request.GET["gate"], (threading.Event(), threading.Event()))


def pass_gate(request: Any) -> None:
    entered, opened = gate(request)
    entered.set()
    opened.wait(30)


def held(request: Any) -> Any:
    number = effect(request)
    pass_gate(request)
    return paid(number)


def at_gate(request: Any) -> Any:
    entered, opened = gate(request)
    if request.method == "POST":
        opened.set()
        return HttpResponse(status=204)
    return HttpResponse(status=204 if entered.wait(30) else 504)


def effects(request: Any) -> Any:
    return JsonResponse(execute('SELECT count(*) FROM conformance_effect WHERE "case" = %s', request.GET["case"]), safe=False)


def once(view: Any, required: bool = True) -> Any:
    return idempotent(
        operation="conformance", scope=lambda request: request.headers.get("X-Tenant", ""), required=required, mode=MODE,
        wait=timedelta(seconds=0.2), release_on_error=True,
    )(view)  # fmt: skip


VIEWS = {"pay": pay, "refund": pay, "echo": echo, "status": status, "large": large, "stream": stream, "deferred": deferred, "raise": fall,
         "conflict": conflict, "held": held, "crash": crash}  # fmt: skip
urlpatterns = [
    *(path(name, once(view)) for name, view in VIEWS.items()),
    path("optional", once(pay, required=False)),
    path("gate", at_gate),
    path("effects", effects),
]


class Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


def main() -> None:
    execute('CREATE TABLE IF NOT EXISTS conformance_effect (id bigint GENERATED ALWAYS AS IDENTITY, "case" text NOT NULL)')
    execute("SELECT name FROM idempotent_operation('conformance', max_response_bytes => 100000)")
    connection.close()
    server = ThreadedWSGIServer(("127.0.0.1", int(sys.argv[1])), Quiet)
    server.daemon_threads = True
    server.set_app(WSGIHandler())
    server.serve_forever()


if __name__ == "__main__":
    main()
