import js from "@eslint/js";
import { defineConfig } from "eslint/config";
import typescript from "typescript-eslint";

export default defineConfig(
  { ignores: ["dist"] },
  js.configs.recommended,
  {
    files: ["**/*.ts"],
    extends: [typescript.configs.strictTypeChecked],
    languageOptions: { parserOptions: { project: ["tsconfig.json", "tests/tsconfig.json"], tsconfigRootDir: import.meta.dirname } },
    rules: {
      // Whatever a handler throws is handed on as it is.
      "@typescript-eslint/only-throw-error": ["error", { allowThrowingUnknown: true }],
      "@typescript-eslint/prefer-promise-reject-errors": ["error", { allowThrowingUnknown: true, allowThrowingAny: false }],
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
      // The type of a transaction is the caller's to name where no argument shows it.
      "@typescript-eslint/no-unnecessary-type-parameters": "off",
    },
  },
  {
    files: ["tests/**/*.ts"],
    // node:test awaits what it is given.
    rules: { "@typescript-eslint/no-floating-promises": ["error", { allowForKnownSafeCalls: [{ from: "package", package: "node:test", name: ["test", "suite"] }] }] },
  },
);
