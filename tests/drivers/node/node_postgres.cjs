// calls.json by way of node-postgres.
"use strict";
const { Client } = require("pg");
const { transactions, parameters, told, ended } = require("./calls.cjs");

async function main() {
  const client = new Client();
  await client.connect();
  for (const { alone, calls } of transactions) {
    try {
      await client.query(alone ? "SELECT" : "BEGIN");
      for (const call of calls) {
        const { rows } = await client.query({ text: call.sql, values: parameters(call, JSON.stringify), rowMode: "array" });
        told(call, rows);
      }
      await client.query(alone ? "SELECT" : "COMMIT");
      ended();
    } catch (error) {
      ended(error);
      await client.query("ROLLBACK");
    }
  }
  await client.end();
}

void main();
