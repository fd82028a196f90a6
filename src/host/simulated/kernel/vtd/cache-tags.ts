/** Invalidation of what hardware has cached of a domain (Linux drivers/iommu/intel/cache.c). */
import { ALL_PAGES, deviceTlbDescriptor, iotlbDescriptor, type Pages, pasidIotlbDescriptor } from "./descriptors.js";
import type { Attachment } from "./domain-ids.js";
import type { VtdDriver } from "./driver.js";

/** How entries of an attachment are found in the IOTLB: by domain and PASID (first stage, nested), or by domain alone. */
export type IotlbKind = "pasid" | "domain";

/**
 * Drops pages of all attachments: first from the units, then from the functions' own caches, which could be
 * filled again from the units else (6.5.2.5).
 *
 * @param nested attachments of nested domains on this second stage: what functions cache of them is found by
 *   the guest's addresses, so all of it goes
 */
export function flushPages(attachments: Iterable<Attachment>, nested: Iterable<Attachment>, kind: IotlbKind, pages: Pages, leafOnly: boolean): void {
  const drivers = new Set<VtdDriver>();
  const done = new Map<VtdDriver, Set<number>>();
  const once = (driver: VtdDriver, key: number): boolean => {
    const keys = done.get(driver) ?? new Set<number>();
    done.set(driver, keys);
    return keys.size !== keys.add(key).size;
  };
  const devices: Array<readonly [Attachment, Pages]> = [];
  for (const attachment of attachments) {
    const { driver, domainId, pasid } = attachment;
    drivers.add(driver);
    if (kind === "pasid") {
      if (once(driver, pasid * 0x1_0000 + domainId)) {
        driver.submit(pasidIotlbDescriptor(driver.features, domainId, pasid, pages, leafOnly));
      }
    } else if (once(driver, domainId)) {
      driver.submit(iotlbDescriptor(driver.features, domainId, pages, leafOnly));
    }
    devices.push([attachment, pages]);
  }
  for (const attachment of nested) {
    const { driver, domainId } = attachment;
    drivers.add(driver);
    if (once(driver, domainId)) {
      driver.submit(iotlbDescriptor(driver.features, domainId, pages, leafOnly));
    }
    devices.push([attachment, ALL_PAGES]);
  }
  for (const driver of drivers) {
    driver.wait();
  }
  drivers.clear();
  for (const [attachment, wanted] of devices) {
    if (attachment.ats) {
      drivers.add(attachment.driver);
      attachment.driver.submit(deviceTlbDescriptor(attachment.requesterId, attachment.pasid, wanted));
    }
  }
  for (const driver of drivers) {
    driver.wait();
  }
}
