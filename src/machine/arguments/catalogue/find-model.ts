/** The model of a name: one that is modelled, or one of QEMU's that is placed or taken. */
import { Refusal } from "../../../support/index.js";
import { type DeviceModel, deviceModels } from "../device-table.js";
import { nearest } from "../nearest.js";
import { OLDER_NAMES, SAME } from "./older-names.js";
import { deviceCatalogue } from "./record.js";
import { recordedModel } from "./recorded-model.js";
import { refusedFamily } from "./refused.js";

export interface FoundModel {
  readonly model: DeviceModel;
  /** What an older name stands for besides. */
  readonly properties: Readonly<Record<string, string>>;
  /** To be told: the name that it has today. */
  readonly note: string | null;
}

/** @throws Refusal in QEMU's words, with the reason or the nearest name that there is */
export function findDeviceModel(given: string): FoundModel {
  const same = SAME.get(given) ?? given;
  const modelled = deviceModels.get(same);
  if (modelled !== undefined) {
    return { model: modelled, properties: {}, note: null };
  }
  const older = OLDER_NAMES.get(same);
  if (older !== undefined) {
    const { model } = findDeviceModel(older.name);
    return { model, properties: older.properties ?? {}, note: `${given}: taken as ${older.name}${words(older.properties)}: ${older.note}` };
  }
  const refused = refusedFamily(same);
  if (refused !== null) {
    throw new Refusal(`'${given}' is not a valid device model name`, {
      found: `${given}: QEMU has it (${refused.reason}), viommu has not`,
      wouldWork: refused.instead,
      rule: "device-not-modelled",
    });
  }
  const catalogue = deviceCatalogue();
  const name = catalogue.aliases.get(same) ?? same;
  const recorded = catalogue.find(name);
  if (recorded !== null) {
    return { model: recordedModel(recorded), properties: {}, note: null };
  }
  if (catalogue.fixed.has(name)) {
    throw new Refusal("Parameter 'driver' expects a pluggable device type", { found: `${given}: a part of machines, which no -device adds`, wouldWork: "leaving it out", rule: "device-not-pluggable" });
  }
  const near = nearest(given, [...knownDevices(), ...SAME.keys(), ...catalogue.aliases.keys(), ...OLDER_NAMES.keys()]);
  throw new Refusal(`'${given}' is not a valid device model name`, {
    found: near === null ? `-device ${given}` : `-device ${given}; did you mean ${near}?`,
    wouldWork: `a name that \`viommu devices\` lists: ${[...deviceModels.keys()].slice(0, 6).join(", ")}, ...`,
    rule: "unknown-device",
  });
}

/** Present names that -device takes: modelled ones first. */
export function knownDevices(): string[] {
  const placed = deviceCatalogue().names().filter((name) => refusedFamily(name) === null && !SAME.has(name) && !OLDER_NAMES.has(name));
  return [...new Set([...deviceModels.keys(), ...placed])];
}

function words(properties: Readonly<Record<string, string>> | undefined): string {
  return Object.entries(properties ?? {}).map(([name, value]) => `,${name}=${value}`).join("");
}
