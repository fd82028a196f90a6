import js from "@eslint/js";
import globals from "globals";
import tseslint from "typescript-eslint";
import { rooms } from "./rooms.js";

/** `../` as often as it takes to get from a file directly in the room to src/. */
const up = (room) => "../".repeat(room.split("/").length);

/**
 * Imports of a room: from itself, and from the doors of the rooms that rooms.js allows it. A pattern
 * matches the import's text, so it is spelt for files directly in the room's folder, and for one folder down.
 */
function doorRules(room, allowed) {
  const others = Object.keys(rooms).filter((other) => other !== room);
  const doors = allowed.map((other) => `${other}/index\\.js`).join("|");
  const inside = others.filter((other) => other.startsWith(`${room}/`)).map((o) => o.slice(room.length + 1));
  const patterns = [
    {
      regex: doors === "" ? `^(?:\\.\\./){${up(room).length / 3},}` : `^(?:\\.\\./){${up(room).length / 3},}(?!(?:${doors})$)[a-z]`,
      message: `src/${room} may import only the doors of: ${allowed.join(", ") || "no other room"} (rooms.js)`,
    },
    ...inside.map((sub) => ({
      regex: `^\\./${sub}/(?!index\\.js$)`,
      message: `go through the door src/${room}/${sub}/index.js`,
    })),
  ];
  return {
    files: [`src/${room}/*.ts`],
    rules: { "no-restricted-imports": ["error", { patterns }] },
  };
}

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
  { files: ["bench/**", "test/**", "examples/**"], rules: { "no-console": "off" } },
  ...Object.entries(rooms).map(([room, allowed]) => doorRules(room, allowed)),
);
