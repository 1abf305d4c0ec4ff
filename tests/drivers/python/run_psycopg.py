"""calls.json by way of psycopg 3."""

import re

import psycopg
from psycopg.types.json import Jsonb

from calls import Calls


def play(connection, calls, transaction):
    for call in transaction["calls"]:
        found = connection.execute(re.sub(r"\$\d+", "%s", call["sql"]), calls.parameters(call, Jsonb))
        calls.told(call, found.fetchall())


def main():
    calls = Calls()
    with psycopg.connect(autocommit=True) as connection:
        for transaction in calls.transactions:
            try:
                if "alone" in transaction:
                    play(connection, calls, transaction)
                else:
                    with connection.transaction():
                        play(connection, calls, transaction)
                calls.ended()
            except psycopg.Error as error:
                calls.ended(error.sqlstate, str(error))


main()
