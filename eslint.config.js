import js from "@eslint/js";
import globals from "globals";
import tseslint from "typescript-eslint";
import roomsPlugin from "./eslint-rooms.js";

export default tseslint.config(
  { ignores: ["dist/", "node_modules/", "coverage/"] },
  js.configs.recommended,
  ...tseslint.configs.recommended,
  {
    languageOptions: { globals: { ...globals.node } },
    rules: {
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_" }],
      "@typescript-eslint/consistent-type-imports": "error",
      eqeqeq: "error",
      "no-console": "error",
      "max-lines": ["error", { max: 700, skipBlankLines: true, skipComments: true }],
    },
  },
  { files: ["bench/**", "test/**", "examples/**", "lab/**"], rules: { "no-console": "off", "max-lines": "off" } },
  { files: ["src/inspect/page/**"], languageOptions: { globals: globals.browser } },
  { files: ["src/**/*.ts", "src/**/*.tsx"], plugins: { rooms: roomsPlugin }, rules: { "rooms/through-doors": "error" } },
);
