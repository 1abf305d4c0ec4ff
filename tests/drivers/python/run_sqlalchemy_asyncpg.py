"""calls.json by way of SQLAlchemy 2 with asyncio, and asyncpg."""

import asyncio
import json
import re

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from calls import Calls


async def play(connection, calls, transaction):
    for call in transaction["calls"]:
        # In parentheses, because SQLAlchemy takes `:p1::text` for no parameter.
        given = {f"p{number}": value for number, value in enumerate(calls.parameters(call, json.dumps), 1)}
        found = await connection.execute(text(re.sub(r"\$(\d+)", r"(:p\1)", call["sql"])), given)
        calls.told(call, found.fetchall() if found.returns_rows else [()])


async def main():
    calls = Calls()
    engine = create_async_engine("postgresql+asyncpg://")
    alone = engine.execution_options(isolation_level="AUTOCOMMIT")
    for transaction in calls.transactions:
        try:
            async with (alone.connect() if "alone" in transaction else engine.begin()) as connection:
                await play(connection, calls, transaction)
            calls.ended()
        except DBAPIError as error:
            calls.ended(error.orig.sqlstate, str(error))
    await engine.dispose()


asyncio.run(main())
