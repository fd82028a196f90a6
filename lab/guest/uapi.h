/* Calls of iommufd and of VFIO's device files (Linux 7.3, linux/iommufd.h and linux/vfio.h), of which older C libraries
 * have no headers, as far as the programs here use them. */
#ifndef LAB_UAPI_H
#define LAB_UAPI_H
#include <stdint.h>
#include <sys/ioctl.h>

#define IOMMUFD_CALL(nr) _IO(';', nr)
#define CALL_IOAS_ALLOC IOMMUFD_CALL(0x81)
#define CALL_IOAS_MAP IOMMUFD_CALL(0x85)
#define CALL_IOAS_UNMAP IOMMUFD_CALL(0x86)
#define CALL_HWPT_ALLOC IOMMUFD_CALL(0x89)

struct call_ioas_alloc { uint32_t size, flags, out_ioas_id; };
struct call_ioas_map { uint32_t size, flags, ioas_id, reserved; uint64_t user_va, length, iova; };
struct call_ioas_unmap { uint32_t size, ioas_id; uint64_t iova, length; };
struct call_hwpt_alloc { uint32_t size, flags, dev_id, pt_id, out_hwpt_id, reserved, data_type, data_len; uint64_t data; uint32_t fault_id, reserved2; };
/* fixed address, readable, writable */
#define MAP_FIXED_RW 7u
#define HWPT_FOR_PASIDS 8u

#define VFIO_CALL(nr) _IO(';', 100 + (nr))
#define CALL_REGION_INFO VFIO_CALL(8)
#define CALL_SET_IRQS VFIO_CALL(10)
#define CALL_BIND VFIO_CALL(18)
#define CALL_ATTACH VFIO_CALL(19)
#define CALL_DETACH VFIO_CALL(20)

struct call_region_info { uint32_t argsz, flags, index, cap_offset; uint64_t size, offset; };
struct call_set_irqs { uint32_t argsz, flags, index, start, count; int32_t fds[8]; };
struct call_bind { uint32_t argsz, flags; int32_t iommufd; uint32_t out_devid; };
struct call_attach { uint32_t argsz, flags, pt_id, pasid; };
#define REGION_CONFIG 7u
#define IRQ_INTX 0u
#define IRQ_MSIX 2u
/* descriptors that are signalled; no data with count 0 disables; no data, unmask */
#define IRQ_EVENTFDS 0x24u
#define IRQ_UNMASK 0x11u
#define WITH_PASID 1u
#endif
