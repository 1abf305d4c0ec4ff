"""calls.json by way of SQLAlchemy 2 and psycopg 3."""

import re

from psycopg.types.json import Jsonb
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from calls import Calls


def play(connection, calls, transaction):
    for call in transaction["calls"]:
        # In parentheses, because SQLAlchemy takes `:p1::text` for no parameter.
        given = {f"p{number}": value for number, value in enumerate(calls.parameters(call, Jsonb), 1)}
        found = connection.execute(text(re.sub(r"\$(\d+)", r"(:p\1)", call["sql"])), given)
        calls.told(call, found.fetchall() if found.returns_rows else [()])


def main():
    calls = Calls()
    engine = create_engine("postgresql+psycopg://")
    alone = engine.execution_options(isolation_level="AUTOCOMMIT")
    for transaction in calls.transactions:
        try:
            with (alone.connect() if "alone" in transaction else engine.begin()) as connection:
                play(connection, calls, transaction)
            calls.ended()
        except DBAPIError as error:
            calls.ended(error.orig.sqlstate, str(error))


main()
