// Builds the package where it is installed from its folder: npm does not install there what that takes.
import { execSync } from "node:child_process";
import { existsSync } from "node:fs";

const run = (command) => execSync(command, { cwd: import.meta.dirname, stdio: "inherit" });

if (!existsSync(`${import.meta.dirname}/node_modules/typescript`)) {
  run("npm ci --ignore-scripts --include=dev");
}
run("npm run build");
