/** Tells each test in one line: `test FILE::NAME MILLISECONDS ... ok`. */
import { basename } from "node:path";
import { inspect } from "node:util";

export default async function* report(events) {
  for await (const { type, data } of events) {
    if ((type === "test:pass" || type === "test:fail") && data.details?.type !== "suite" && data.file !== undefined && !data.name.endsWith(".ts")) {
      const isOk = type === "test:pass";
      if (!isOk) {
        yield `${inspect(data.details.error?.cause ?? data.details.error, { depth: 6 })}\n`;
      }
      yield `test ${basename(data.file, ".test.ts")}::${data.name} ${data.details.duration_ms} ... ${isOk ? "ok" : "FAILED"}\n`;
    } else if (type === "test:fail") {
      // A file that could not be run.
      yield `${inspect(data.details.error?.cause ?? data.details.error, { depth: 6 })}\ntest ${basename(data.name, ".test.ts")}::file 0 ... FAILED\n`;
    } else if (type === "test:stderr" || type === "test:stdout") {
      yield data.message;
    }
  }
}
