/** The object tree and the types (QEMU's qapi/qom.json, qapi/qdev.json). */
import { type QmpCommand, flag, optional, text } from "../command.js";
import { generic, QmpError } from "../errors.js";
import { findNode, listNode, readProperty, resolvePath } from "../qom/node.js";
import { qomTree } from "../qom/tree.js";
import { deviceProperties, typeProperties, typesThatAre } from "../qom/types.js";

export const qomCommands: readonly QmpCommand[] = [
  {
    name: "qom-list",
    parameters: { path: text },
    run: ({ path }, { target }) => {
      const found = resolvePath(qomTree(target), path as string);
      if (found === "ambiguous") {
        throw generic(`Path '${path as string}' is ambiguous`);
      }
      if (found === null) {
        throw new QmpError("DeviceNotFound", `Device '${path as string}' not found`);
      }
      return listNode(found.node);
    },
  },
  {
    name: "qom-get",
    parameters: { path: text, property: text },
    run: ({ path, property }, { target }) => readProperty(findNode(qomTree(target), path as string), property as string),
  },
  {
    name: "qom-set",
    parameters: { path: text, property: text, value: { type: "any" } },
    run: ({ path, property }, { target }) => {
      const found = findNode(qomTree(target), path as string);
      const { type, deviceId } = found.node;
      readProperty(found, property as string);
      // What devices are is fixed once they are made; the rest is for reading.
      throw generic(
        found.node.properties.get(property as string)?.setting === true
          ? `Attempt to set property '${property as string}' on ${deviceId === "" ? `anonymous device (type '${type}')` : `device '${deviceId}' (type '${type}')`} after it was realized`
          : `Property '${type}.${property as string}' is not writable`,
      );
    },
  },
  {
    name: "qom-list-types",
    parameters: { implements: optional(text), abstract: optional(flag) },
    run: ({ implements: of, abstract }) => typesThatAre(of === undefined ? null : (of as string), abstract === true),
  },
  {
    name: "qom-list-properties",
    parameters: { typename: text },
    run: ({ typename }) => typeProperties(typename as string),
  },
  {
    name: "device-list-properties",
    parameters: { typename: text },
    run: ({ typename }) => deviceProperties(typename as string),
  },
];
