/** Every adapter, in both modes, against the scenarios of clients/conformance. */
import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { promisify } from "node:util";
import { freshDatabase } from "./server.ts";

const admin = await freshDatabase("node_conformance");
await admin.query('CREATE TABLE conformance_effect (id bigint GENERATED ALWAYS AS IDENTITY, "case" text NOT NULL)');
await admin.query("SELECT idempotent_operation('conformance', max_response_bytes => 100000)");
const scratch = mkdtempSync(join(tmpdir(), "conformance-"));
after(() => { rmSync(scratch, { recursive: true }); });

const APP = join(import.meta.dirname, "..", "conformance", "app.ts");
const RUNNER = join(import.meta.dirname, "..", "..", "conformance", "run.py");

/** Starts the application, and again whenever it ends. `through`: the settings that lead it through a PgBouncer. */
function keepRunning(framework: string, mode: string, port: number, through: NodeJS.ProcessEnv): { ready: Promise<unknown>; stop: () => void } {
  const env = { ...process.env, ...through, CONFORMANCE_TRIES: join(scratch, `${framework}-${mode}-${port}`), NODE_NO_WARNINGS: "1" };
  const { promise: ready, resolve } = Promise.withResolvers();
  let child: ChildProcess | undefined;
  let isStopped = false;
  const start = (): void => {
    child = spawn(process.execPath, [APP, framework, mode, String(port)], { env, stdio: ["ignore", "pipe", "pipe"] });
    child.stdout?.on("data", resolve);
    child.stderr?.resume();
    child.on("exit", () => { if (!isStopped) { start(); } });
  };
  start();
  return { ready, stop: () => { isStopped = true; child?.kill(); } };
}

async function freePort(): Promise<number> {
  const probe = net.createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => { probe.on("listening", resolve); });
  const { port } = probe.address() as net.AddressInfo;
  await new Promise((resolve) => { probe.close(resolve); });
  return port;
}

function conforms(name: string, framework: string, mode: string, through: NodeJS.ProcessEnv = {}): void {
  test(name, async () => {
    const port = await freePort();
    const { ready, stop } = keepRunning(framework, mode, port, through);
    try {
      await ready;
      const run = promisify(execFile)("python3", [RUNNER, `http://127.0.0.1:${port}`, "--mode", mode, "--without", "delete"], { maxBuffer: 1 << 24 });
      const { stdout } = await run.catch((error: unknown) => error as { stdout: string; stderr: string; code: number });
      assert.match(stdout, /\b0 failed/, stdout);
    } finally {
      stop();
    }
  });
}

for (const mode of ["transaction", "lease"]) {
  for (const framework of ["express", "fastify", "hono", "fetch"]) {
    conforms(`${framework} conforms in ${mode} mode`, framework, mode);
  }
  // One framework for each driver, of which postgres.js prepares its statements; `make test` starts the PgBouncers.
  for (const [prepared, frameworks] of [["0", ["express", "fastify"]], ["100", ["fastify"]]] as const) {
    const port = process.env[`PGBOUNCER_${prepared}`];
    for (const framework of port === undefined ? [] : frameworks) {
      const through = { PGHOST: "127.0.0.1", PGPORT: port, PREPARED: prepared };
      conforms(`${framework} conforms in ${mode} mode through a PgBouncer with ${prepared} prepared statements`, framework, mode, through);
    }
  }
}
