/** `once`, by both drivers. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import type pg from "pg";
import {
  type Database, Expired, InProgress, InvalidKey, Mismatch, NotInstalled, Sealed, Unavailable, Unknown, complete, currentTransaction, fail, once, sqlstate,
} from "pg-idempotent";
import { type Driver, Door, effect, effects, freshDatabase, latch, poolOf, until, viaPg, viaPostgres } from "./server.ts";

const admin = await freshDatabase("node_once");
await admin.query("CREATE TABLE counter (n integer); INSERT INTO counter VALUES (0), (0)");

function suite<Tx>(driver: Driver<Tx>): void {
  const named = (title: string, body: (about: { pool: Database<Tx>; key: string; call: { operation: string; key: string; scope: null } }) => Promise<void>): void => {
    test(`${driver.name}: ${title}`, async () => {
      const key = randomUUID();
      // A v4, so that it carries no date.
      await body({ pool: driver.open(4), key, call: { operation: "charge", key, scope: null } });
    });
  };

  named("the first call runs, every other gets the same answer", async ({ pool, key, call }) => {
    const request = { amount: 25, currency: "EUR" };
    const first = await once(pool, { ...call, request }, async (tx) => {
      await effect(driver, tx, key);
      return { payment: 7, at: new Date(0) };
    });
    const second = await once(pool, { ...call, request: { currency: "EUR", amount: 25.0 } }, () => Promise.reject(new Error("ran again")));
    assert.deepEqual([first.replayed, second.replayed], [false, true]);
    assert.deepEqual(first.answer, { payment: 7, at: "1970-01-01T00:00:00.000Z" });
    assert.deepEqual(second.answer, first.answer);
    assert.equal(await effects(admin, key), 1);
  });

  for (const [kind, value] of Object.entries({
    text: "it's \"quoted\" \\ $1 ünï \u{1F600}", integer: 42, fraction: 0.1, negative: -0.5e-7, boolean: false, null: null, nothing: undefined, empty: "",
    array: [1, "two", [3], {}], object: { a: { b: [null, true] }, "ключ": "значение" }, date: new Date(1e12), json: '{"looks":"like json"}', number_text: "42",
  })) {
    named(`a request and an answer may be: ${kind}`, async ({ pool, call }) => {
      const first = await once(pool, { ...call, request: value }, () => Promise.resolve(value as unknown));
      const second = await once(pool, { ...call, request: value }, () => Promise.resolve<unknown>("ran again"));
      const expected: unknown = value === undefined ? null : JSON.parse(JSON.stringify(value));
      assert.deepEqual(first.answer, expected);
      assert.deepEqual(second.answer, expected);
      assert.equal(second.replayed, true);
    });
  }

  named("status and headers are stored, and a time to live in place of the retention", async ({ pool, key, call }) => {
    const headers = [["Location", "/payments/7"]];
    await once(pool, { ...call, ttl: 90_000 }, () => Promise.resolve(complete({ id: 7 }, { status: 201, headers })));
    const again = await once(pool, call, () => Promise.resolve({ id: 8 }));
    assert.deepEqual([again.status, again.headers, again.answer], [201, headers, { id: 7 }]);
    const { rows } = await admin.query<{ seconds: number }>(
      "SELECT extract(epoch FROM expires_at - clock_timestamp())::float8 AS seconds FROM idempotent_replay('charge', $1)", [key]);
    assert.ok(Number(rows[0]?.seconds) <= 90 && Number(rows[0]?.seconds) > 30, `${rows[0]?.seconds ?? "no"} seconds`);
  });

  named("a final failure is stored with what was written, and replayed", async ({ pool, key, call }) => {
    const first = await once(pool, call, async (tx) => {
      await effect(driver, tx, key);
      return fail({ error: "declined" }, { status: 402 });
    });
    const second = await once(pool, call, () => Promise.resolve({ error: "ran again" }));
    assert.deepEqual([first.failed, second.failed, second.replayed, second.status, second.answer], [true, true, true, 402, { error: "declined" }]);
    assert.equal(await effects(admin, key), 1);
  });

  named("an exception rolls back, and the next call runs", async ({ pool, key, call }) => {
    const broken = new Error("broken");
    await assert.rejects(once(pool, call, async (tx) => {
      await effect(driver, tx, key);
      throw broken;
    }), (error) => error === broken);
    assert.equal(await effects(admin, key), 0);
    assert.equal((await once(pool, call, () => Promise.resolve("ran"))).replayed, false);
  });

  named("an error of a handler that looks like a lost connection to somewhere else is the handler's", async ({ pool, call }) => {
    let runs = 0;
    await assert.rejects(once(pool, call, () => {
      runs += 1;
      return Promise.reject(Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED", errno: -111 }));
    }), { code: "ECONNREFUSED" });
    assert.equal(runs, 1);
  });

  named("another request with the key is a mismatch", async ({ pool, call }) => {
    await once(pool, { ...call, request: { amount: 1 } }, () => Promise.resolve("done"));
    await assert.rejects(once(pool, { ...call, request: { amount: 2 } }, () => Promise.resolve("ran")), (error) =>
      error instanceof Mismatch && error.sqlstate === "ID002" && error.status === 422);
  });

  named("two tenants may have the same key", async ({ pool, call }) => {
    const answers = [];
    for (const scope of ["one", "two"]) {
      answers.push((await once(pool, { ...call, scope }, () => Promise.resolve(scope))).answer);
    }
    assert.deepEqual(answers, ["one", "two"]);
  });

  named("a scope that was forgotten is an error", async ({ pool, key }) => {
    const call = { operation: "charge", key } as unknown as { operation: string; key: string; scope: null };
    await assert.rejects(once(pool, call, () => Promise.resolve("ran")), /scope is required/);
  });

  named("a key has 1 to 255 bytes and no control characters", async ({ pool, call }) => {
    for (const key of ["k".repeat(255 - 36) + randomUUID(), "ä".repeat(127)]) {
      assert.equal((await once(pool, { ...call, key }, () => Promise.resolve("ran"))).answer, "ran");
    }
    for (const key of ["", "k".repeat(256), "ä".repeat(128), "a\nb", "a\0b", "\ud800"]) {
      await assert.rejects(once(pool, { ...call, key }, () => Promise.resolve("ran")), (error) => error instanceof InvalidKey && sqlstate(error) === "ID006", JSON.stringify(key));
    }
  });

  named("a key that was first sent before the retention is expired", async ({ pool, call }) => {
    await assert.rejects(once(pool, { ...call, firstSent: new Date(0) }, () => Promise.resolve("ran")), (error) => error instanceof Expired && error.status === 412);
  });

  named("a sealed key never runs", async ({ pool, key, call }) => {
    await admin.query("SELECT idempotent_seal('charge', $1)", [key]);
    await assert.rejects(once(pool, call, () => Promise.resolve("ran")), (error) => error instanceof Sealed && error.status === 409);
  });

  named("a key of which nobody knows whether it ran is unknown", async ({ pool, key, call }) => {
    await admin.query("SELECT idempotent_operation('perhaps', on_lapse => 'unknown')");
    await admin.query("SELECT idempotent_claim('perhaps', $1, lease => '1 millisecond')", [key]);
    await until("the lease has lapsed", async () =>
      (await admin.query<{ outcome: string }>("SELECT outcome FROM idempotent_replay('perhaps', $1)", [key])).rows[0]?.outcome === "unknown");
    await assert.rejects(once(pool, { ...call, operation: "perhaps" }, () => Promise.resolve("ran")), (error) => error instanceof Unknown && error.status === 409);
  });

  named("a call waits for the holder without a connection, and gets the answer", async ({ key, call }) => {
    const pool = driver.open(2);
    const { opened, open } = latch();
    let begun = false;
    const holder = once(pool, call, async (tx) => {
      begun = true;
      await effect(driver, tx, key);
      await opened;
      return "held";
    });
    await until("the holder has begun", () => begun);
    // Sixty duplicates on the one connection that is left.
    const waiting = Array.from({ length: 60 }, () => once(pool, { ...call, wait: 60_000 }, () => Promise.resolve("ran again")));
    // Another key is served in between: if one of them held the connection, it would wait for the holder, which waits for this.
    const other = await once(pool, { ...call, key: randomUUID() }, () => Promise.resolve("other"));
    open();
    assert.equal(other.answer, "other");
    assert.equal((await holder).answer, "held");
    for (const { answer, replayed } of await Promise.all(waiting)) {
      assert.deepEqual([answer, replayed], ["held", true]);
    }
    assert.equal(await effects(admin, key), 1);
  });

  named("a wait that runs out says that the key is in progress", async ({ pool, call }) => {
    const { opened, open } = latch();
    let begun = false;
    const holder = once(pool, call, async () => {
      begun = true;
      await opened;
      return "held";
    });
    await until("the holder has begun", () => begun);
    await assert.rejects(once(pool, { ...call, wait: 50 }, () => Promise.resolve("ran")), (error) =>
      error instanceof InProgress && error.status === 409 && error.sqlstate === "ID001" && Number(error.retryAfter) > 0);
    open();
    await holder;
  });

  for (const code of ["40001", "40P01"]) {
    named(`the handler runs again after ${code}`, async ({ pool, key, call }) => {
      let runs = 0;
      const { answer, replayed } = await once(pool, call, async (tx) => {
        runs += 1;
        await effect(driver, tx, key);
        if (runs < 3) {
          await driver.run(tx, `DO $$ BEGIN RAISE EXCEPTION 'conflict' USING ERRCODE = '${code}'; END $$`);
        }
        return runs;
      });
      assert.deepEqual([answer, replayed, await effects(admin, key)], [3, false, 1]);
    });
  }

  named("a conflict that a layer above the driver has wrapped is one, too", async ({ pool, call }) => {
    let runs = 0;
    const { answer } = await once(pool, call, async (tx) => {
      runs += 1;
      try {
        await driver.run(tx, runs === 1 ? "DO $$ BEGIN RAISE EXCEPTION 'conflict' USING ERRCODE = '40001'; END $$" : "SELECT 1");
      } catch (cause) {
        throw new Error("query failed", { cause });
      }
      return runs;
    });
    assert.equal(answer, 2);
  });

  named("real conflicts under SERIALIZABLE end with both effects", async ({ call }) => {
    const pool = driver.open(8);
    const before = (await admin.query<{ n: number }>("SELECT sum(n)::integer AS n FROM counter")).rows[0]?.n ?? 0;
    await Promise.all(Array.from({ length: 4 }, () => once(pool, { ...call, key: randomUUID(), isolation: "serializable", tries: 20 }, async (tx) => {
      const [row] = await driver.run(tx, "SELECT sum(n)::integer AS n FROM counter") as { n: number }[];
      await driver.run(tx, "INSERT INTO counter VALUES (1)");
      return row?.n;
    })));
    assert.equal((await admin.query<{ n: number }>("SELECT sum(n)::integer AS n FROM counter")).rows[0]?.n, before + 4);
  });

  named("after five tries the database counts as unavailable", async ({ pool, call }) => {
    let runs = 0;
    await assert.rejects(once(pool, call, async (tx) => {
      runs += 1;
      await driver.run(tx, "DO $$ BEGIN RAISE EXCEPTION 'conflict' USING ERRCODE = '40001'; END $$");
    }), (error) => error instanceof Unavailable && error.status === 503 && sqlstate(error.cause) === "40001");
    assert.equal(runs, 5);
  });

  named("no try begins after the deadline", async ({ pool, call }) => {
    let runs = 0;
    await assert.rejects(once(pool, { ...call, deadline: 0 }, async (tx) => {
      runs += 1;
      await driver.run(tx, "DO $$ BEGIN RAISE EXCEPTION 'conflict' USING ERRCODE = '40001'; END $$");
    }), Unavailable);
    assert.equal(runs, 1);
  });

  named("a server that nobody can reach is unavailable", async ({ call }) => {
    const pool = driver.open(2, 1);
    await assert.rejects(once(pool, { ...call, tries: 2 }, () => Promise.resolve("ran")), Unavailable);
  });

  named("the handler runs again when its connection is killed", async ({ pool, key, call }) => {
    let runs = 0;
    const { answer } = await once(pool, call, async (tx) => {
      runs += 1;
      await effect(driver, tx, key);
      if (runs === 1) {
        const [row] = await driver.run(tx, "SELECT pg_backend_pid() AS pid") as { pid: number }[];
        await admin.query("SELECT pg_terminate_backend($1, 10000)", [row?.pid]);
        await driver.run(tx, "SELECT 1");
      }
      return runs;
    });
    assert.deepEqual([answer, await effects(admin, key)], [2, 1]);
  });

  named("killed between handler and COMMIT, the work is done again, and counts once", async ({ key, call }) => {
    const door = new Door();
    const pool = driver.open(2, await door.open());
    let runs = 0;
    const { answer, replayed } = await once(pool, call, async (tx) => {
      runs += 1;
      door.onCommit = runs === 1 ? "before" : undefined;
      await effect(driver, tx, key);
      return runs;
    });
    assert.deepEqual([answer, replayed, runs, await effects(admin, key)], [2, false, 2, 1]);
  });

  named("an answer to COMMIT that is lost is told by the claim", async ({ key, call }) => {
    const door = new Door();
    const pool = driver.open(2, await door.open());
    let runs = 0;
    const { answer, replayed } = await once(pool, call, async (tx) => {
      runs += 1;
      door.onCommit = "after";
      await effect(driver, tx, key);
      return { run: runs };
    });
    assert.deepEqual([answer, replayed, runs, await effects(admin, key)], [{ run: 1 }, true, 1, 1]);
  });

  named("a handler that goes on after an error of a statement commits nothing", async ({ pool, key, call }) => {
    await assert.rejects(once(pool, call, async (tx) => {
      await effect(driver, tx, key);
      await driver.run(tx, "SELECT 1/0").catch(() => undefined);
      return "fine";
    }));
    assert.equal(await effects(admin, key), 0);
    assert.equal((await once(pool, call, () => Promise.resolve("ran"))).answer, "ran");
  });

  named("a statement that was forgotten does not run in another transaction", async ({ pool, key, call }) => {
    let kept: Tx | undefined;
    await once(pool, call, (tx) => {
      kept = tx;
      return Promise.resolve("done");
    });
    await assert.rejects(async () => { await effect(driver, kept as Tx, key); }, /the transaction has ended/);
    assert.equal(await effects(admin, key), 0);
  });

  named("the current transaction is the handler's, and none outside of it", async ({ pool, key, call }) => {
    const later = latch();
    let left: Promise<unknown> = Promise.resolve();
    await once(pool, call, async (tx) => {
      assert.equal(currentTransaction<Tx>(), tx);
      await effect(driver, currentTransaction<Tx>() as Tx, key);
      // What is left behind and goes on has lost it.
      left = later.opened.then(() => currentTransaction());
      return "done";
    });
    later.open();
    assert.equal(await left, undefined);
    assert.equal(currentTransaction(), undefined);
    assert.equal(await effects(admin, key), 1);
  });

  named("a call within a handler of the same pool is refused", async ({ pool, call }) => {
    await assert.rejects(once(pool, call, () => once(pool, { ...call, key: randomUUID() }, () => Promise.resolve("inner"))), /second connection/);
  });

  named("what became of a call is told without key and scope", async ({ pool, call }) => {
    const told: unknown[] = [];
    const observed = { ...call, scope: "secret", observe: (event: unknown) => { told.push(event); } };
    await once(pool, observed, () => Promise.resolve("done"));
    await once(pool, observed, () => Promise.resolve("done"));
    const event = { operation: "charge", mode: "transaction" };
    assert.deepEqual(told, [{ ...event, outcome: "claimed", attempt: 1, replayed: false }, { ...event, outcome: "replay", attempt: 1, replayed: true }]);
  });
}

suite(viaPg);
suite(viaPostgres);

test("mistakes of a newcomer are told as what they are", async () => {
  const pool = poolOf();
  const call = { operation: "charge", key: "k", scope: null };
  const work = () => Promise.resolve("ran");
  await assert.rejects(once(pool, { ...call, key: 7 as unknown as string }, work), /the key must be a string, not number/);
  await assert.rejects(once(pool, { ...call, key: undefined as unknown as string }, work), /the key must be a string, not undefined/);
  const client = await pool.connect();
  for (const wrong of [client, undefined, () => undefined, "dbname=shop"]) {
    await assert.rejects(once(wrong as unknown as pg.Pool, call, work), /not a pool: pass a Pool of pg/);
  }
  client.release();
  await admin.query("DROP DATABASE IF EXISTS node_bare");
  await admin.query("CREATE DATABASE node_bare");
  const bare = poolOf({ database: "node_bare" });
  await assert.rejects(once(bare, call, work), (error) => error instanceof NotInstalled && error.message.includes("CREATE EXTENSION"));
  await assert.rejects(once(pool, call, (tx) => tx.query("SELECT no_such_function()")), (error) => !(error instanceof NotInstalled) && sqlstate(error) === "42883");
});

test("pg: whatever parsers an application has set", async () => {
  const strange = poolOf({ types: { getTypeParser: () => () => { throw new Error("parsed"); } } });
  const call = { operation: "charge", key: randomUUID(), scope: null };
  await once(strange, call, () => Promise.resolve({ fine: 1 }));
  assert.deepEqual((await once(strange, call, () => Promise.resolve({ fine: 2 }))).answer, { fine: 1 });
});
