/**
 * Structures and numbers of the ioctls that the host is made of (linux/iommufd.h, linux/vfio.h), by the headers' names.
 * test/host/linux/structures.test.ts holds them against a C program over the headers.
 */

/** Where a field lies: bytes from the start, and bytes that it has (1, 2, 4 or 8). */
export type Field = readonly [offset: number, bytes: number];

/** A structure as C lays it out; its first field is its size in bytes (`size`, or `argsz`), which `make` fills in. */
export class Structure<Name extends string> {
  constructor(
    /** After `struct`. */
    readonly tag: string,
    readonly bytes: number,
    readonly fields: Readonly<Record<Name, Field>>,
  ) {}

  /** @param bytes of the whole where more follows it, or where an older kernel's shorter form is meant */
  make(values?: Readonly<Partial<Record<Name, number | bigint>>>, bytes = this.bytes): Filled<Name> {
    const filled = new Filled(this, bytes);
    for (const name in values) {
      filled.set(name, values[name]!);
    }
    return filled;
  }
}

/** The bytes of a structure, little-endian; what an ioctl takes and answers by. */
export class Filled<Name extends string> {
  readonly bytes: Buffer;
  private readonly view: DataView;

  constructor(
    private readonly structure: Structure<Name>,
    bytes: number,
  ) {
    this.bytes = Buffer.alloc(bytes);
    this.view = new DataView(this.bytes.buffer, this.bytes.byteOffset, bytes);
    this.view.setUint32(0, bytes, true);
  }

  set(name: Name, value: number | bigint): void {
    const [offset, bytes] = this.structure.fields[name];
    switch (bytes) {
      case 1:
        this.view.setUint8(offset, Number(value));
        break;
      case 2:
        this.view.setUint16(offset, Number(value), true);
        break;
      case 4:
        this.view.setUint32(offset, Number(value), true);
        break;
      default:
        this.view.setBigUint64(offset, BigInt(value), true);
    }
  }

  /** A field of up to 4 bytes. */
  number(name: Name): number {
    const [offset, bytes] = this.structure.fields[name];
    return bytes === 1 ? this.view.getUint8(offset) : bytes === 2 ? this.view.getUint16(offset, true) : this.view.getUint32(offset, true);
  }

  /** A field of 8 bytes. */
  wide(name: Name): bigint {
    return this.view.getBigUint64(this.structure.fields[name][0], true);
  }
}

// ---- linux/iommufd.h ----

/** Numbers of iommufd's ioctls: _IO(';', IOMMUFD_CMD_...), by the names that the account has. */
export const IOMMU = {
  DESTROY: 0x3b80,
  IOAS_ALLOC: 0x3b81,
  IOAS_ALLOW_IOVAS: 0x3b82,
  IOAS_COPY: 0x3b83,
  IOAS_IOVA_RANGES: 0x3b84,
  IOAS_MAP: 0x3b85,
  IOAS_UNMAP: 0x3b86,
  OPTION: 0x3b87,
  HWPT_ALLOC: 0x3b89,
  GET_HW_INFO: 0x3b8a,
  HWPT_SET_DIRTY_TRACKING: 0x3b8b,
  HWPT_GET_DIRTY_BITMAP: 0x3b8c,
  HWPT_INVALIDATE: 0x3b8d,
  FAULT_QUEUE_ALLOC: 0x3b8e,
  IOAS_MAP_FILE: 0x3b8f,
  VIOMMU_ALLOC: 0x3b90,
  VDEVICE_ALLOC: 0x3b91,
  VEVENTQ_ALLOC: 0x3b93,
} as const;

