// The calls of calls.json, as a driver for Node plays them.
"use strict";
const { readFileSync } = require("node:fs");

const transactions = JSON.parse(readFileSync(process.argv[2], "utf8"));
const saved = {};

/** What a program would pass; `document` is what the driver takes for jsonb. */
function value(kind, given, document) {
  if (typeof given === "string" && given.startsWith("@")) {
    return saved[given.slice(1)];
  }
  if (given === null) {
    return null;
  }
  switch (kind) {
    case "texts": case "bigints": case "uuids": return given.map((item) => value(kind.slice(0, -1), item, document));
    case "timestamp": return given === "now" ? new Date() : new Date(given);
    case "bytes": return Buffer.from(given, "hex");
    case "json": return document(given);
    default: return given;
  }
}

function parameters(call, document) {
  return call.with.map((argument) => value(...Object.entries(argument)[0], document));
}

let answers = [];

/** Rows are arrays of cells. */
function told(call, rows) {
  for (const [name, column] of Object.entries(call.save ?? {})) {
    saved[name] = rows[0][column];
  }
  answers.push(rows.map((row) => row.map((cell) => (Buffer.isBuffer(cell) ? cell.toString("hex") : cell))));
}

/** Says what the calls of a transaction answered, and whether it failed. */
function ended(error) {
  console.log(JSON.stringify({ answers, failed: error?.message ?? null, sqlstate: error?.code ?? null }));
  answers = [];
}

module.exports = { transactions, parameters, told, ended };
