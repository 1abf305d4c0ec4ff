/** `withLease`, by both drivers. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, test } from "node:test";
import { type Database, LeaseLost, complete, currentLease, fail, once, withLease } from "pg-idempotent";
import { type Driver, Door, freshDatabase, latch, until, viaPg, viaPostgres } from "./server.ts";

const admin = await freshDatabase("node_lease");

async function replayed(key: string): Promise<{ outcome: string; ends: number }> {
  const { rows } = await admin.query<{ outcome: string; ends: number }>(
    "SELECT outcome, extract(epoch FROM expires_at)::float8 AS ends FROM idempotent_replay('card', $1)", [key]);
  return rows[0] ?? { outcome: "", ends: 0 };
}

/** Resolves when the signal is aborted. */
async function aborted(signal: AbortSignal): Promise<void> {
  await until("the signal is aborted", () => signal.aborted);
}

function suite<Tx>(driver: Driver<Tx>): void {
  const named = (title: string, body: (about: { pool: Database<Tx>; key: string; call: { operation: string; key: string; scope: null } }) => Promise<void>): void => {
    test(`${driver.name}: ${title}`, async () => {
      const key = randomUUID();
      await body({ pool: driver.open(2), key, call: { operation: "card", key, scope: null } });
    });
  };

  named("the first call works, every other gets the same answer", async ({ pool, key, call }) => {
    const request = { amount: 40 };
    const first = await withLease(pool, { ...call, request }, async ({ fence, attempt, checkpoint, derive, signal }) => {
      assert.ok(fence > 0n);
      assert.deepEqual([attempt, checkpoint, signal.aborted], [1, null, false]);
      const { rows } = await admin.query<{ key: string }>("SELECT idempotent_derive_key('card', $1, 'network')::text AS key", [key]);
      assert.equal(await derive("network"), rows[0]?.key);
      return complete({ charged: 40 }, { status: 201 });
    });
    const second = await withLease(pool, { ...call, request }, () => Promise.resolve({ charged: 0 }));
    assert.deepEqual([first.answer, first.replayed, first.status], [{ charged: 40 }, false, 201]);
    assert.deepEqual([second.answer, second.replayed, second.status], [{ charged: 40 }, true, 201]);
  });

  named("a final failure is stored and replayed", async ({ pool, call }) => {
    await withLease(pool, call, () => Promise.resolve(fail("declined")));
    const { answer, failed, replayed: isReplay } = await withLease(pool, call, () => Promise.resolve("ran again"));
    assert.deepEqual([answer, failed, isReplay], ["declined", true, true]);
  });

  named("no connection of the pool is held while the handler works", async ({ call }) => {
    const pool = driver.open(1);
    const { answer } = await withLease(pool, call, async ({ derive }) => {
      // With its only connection taken, these would wait for ever.
      await derive("network");
      return (await once(pool, { ...call, operation: "other" }, () => Promise.resolve("other"))).answer;
    });
    assert.equal(answer, "other");
  });

  named("the heartbeat keeps the lease beyond its length", async ({ pool, key, call }) => {
    const { answer } = await withLease(pool, { ...call, lease: 3_000 }, async ({ signal }) => {
      const { ends } = await replayed(key);
      // By the server's clock: the lease that was granted is over, and it is held.
      await until("the first lease would be over", async () => (await admin.query<{ over: boolean }>(
        "SELECT extract(epoch FROM clock_timestamp()) > $1::float8 AS over", [ends])).rows[0]?.over === true);
      assert.equal((await replayed(key)).outcome, "in_progress");
      assert.equal(signal.aborted, false);
      return "kept";
    });
    assert.equal(answer, "kept");
  });

  named("the heartbeat is on a connection of its own", async ({ call }) => {
    const pool = driver.open(1);
    const { opened, open } = latch();
    // Where it fails before that: a connection that is not given back keeps the pool from its end.
    after(open);
    let held = false;
    // The pool's only connection is taken for as long as the lease is needed.
    const answer = withLease(pool, { ...call, lease: 3_000 }, async ({ signal }) => {
      const taken = once(pool, { ...call, operation: "other" }, async () => {
        held = true;
        await opened;
        return "other";
      });
      await until("the connection is taken", () => held);
      const granted = performance.now();
      await until("the first lease would be over", () => performance.now() > granted + 4_000);
      const isLost = signal.aborted;
      open();
      await taken;
      return isLost;
    });
    assert.equal((await answer).answer, false);
  });

  named("a heartbeat whose connection is killed makes another", async ({ pool, key, call }) => {
    let killed = 0;
    await withLease(pool, { ...call, lease: 3_000 }, async ({ signal }) => {
      const own = "FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%idempotent_extend_all%' AND pid <> pg_backend_pid()";
      await until("the heartbeat's connection is killed", async () => {
        killed = (await admin.query<{ n: number }>(`SELECT count(pg_terminate_backend(pid, 10000))::integer AS n ${own}`)).rows[0]?.n ?? 0;
        return killed > 0;
      });
      const { ends } = await replayed(key);
      await until("another heartbeat has come", async () => (await replayed(key)).ends > ends);
      assert.equal(signal.aborted, false);
      return "kept";
    });
    assert.ok(killed > 0);
  });

  named("when the lease is lost the signal is aborted, and nothing is stored", async ({ pool, key, call }) => {
    let reason: unknown;
    await assert.rejects(withLease(pool, { ...call, lease: 600 }, async ({ signal }) => {
      await admin.query("SELECT idempotent_forget_all('card')");
      await aborted(signal);
      reason = signal.reason;
      return "must not be stored";
    }), LeaseLost);
    assert.ok(reason instanceof LeaseLost);
    assert.equal((await replayed(key)).outcome, "absent");
  });

  named("a handler that stops because of the signal ends with the lost lease, too", async ({ pool, call }) => {
    await assert.rejects(withLease(pool, { ...call, lease: 600 }, async ({ signal }) => {
      await admin.query("SELECT idempotent_forget_all('card')");
      await aborted(signal);
      throw new Error("stopped");
    }), (error) => error instanceof LeaseLost && error.sqlstate === "ID003");
  });

  named("a lease that was taken over between two heartbeats is not completed", async ({ pool, key, call }) => {
    await assert.rejects(withLease(pool, call, async () => {
      await admin.query("SELECT idempotent_forget_all('card')");
      await admin.query("SELECT idempotent_claim('card', $1, lease => '1 minute')", [key]);
      return "must not be stored";
    }), LeaseLost);
    assert.equal((await replayed(key)).outcome, "in_progress");
  });

  named("a network that swallows everything loses the lease by our own clock", async ({ call }) => {
    const door = new Door();
    const pool = driver.open(2, await door.open());
    await assert.rejects(withLease(pool, { ...call, lease: 3_000 }, async ({ signal }) => {
      door.isBlack = true;
      await aborted(signal);
      return "must not be stored";
    }), (error) => error instanceof LeaseLost && error.cause instanceof Error && error.cause.message === "no answer to a heartbeat");
  });

  named("a heartbeat's connection that comes too late is closed", async ({ call }) => {
    const door = new Door();
    const pool = driver.open(1, await door.open());
    await assert.rejects(withLease(pool, { ...call, lease: 600 }, async ({ signal }) => {
      door.keep();
      await aborted(signal);
      return "must not be stored";
    }), LeaseLost);
    door.letThrough();
    await until("all but the pool's connection are closed", () => door.openAfter(1) === 0);
  });

  named("an exception leaves the lease to lapse", async ({ pool, key, call }) => {
    const broken = new Error("no answer from the network");
    await assert.rejects(withLease(pool, call, () => Promise.reject(broken)), (error) => error === broken);
    assert.equal((await replayed(key)).outcome, "in_progress");
  });

  named("what was not begun is given back", async ({ pool, call }) => {
    const broken = new Error("not begun");
    await assert.rejects(withLease(pool, call, async ({ release }) => { await release(); throw broken; }), (error) => error === broken);
    assert.equal((await withLease(pool, call, () => Promise.resolve("ran"))).answer, "ran");
    await assert.rejects(withLease(pool, { ...call, key: randomUUID() }, ({ release }) => release()), LeaseLost);
  });

  named("who takes over sees the attempt and the note of the one before", async ({ pool, key, call }) => {
    await withLease(pool, { ...call, lease: 2_000 }, async ({ save }) => {
      await save({ step: "sent" });
      throw new Error("died");
    }).catch(() => undefined);
    // The lease lapses while this waits.
    const { answer } = await withLease(pool, { ...call, wait: 20_000 }, ({ attempt, checkpoint, fence }) =>
      Promise.resolve({ attempt, checkpoint, isHigher: fence > 0n }));
    assert.deepEqual(answer, { attempt: 2, checkpoint: { step: "sent" }, isHigher: true });
    assert.equal((await replayed(key)).outcome, "replay");
  });

  named("an answer to the claim's COMMIT that is lost costs nothing", async ({ call }) => {
    const door = new Door();
    const pool = driver.open(2, await door.open());
    door.onCommit = "after";
    const { answer } = await withLease(pool, call, ({ attempt }) => Promise.resolve(attempt));
    assert.equal(answer, 1);
    assert.equal(door.onCommit, undefined);
  });

  for (const when of ["before", "after"] as const) {
    named(`a connection that breaks ${when} the answer's COMMIT does not make the handler run again`, async ({ call }) => {
      const door = new Door();
      const pool = driver.open(2, await door.open());
      let runs = 0;
      const { answer, replayed: isReplay } = await withLease(pool, call, () => {
        runs += 1;
        door.onCommit = when;
        return Promise.resolve({ run: runs });
      });
      assert.deepEqual([answer, isReplay, runs, door.onCommit], [{ run: 1 }, false, 1, undefined]);
    });
  }

  named("the current lease is the handler's", async ({ pool, call }) => {
    await withLease(pool, call, (lease) => {
      assert.equal(currentLease(), lease);
      return Promise.resolve("done");
    });
    assert.equal(currentLease(), undefined);
  });
}

