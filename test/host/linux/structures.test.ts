import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import * as structures from "../../../src/host/linux/structures.js";
import { hasCompiler, includeFolder } from "../../iommufd/headers.js";

const { Structure } = structures;
const all = Object.values(structures).filter((one) => one instanceof Structure);

/** Structures whose first forms are meant: what follows their last field is not ours. */
const SHORTER = new Set(["vfio_device_bind_iommufd"]);

/** Numbers by the headers' names. */
const NUMBERS: Record<string, number> = {
  ...Object.fromEntries(Object.entries(structures.IOMMU).map(([name, value]) => [`IOMMU_${name}`, value])),
  ...Object.fromEntries(Object.entries(structures.VFIO).map(([name, value]) => [`VFIO_DEVICE_${name}`, value])),
  ...Object.fromEntries(Object.entries(structures.MapFlags).map(([name, value]) => [`IOMMU_IOAS_MAP_${name}`, value])),
  ...Object.fromEntries(Object.entries(structures.OptionOp).map(([name, value]) => [`IOMMU_OPTION_OP_${name}`, value])),
  ...Object.fromEntries(Object.entries(structures.DeviceFlags).map(([name, value]) => [`VFIO_DEVICE_FLAGS_${name}`, value])),
  ...Object.fromEntries(Object.entries(structures.RegionFlags).map(([name, value]) => [`VFIO_REGION_INFO_FLAG_${name}`, value])),
  ...Object.fromEntries(Object.entries(structures.IrqFlags).map(([name, value]) => [`VFIO_IRQ_INFO_${name}`, value])),
  ...Object.fromEntries(Object.entries(structures.IrqSetFlags).map(([name, value]) => [`VFIO_IRQ_SET_${name}`, value])),
  IOMMU_HWPT_DIRTY_TRACKING_ENABLE: structures.DIRTY_TRACKING_ENABLE,
  VFIO_DEVICE_BIND_FLAG_TOKEN: structures.WITH_TOKEN,
  VFIO_DEVICE_ATTACH_PASID: structures.WITH_PASID,
  VFIO_DEVICE_DETACH_PASID: structures.WITH_PASID,
  VFIO_REGION_INFO_CAP_SPARSE_MMAP: structures.SPARSE_MMAP.ID,
};

/** Offsets of what follows structures, by C expressions. */
const OFFSETS: Record<string, number> = {
  "offsetof(struct vfio_info_cap_header, id)": structures.CAPABILITY.ID,
  "offsetof(struct vfio_info_cap_header, next)": structures.CAPABILITY.NEXT,
  "offsetof(struct vfio_region_info_cap_sparse_mmap, nr_areas)": structures.SPARSE_MMAP.NR_AREAS,
  "offsetof(struct vfio_region_info_cap_sparse_mmap, areas)": structures.SPARSE_MMAP.AREAS,
  "sizeof(struct vfio_region_sparse_mmap_area)": structures.SPARSE_MMAP.AREA_BYTES,
  "offsetof(struct vfio_region_sparse_mmap_area, offset)": structures.SPARSE_MMAP.AREA_OFFSET,
  "offsetof(struct vfio_region_sparse_mmap_area, size)": structures.SPARSE_MMAP.AREA_SIZE,
  "offsetof(struct vfio_irq_set, data)": structures.IRQ_SET.bytes,
  "offsetof(struct vfio_pci_hot_reset_info, devices)": structures.HOT_RESET_INFO.bytes,
  "sizeof(struct vfio_pci_dependent_device)": structures.DEPENDENT_DEVICE.BYTES,
  "offsetof(struct vfio_pci_dependent_device, devid)": structures.DEPENDENT_DEVICE.DEVID,
  "offsetof(struct vfio_pci_dependent_device, segment)": structures.DEPENDENT_DEVICE.SEGMENT,
  "offsetof(struct vfio_pci_dependent_device, bus)": structures.DEPENDENT_DEVICE.BUS,
  "offsetof(struct vfio_pci_dependent_device, devfn)": structures.DEPENDENT_DEVICE.DEVFN,
  "offsetof(struct vfio_device_feature, data)": structures.DEVICE_FEATURE.bytes,
  "offsetof(struct vfio_device_feature_dma_buf, region_index)": structures.FEATURE_DMA_BUF.REGION_INDEX,
  "offsetof(struct vfio_device_feature_dma_buf, open_flags)": structures.FEATURE_DMA_BUF.OPEN_FLAGS,
  "offsetof(struct vfio_device_feature_dma_buf, flags)": structures.FEATURE_DMA_BUF.FLAGS,
  "offsetof(struct vfio_device_feature_dma_buf, nr_ranges)": structures.FEATURE_DMA_BUF.NR_RANGES,
  "offsetof(struct vfio_device_feature_dma_buf, dma_ranges)": structures.FEATURE_DMA_BUF.RANGES,
  "sizeof(struct vfio_region_dma_range)": structures.FEATURE_DMA_BUF.RANGE_BYTES,
  "offsetof(struct vfio_region_dma_range, offset)": structures.FEATURE_DMA_BUF.RANGE_OFFSET,
  "offsetof(struct vfio_region_dma_range, length)": structures.FEATURE_DMA_BUF.RANGE_LENGTH,
  "offsetof(struct vfio_device_attach_iommufd_pt, pasid)": structures.ATTACH_BYTES,
  "offsetof(struct vfio_device_detach_iommufd_pt, pasid)": structures.DETACH_BYTES,
};

describe("the structures of the Linux host's ioctls", () => {
  it("have fields that lie within them, one after the other", () => {
    expect(all.length).toBe(30);
    for (const { tag, bytes, fields } of all) {
      let end = 0;
      for (const [offset, size] of Object.values(fields) as Array<readonly [number, number]>) {
        expect(offset >= end && offset + size <= bytes, tag).toBe(true);
        end = offset + size;
      }
    }
  });

  const include = hasCompiler() ? includeFolder() : null;
  it.skipIf(include === null)("are what a C program over Linux's headers says", () => {
    const folder = mkdtempSync(join(tmpdir(), "structures-"));
    try {
      const expressions = [
        ...all.flatMap(({ tag, bytes, fields }) => [
          ...(SHORTER.has(tag) ? [] : [[`sizeof(struct ${tag})`, bytes] as const]),
          ...Object.entries<readonly [number, number]>(fields).flatMap(([name, [offset, size]]) => [
            [`offsetof(struct ${tag}, ${name})`, offset] as const,
            [`sizeof(((struct ${tag} *)0)->${name})`, size] as const,
          ]),
        ]),
        ...Object.entries(NUMBERS),
        ...Object.entries(OFFSETS),
      ];
      writeFileSync(
        join(folder, "layout.c"),
        `#define __counted_by(member)\n#include <stddef.h>\n#include <stdio.h>\n#include <linux/iommufd.h>\n#include <linux/vfio.h>\nint main(void) {\n${expressions.map(([text]) => `printf("%llu\\n", (unsigned long long)(${text}));`).join("\n")}\nreturn 0; }\n`,
      );
      execFileSync("gcc", ["-I", include!.folder, "-o", join(folder, "layout"), join(folder, "layout.c")]);
      const said = execFileSync(join(folder, "layout"), { encoding: "utf8" }).trim().split("\n").map(Number);
      expect(Object.fromEntries(expressions.map(([text], n) => [text, said[n]]))).toEqual(Object.fromEntries(expressions));
    } finally {
      rmSync(folder, { recursive: true });
      if (include!.temporary) {
        rmSync(include!.folder, { recursive: true });
      }
    }
  });
});
