// calls.json by way of postgres.js, whose statements are tagged templates.
"use strict";
const postgres = require("postgres");
const { transactions, parameters, told, ended } = require("./calls.cjs");

async function play(sql, calls) {
  for (const call of calls) {
    const strings = call.sql.split(/\$\d+/);
    const rows = await sql(Object.assign(strings, { raw: strings }), ...parameters(call, (given) => sql.json(given))).values();
    told(call, [...rows]);
  }
}

async function main() {
  const sql = postgres({ host: process.env.PGHOST, max: 1, onnotice: () => undefined });
  for (const { alone, calls } of transactions) {
    await (alone ? play(sql, calls) : sql.begin((tx) => play(tx, calls))).then(() => ended(), ended);
  }
  await sql.end();
}

void main();
