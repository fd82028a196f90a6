export {
  address,
  AddressField,
  bits,
  deposit,
  extract,
  Field,
  field,
  type FieldValues,
  get,
  getAddress,
  getWide,
  type Layout,
  pack,
  put,
  putAddress,
  unpack,
} from "../../support/index.js";
export * from "./registers.js";
export * from "./ste.js";
export * from "./cd.js";
export * from "./commands.js";
export * from "./events.js";