suite(viaPg);
suite(viaPostgres);

test("many leases are extended by one statement on one connection", async (context) => {
  const pool = viaPg.open(4);
  const { opened, open } = latch();
  // Where it fails before that: leases that are held keep the process alive.
  context.after(open);
  let at = 0;
  const held = Array.from({ length: 40 }, () => withLease(pool, { operation: "card", key: randomUUID(), scope: null, lease: 3_000 }, async ({ signal }) => {
    at += 1;
    await opened;
    return signal.aborted;
  }));
  await until("all are held", () => at === 40);
  await admin.query("SELECT pg_stat_clear_snapshot()");
  const own = "FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%idempotent_extend_all%' AND pid <> pg_backend_pid()";
  await until("they are extended", async () => ((await admin.query<{ n: number }>(`SELECT count(*)::integer AS n ${own}`)).rows[0]?.n ?? 0) > 0);
  const began = performance.now();
  await until("all first leases would be over", () => performance.now() > began + 3_100);
  // A server process that a slow beat has left behind takes a moment to end.
  await until("it is one connection", async () => (await admin.query<{ n: number }>(`SELECT count(*)::integer AS n ${own}`)).rows[0]?.n === 1);
  open();
  assert.deepEqual(new Set((await Promise.all(held)).map(({ answer }) => answer)), new Set([false]));
});