export const DESTROY = new Structure("iommu_destroy", 8, { size: [0, 4], id: [4, 4] });
export const IOAS_ALLOC = new Structure("iommu_ioas_alloc", 12, { size: [0, 4], flags: [4, 4], out_ioas_id: [8, 4] });
export const IOAS_IOVA_RANGES = new Structure("iommu_ioas_iova_ranges", 32, { size: [0, 4], ioas_id: [4, 4], num_iovas: [8, 4], allowed_iovas: [16, 8], out_iova_alignment: [24, 8] });
export const IOAS_ALLOW_IOVAS = new Structure("iommu_ioas_allow_iovas", 24, { size: [0, 4], ioas_id: [4, 4], num_iovas: [8, 4], allowed_iovas: [16, 8] });
/** An element of the two before: not sized itself. */
export const IOVA_RANGE = new Structure("iommu_iova_range", 16, { start: [0, 8], last: [8, 8] });
export const IOAS_MAP = new Structure("iommu_ioas_map", 40, { size: [0, 4], flags: [4, 4], ioas_id: [8, 4], user_va: [16, 8], length: [24, 8], iova: [32, 8] });
export const IOAS_MAP_FILE = new Structure("iommu_ioas_map_file", 40, { size: [0, 4], flags: [4, 4], ioas_id: [8, 4], fd: [12, 4], start: [16, 8], length: [24, 8], iova: [32, 8] });
export const IOAS_COPY = new Structure("iommu_ioas_copy", 40, { size: [0, 4], flags: [4, 4], dst_ioas_id: [8, 4], src_ioas_id: [12, 4], length: [16, 8], dst_iova: [24, 8], src_iova: [32, 8] });
export const IOAS_UNMAP = new Structure("iommu_ioas_unmap", 24, { size: [0, 4], ioas_id: [4, 4], iova: [8, 8], length: [16, 8] });
export const OPTION = new Structure("iommu_option", 24, { size: [0, 4], option_id: [4, 4], op: [8, 2], object_id: [12, 4], val64: [16, 8] });
export const HWPT_ALLOC = new Structure("iommu_hwpt_alloc", 48, { size: [0, 4], flags: [4, 4], dev_id: [8, 4], pt_id: [12, 4], out_hwpt_id: [16, 4], data_type: [24, 4], data_len: [28, 4], data_uptr: [32, 8], fault_id: [40, 4] });
export const GET_HW_INFO = new Structure("iommu_hw_info", 40, { size: [0, 4], flags: [4, 4], dev_id: [8, 4], data_len: [12, 4], data_uptr: [16, 8], out_data_type: [24, 4], out_max_pasid_log2: [28, 1], out_capabilities: [32, 8] });
export const HWPT_SET_DIRTY_TRACKING = new Structure("iommu_hwpt_set_dirty_tracking", 16, { size: [0, 4], flags: [4, 4], hwpt_id: [8, 4] });
export const HWPT_GET_DIRTY_BITMAP = new Structure("iommu_hwpt_get_dirty_bitmap", 48, { size: [0, 4], hwpt_id: [4, 4], flags: [8, 4], iova: [16, 8], length: [24, 8], page_size: [32, 8], data: [40, 8] });
export const HWPT_INVALIDATE = new Structure("iommu_hwpt_invalidate", 32, { size: [0, 4], hwpt_id: [4, 4], data_uptr: [8, 8], data_type: [16, 4], entry_len: [20, 4], entry_num: [24, 4] });
export const FAULT_ALLOC = new Structure("iommu_fault_alloc", 16, { size: [0, 4], flags: [4, 4], out_fault_id: [8, 4], out_fault_fd: [12, 4] });
export const VIOMMU_ALLOC = new Structure("iommu_viommu_alloc", 40, { size: [0, 4], flags: [4, 4], type: [8, 4], dev_id: [12, 4], hwpt_id: [16, 4], out_viommu_id: [20, 4], data_len: [24, 4], data_uptr: [32, 8] });
export const VDEVICE_ALLOC = new Structure("iommu_vdevice_alloc", 24, { size: [0, 4], viommu_id: [4, 4], dev_id: [8, 4], out_vdevice_id: [12, 4], virt_id: [16, 8] });
export const VEVENTQ_ALLOC = new Structure("iommu_veventq_alloc", 32, { size: [0, 4], flags: [4, 4], viommu_id: [8, 4], type: [12, 4], veventq_depth: [16, 4], out_veventq_id: [20, 4], out_veventq_fd: [24, 4] });

/** enum iommufd_ioas_map_flags. */
export const MapFlags = { FIXED_IOVA: 1 << 0, WRITEABLE: 1 << 1, READABLE: 1 << 2 } as const;
/** enum iommufd_option_ops. */
export const OptionOp = { SET: 0, GET: 1 } as const;
/** IOMMU_HWPT_DIRTY_TRACKING_ENABLE. */
export const DIRTY_TRACKING_ENABLE = 1;

// ---- linux/vfio.h ----

/** Numbers of VFIO's ioctls on a device's character device: _IO(';', VFIO_BASE + n). */
export const VFIO = {
  GET_INFO: 0x3b6b,
  GET_REGION_INFO: 0x3b6c,
  GET_IRQ_INFO: 0x3b6d,
  SET_IRQS: 0x3b6e,
  RESET: 0x3b6f,
  GET_PCI_HOT_RESET_INFO: 0x3b70,
  PCI_HOT_RESET: 0x3b71,
  FEATURE: 0x3b75,
  BIND_IOMMUFD: 0x3b76,
  ATTACH_IOMMUFD_PT: 0x3b77,
  DETACH_IOMMUFD_PT: 0x3b78,
} as const;

