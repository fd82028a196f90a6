/** Properties of `-machine q35`, with QEMU 11.1's names, values and words. */
import { Refusal } from "../../support/index.js";
import { type CommonOptions, commonDefaults } from "./common-options.js";
import { boolean, onlyOff, type Setter, withoutEffect } from "./option-setters.js";
import { parseSize } from "./property.js";

export interface Q35Options extends CommonOptions {
  readonly board: "q35";
  /** Bytes. */
  maxRamBelow4g: number;
  /** It has an AHCI controller, an SMBus controller. */
  sata: boolean;
  smbus: boolean;
}

export function q35Defaults(): Q35Options {
  return { board: "q35", ...commonDefaults(), maxRamBelow4g: 2 ** 32, sata: true, smbus: true };
}

export const q35Setters: Readonly<Record<string, Setter<Q35Options>>> = {
  "max-ram-below-4g": (options, value) => {
    const bytes = parseSize("max-ram-below-4g", value, "");
    if (bytes > 2 ** 32) {
      throw new Refusal(`Machine option 'max-ram-below-4g=${bytes}' expects size less than or equal to 4G`, { found: `max-ram-below-4g=${value}`, wouldWork: "max-ram-below-4g=2G" });
    }
    if (bytes < 2 ** 20 || bytes % 4096 !== 0) {
      throw new Refusal(`Only ${bytes} bytes of RAM below the 4GiB boundary,BIOS may not work with less than 1MiB`, { found: `max-ram-below-4g=${value}`, wouldWork: "max-ram-below-4g=1M or more, in pages of 4 KiB" });
    }
    options.maxRamBelow4g = bytes;
  },
  sata: boolean("sata", (o, v) => (o.sata = v)),
  smbus: boolean("smbus", (o, v) => (o.smbus = v)),
  cxl: onlyOff("cxl", "CXL is not modelled", "cxl=off"),
  ...withoutEffect("bus-lock-ratelimit fd-bootchk i8042 max-fw-size nvdimm-persistence pcspk-audiodev pic pit smbios-entry-point-type spcr wdat"),
};
