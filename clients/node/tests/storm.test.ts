/** Purchases that are delivered again and again, on connections that break: to the cent. */
import assert from "node:assert/strict";
import { randomInt, randomUUID } from "node:crypto";
import { test } from "node:test";
import { once, withLease } from "pg-idempotent";
import { type Driver, Door, freshDatabase, viaPg, viaPostgres } from "./server.ts";

const admin = await freshDatabase("node_storm");
const PURCHASES = 500;
const DELIVERIES = 5;
const AT_ONCE = 16;

interface Purchase {
  key: string;
  cents: number;
}

/** Every purchase five times, in an order that nobody knows, by sixteen at once. */
async function deliver(purchases: Purchase[], one: (purchase: Purchase) => Promise<unknown>): Promise<Map<string, Set<string>>> {
  const queue = Array.from({ length: DELIVERIES }, () => purchases).flat().map((purchase) => ({ purchase, at: Math.random() })).sort((a, b) => a.at - b.at);
  const answers = new Map<string, Set<string>>();
  await Promise.all(Array.from({ length: AT_ONCE }, async () => {
    for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
      const { purchase } = next;
      const answer = JSON.stringify(await one(purchase));
      answers.set(purchase.key, (answers.get(purchase.key) ?? new Set()).add(answer));
    }
  }));
  return answers;
}

async function check(scope: string, purchases: Purchase[], answers: Map<string, Set<string>>): Promise<void> {
  const { rows } = await admin.query<{ n: number; cents: string }>("SELECT count(*)::integer AS n, sum(cents)::text AS cents FROM effect WHERE key LIKE $1", [`${scope}%`]);
  assert.deepEqual(rows[0], { n: purchases.length, cents: String(purchases.reduce((sum, { cents }) => sum + cents, 0)) });
  assert.deepEqual(Array.from(answers.values(), (given) => given.size), purchases.map(() => 1));
}

function purchasesOf(scope: string, count: number): Purchase[] {
  return Array.from({ length: count }, () => ({ key: `${scope}${randomUUID()}`, cents: randomInt(1, 100_000) }));
}

function storm<Tx>(driver: Driver<Tx>): void {
  test(`${driver.name}: ${PURCHASES} purchases, five deliveries each, sixteen at once, a tenth of the connections killed: to the cent`, async () => {
    const door = new Door();
    const pool = driver.open(AT_ONCE, await door.open());
    const scope = `${driver.name}-`;
    const purchases = purchasesOf(scope, PURCHASES);
    let killed = 0;
    const answers = await deliver(purchases, async ({ key, cents }) => {
      const chance = Math.random();
      const { answer } = await once(pool, { operation: "buy", key, request: { cents }, scope: null, tries: 50, wait: 60_000, deadline: 60_000 }, async (tx) => {
        const [row] = await driver.run(tx, "INSERT INTO effect (key, cents) VALUES ($1, $2) RETURNING id::integer AS id, pg_backend_pid() AS pid", [key, cents]) as
          { id: number; pid: number }[];
        if (chance < 0.2) {
          // Of a tenth of all deliveries the handler runs at least here once: every purchase is worked on in a fifth of its deliveries at the most.
          killed += 1;
          if (killed % 3 === 0) {
            await admin.query("SELECT pg_terminate_backend($1, 10000)", [row?.pid]);
          } else {
            door.onCommit = killed % 3 === 1 ? "before" : "after";
          }
        }
        return { payment: row?.id, cents };
      });
      return answer;
    });
    await check(scope, purchases, answers);
    assert.ok(killed >= PURCHASES / 10, `${killed} were killed`);
  });
}

storm(viaPg);
storm(viaPostgres);

test("leases in a storm: every purchase is charged once, as the other side sees it by the derived key", async () => {
  const door = new Door();
  const pool = viaPg.open(AT_ONCE, await door.open());
  const purchases = purchasesOf("lease-", 100);
  const network = new Map<string, number>();
  const answers = await deliver(purchases, async ({ key, cents }) => {
    const call = { operation: "card", key, request: { cents }, scope: null, tries: 50, wait: 60_000, deadline: 60_000 };
    const { answer } = await withLease(pool, call, async ({ derive }) => {
      const charge = await derive("network");
      network.set(charge, cents);
      if (Math.random() < 0.2) {
        door.onCommit = Math.random() < 0.5 ? "before" : "after";
      }
      return { charge };
    });
    return answer;
  });
  assert.equal(network.size, purchases.length);
  assert.equal(Array.from(network.values()).reduce((sum, cents) => sum + cents, 0), purchases.reduce((sum, { cents }) => sum + cents, 0));
  assert.deepEqual(Array.from(answers.values(), (given) => given.size), purchases.map(() => 1));
});
