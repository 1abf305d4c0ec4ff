"""calls.json by way of asyncpg."""

import asyncio
import json

import asyncpg

from calls import Calls


async def play(connection, calls, transaction):
    for call in transaction["calls"]:
        rows = await connection.fetch(call["sql"], *calls.parameters(call, json.dumps))
        calls.told(call, rows)


async def main():
    calls = Calls()
    connection = await asyncpg.connect()
    for transaction in calls.transactions:
        try:
            if "alone" in transaction:
                await play(connection, calls, transaction)
            else:
                async with connection.transaction():
                    await play(connection, calls, transaction)
            calls.ended()
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            calls.ended(getattr(error, "sqlstate", None), str(error))
    await connection.close()


asyncio.run(main())
