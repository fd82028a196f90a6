import path from "node:path";
import { rooms } from "./rooms.js";

const source = path.join(import.meta.dirname, "src");
// The innermost room first: smmuv3/spec before smmuv3.
const names = Object.keys(rooms).sort((a, b) => b.length - a.length);

/** The room that a file below src/ belongs to; undefined for none. */
function roomOf(file) {
  const relative = path.relative(source, file).split(path.sep).join("/");
  return relative.startsWith("..") ? undefined : names.find((name) => relative.startsWith(`${name}/`));
}

/** Imports between rooms go through doors (index.ts), and only where rooms.js allows it. */
const throughDoors = {
  meta: {
    type: "problem",
    schema: [],
    messages: {
      door: "go through the door: src/{{to}}/index.js",
      direction: "src/{{from}} may not import src/{{to}}; rooms.js allows it: {{allowed}}",
    },
  },
  create(context) {
    const from = roomOf(context.filename);
    if (from === undefined) {
      return {};
    }
    const check = (node) => {
      const specifier = node.source?.value;
      if (typeof specifier !== "string" || !specifier.startsWith(".")) {
        return;
      }
      const target = path.resolve(path.dirname(context.filename), specifier);
      const to = roomOf(target);
      if (to === undefined || to === from) {
        return;
      }
      if (!rooms[from].includes(to)) {
        context.report({ node, messageId: "direction", data: { from, to, allowed: rooms[from].join(", ") || "none" } });
      } else if (target !== path.join(source, to, "index.js")) {
        context.report({ node, messageId: "door", data: { to } });
      }
    };
    return {
      ImportDeclaration: check,
      ExportNamedDeclaration: check,
      ExportAllDeclaration: check,
      ImportExpression: check,
    };
  },
};

export default { rules: { "through-doors": throughDoors } };