/** The first form, which every kernel with these ioctls takes; a PASID is behind it (`*_PASID_BYTES`). */
export const DEVICE_BIND = new Structure("vfio_device_bind_iommufd", 16, { argsz: [0, 4], flags: [4, 4], iommufd: [8, 4], out_devid: [12, 4] });
/** Linux 6.19's, with a token (VFIO_DEVICE_BIND_FLAG_TOKEN). */
export const DEVICE_BIND_TOKEN = new Structure("vfio_device_bind_iommufd", 24, { argsz: [0, 4], flags: [4, 4], iommufd: [8, 4], out_devid: [12, 4], token_uuid_ptr: [16, 8] });
export const WITH_TOKEN = 1 << 0;
export const DEVICE_ATTACH = new Structure("vfio_device_attach_iommufd_pt", 16, { argsz: [0, 4], flags: [4, 4], pt_id: [8, 4], pasid: [12, 4] });
export const DEVICE_DETACH = new Structure("vfio_device_detach_iommufd_pt", 12, { argsz: [0, 4], flags: [4, 4], pasid: [8, 4] });
/** Bytes of them without a PASID. */
export const ATTACH_BYTES = 12;
export const DETACH_BYTES = 8;
/** VFIO_DEVICE_ATTACH_PASID and VFIO_DEVICE_DETACH_PASID. */
export const WITH_PASID = 1 << 0;
export const DEVICE_INFO = new Structure("vfio_device_info", 24, { argsz: [0, 4], flags: [4, 4], num_regions: [8, 4], num_irqs: [12, 4], cap_offset: [16, 4] });
/** VFIO_DEVICE_FLAGS_RESET, _PCI. */
export const DeviceFlags = { RESET: 1 << 0, PCI: 1 << 1 } as const;
export const REGION_INFO = new Structure("vfio_region_info", 32, { argsz: [0, 4], flags: [4, 4], index: [8, 4], cap_offset: [12, 4], size: [16, 8], offset: [24, 8] });
export const RegionFlags = { READ: 1 << 0, WRITE: 1 << 1, MMAP: 1 << 2, CAPS: 1 << 3 } as const;
/** struct vfio_info_cap_header, the head of what follows a region's information. */
export const CAPABILITY = { ID: 0, NEXT: 4 } as const;
/** VFIO_REGION_INFO_CAP_SPARSE_MMAP, and byte offsets in struct vfio_region_info_cap_sparse_mmap. */
export const SPARSE_MMAP = { ID: 1, NR_AREAS: 8, AREAS: 16, AREA_BYTES: 16, AREA_OFFSET: 0, AREA_SIZE: 8 } as const;
export const IRQ_INFO = new Structure("vfio_irq_info", 16, { argsz: [0, 4], flags: [4, 4], index: [8, 4], count: [12, 4] });
export const IrqFlags = { EVENTFD: 1 << 0, MASKABLE: 1 << 1, AUTOMASKED: 1 << 2, NORESIZE: 1 << 3 } as const;
/** Its data follow from byte 20 on. */
export const IRQ_SET = new Structure("vfio_irq_set", 20, { argsz: [0, 4], flags: [4, 4], index: [8, 4], start: [12, 4], count: [16, 4] });
export const IrqSetFlags = { DATA_NONE: 1 << 0, DATA_EVENTFD: 1 << 2, ACTION_MASK: 1 << 3, ACTION_UNMASK: 1 << 4, ACTION_TRIGGER: 1 << 5 } as const;
export const HOT_RESET_INFO = new Structure("vfio_pci_hot_reset_info", 12, { argsz: [0, 4], flags: [4, 4], count: [8, 4] });
/** struct vfio_pci_dependent_device, one for each behind the information. */
export const DEPENDENT_DEVICE = { BYTES: 8, DEVID: 0, SEGMENT: 4, BUS: 6, DEVFN: 7 } as const;
export const HOT_RESET = new Structure("vfio_pci_hot_reset", 12, { argsz: [0, 4], flags: [4, 4], count: [8, 4] });
/** Its data follow from byte 8 on. */
export const DEVICE_FEATURE = new Structure("vfio_device_feature", 8, { argsz: [0, 4], flags: [4, 4] });
/** Byte offsets in struct vfio_device_feature_dma_buf, and in a range of it (struct vfio_region_dma_range). */
export const FEATURE_DMA_BUF = { REGION_INDEX: 0, OPEN_FLAGS: 4, FLAGS: 8, NR_RANGES: 12, RANGES: 16, RANGE_BYTES: 16, RANGE_OFFSET: 0, RANGE_LENGTH: 8 } as const;
