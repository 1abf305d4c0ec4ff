"""calls.json by way of Django's connection, on psycopg 3."""

import os
import re
from contextlib import nullcontext

import django
from django.conf import settings
from django.db import DatabaseError, connection, transaction
from psycopg.types.json import Jsonb

from calls import Calls

DATABASE = {"ENGINE": "django.db.backends.postgresql", "NAME": os.environ["PGDATABASE"], "HOST": os.environ["PGHOST"], "PORT": os.environ["PGPORT"],
            "USER": os.environ["PGUSER"]}


def play(calls, played):
    with connection.cursor() as cursor:
        for call in played["calls"]:
            cursor.execute(re.sub(r"\$\d+", "%s", call["sql"].replace("%", "%%")), calls.parameters(call, Jsonb))
            calls.told(call, cursor.fetchall())


def main():
    settings.configure(DATABASES={"default": DATABASE}, USE_TZ=True)
    django.setup()
    calls = Calls()
    for played in calls.transactions:
        try:
            with nullcontext() if "alone" in played else transaction.atomic():
                play(calls, played)
            calls.ended()
        except DatabaseError as error:
            calls.ended(error.__cause__.sqlstate, str(error))
    connection.close()


main()
