/** What an accelerated SMMU offers its guest: said by properties, or for `auto` by the host of its first function. */
import { Refusal } from "../../support/index.js";
import type { AcceleratedFeatures, SmmuForBackend } from "../device/index.js";
import { featuresOfHost } from "./compatibility.js";
import { featuresOf, type LookupFeatures } from "../lookup/index.js";

/** Properties of the acceleration: what the user said, `auto` where the host is to decide. */
export interface AccelerationProperties {
  readonly ril: boolean | "auto";
  readonly ats: boolean | "auto";
  readonly oas: 44 | 48 | "auto";
  readonly ssidsize: number | "auto";
}

/** The offer at a moment, to go back to. */
export interface OfferState {
  readonly features: AcceleratedFeatures;
  readonly resolved: boolean;
}

export class FeatureOffer {
  features: AcceleratedFeatures;
  /** The guest's ID registers, for the classification of its entries. */
  lookup: LookupFeatures;
  /** `auto` properties have taken what a host offers. */
  private resolved: boolean;
  private frozen = false;

  constructor(
    private readonly smmu: SmmuForBackend,
    private readonly properties: AccelerationProperties,
  ) {
    const { ril, ats, oas, ssidsize } = properties;
    this.resolved = ril !== "auto" && ats !== "auto" && oas !== "auto" && ssidsize !== "auto";
    this.features = {
      ril: ril !== false,
      ats: ats === true,
      oasBits: oas === "auto" ? 44 : oas,
      ssidBits: ssidsize === "auto" ? 0 : ssidsize,
      cd2l: false,
    };
    smmu.applyFeatures(this.features);
    this.lookup = featuresOf(smmu.idr);
  }

  /** PASIDs are offered to the guest (or would be, with a host that has them, while `auto` is open). */
  get pasid(): boolean {
    return this.features.ssidBits > 0 || (!this.resolved && this.properties.ssidsize === "auto");
  }

  get state(): OfferState {
    return { features: this.features, resolved: this.resolved };
  }

  restore(state: OfferState): void {
    if (this.features !== state.features) {
      this.resolved = state.resolved;
      this.apply(state.features);
    }
  }

  /** Lets `auto` take what a host's SMMU (its IDR0 to IDR5) offers; nothing once the machine runs. */
  resolve(host: Int32Array): void {
    if (this.frozen) {
      return;
    }
    const { ril, ats, oas, ssidsize } = this.properties;
    const offered = featuresOfHost(host);
    const ssidBits = ssidsize === "auto" ? offered.ssidBits : ssidsize;
    this.resolved = true;
    this.apply({
      ril: ril === "auto" ? offered.ril : ril,
      ats: ats === "auto" ? offered.ats : ats,
      oasBits: oas === "auto" ? offered.oasBits : oas,
      ssidBits,
      cd2l: ssidBits > 0 && offered.cd2l,
    });
  }

  /**
   * The machine is complete: `auto` is what it is from now on. Throws Refusal where no host has told.
   * @param name `arm-smmuv3 'smmu0'`
   * @param elsewhere passed-through functions that sit where no accelerated SMMU covers them
   */
  freeze(name: string, elsewhere: readonly string[]): void {
    if (!this.resolved) {
      throw new Refusal("arm-smmuv3 accel=on with 'auto' properties requires at least one cold-plugged VFIO device", {
        rule: "auto-without-function",
        found: `${name} with ${Object.entries(this.properties)
          .filter(([, value]) => value === "auto")
          .map(([key]) => `${key}=auto`)
          .join(", ")} and no vfio-pci function behind it${elsewhere.length === 0 ? "" : `; ${elsewhere.join(", ")}`}`,
        wouldWork: "a vfio-pci function on its bus, or explicit values such as ril=on,ats=off,oas=44,ssidsize=0",
      });
    }
    this.frozen = true;
  }

  private apply(features: AcceleratedFeatures): void {
    this.features = features;
    this.smmu.applyFeatures(features);
    this.lookup = featuresOf(this.smmu.idr);
  }
}
