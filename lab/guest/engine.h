/* A function of PCI that user space drives by VFIO's device file and iommufd, and the DMA engine in a BAR of
 * some (docs/guest-scripts.md has the registers). Every failure ends the program with what failed. */
#ifndef LAB_ENGINE_H
#define LAB_ENGINE_H
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include "uapi.h"

#define die(...) (printf(__VA_ARGS__), printf("\n"), exit(1))
#define check(what, call) ((call) < 0 ? die("%s: %s", what, strerror(errno)) : (void)0)

struct function {
  const char *address;
  int fd, iommufd;
  uint32_t id;
  volatile uint32_t *registers;
  uint64_t config;
};

enum { ID, FEATURES, SRC, SRC_HIGH, DST, DST_HIGH, LENGTH, CONTROL, PASID, STATUS, FAULT, FAULT_HIGH, BYTES, PATTERN, INTERRUPT };
enum { COPY = 0 << 1, FILL = 3 << 1, START = 1, PASIDS = 8, MESSAGE = 128 };
enum { DONE = 2, FAULTED = 4, BAD = 8 };
/* CONTROL: requests translated by ATS; FEATURES: it is enabled. */
enum { BY_ATS = 16, HAS_ATS = 2 };

static inline void put(const char *path, const char *text) {
  int fd = open(path, O_WRONLY);
  if (fd < 0 || write(fd, text, strlen(text)) < 0) die("%s: %s", path, strerror(errno));
  close(fd);
}

static inline uint64_t now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000ull + t.tv_nsec / 1000;
}

/* Where the engine is: what a vendor-specific capability of an emulated function says, else the start of BAR 0. */
static inline uint32_t find_engine(struct function *f, uint64_t *offset) {
  uint8_t at = 0, capability[12];
  *offset = 0;
  if (pread(f->fd, &at, 1, f->config + 0x34) != 1) die("configuration space is not read");
  for (int links = 0; at != 0 && links < 48; links++, at = capability[1]) {
    if (pread(f->fd, capability, 12, f->config + at) != 12) die("a capability is not read");
    if (capability[0] == 9 && capability[2] == 12 && capability[3] == 'D') {
      *offset = capability[8] | capability[9] << 8 | capability[10] << 16 | (uint32_t)capability[11] << 24;
      return capability[4];
    }
  }
  return 0;
}

/* Takes a function of any kind from whoever has it to vfio-pci, opens it and binds it to an iommufd. */
static inline struct function open_any_function(const char *address) {
  struct function f = { .address = address };
  char path[300], name[64] = "";
  snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/driver/unbind", address);
  int unbind = open(path, O_WRONLY);
  if (unbind >= 0) { if (write(unbind, address, strlen(address)) < 0) die("unbind %s: %s", address, strerror(errno)); close(unbind); }
  snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/driver_override", address);
  put(path, "vfio-pci");
  snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/vfio-dev", address);
  DIR *devices = NULL;
  /* A function that has just come is shown before a driver can have it. */
  for (int tries = 0; tries < 100 && devices == NULL; tries++) {
    put("/sys/bus/pci/drivers_probe", address);
    devices = opendir(path);
    if (devices == NULL) usleep(100000);
  }
  if (devices == NULL) die("%s is not vfio-pci's: %s", address, strerror(errno));
  for (struct dirent *entry; (entry = readdir(devices)) != NULL;)
    if (entry->d_name[0] != '.') snprintf(name, sizeof name, "%.60s", entry->d_name);
  closedir(devices);
  snprintf(path, sizeof path, "/dev/vfio/devices/%s", name);
  check(path, f.fd = open(path, O_RDWR));
  check("/dev/iommu", f.iommufd = open("/dev/iommu", O_RDWR));
  struct call_bind bind = { .argsz = sizeof bind, .iommufd = f.iommufd };
  check("VFIO_DEVICE_BIND_IOMMUFD", ioctl(f.fd, CALL_BIND, &bind));
  f.id = bind.out_devid;
  return f;
}

/* The same with its registers mapped: those of a DMA engine, else BAR 0. */
static inline struct function open_function(const char *address) {
  struct function f = open_any_function(address);
  struct call_region_info bar = { .argsz = sizeof bar }, config = { .argsz = sizeof config, .index = REGION_CONFIG };
  check("VFIO_DEVICE_GET_REGION_INFO of configuration space", ioctl(f.fd, CALL_REGION_INFO, &config));
  f.config = config.offset;
  uint64_t engine;
  bar.index = find_engine(&f, &engine);
  check("VFIO_DEVICE_GET_REGION_INFO of the engine's BAR", ioctl(f.fd, CALL_REGION_INFO, &bar));
  /* memory space and bus mastering */
  uint16_t command = 0;
  if (pread(f.fd, &command, 2, f.config + 4) != 2) die("Command is not read");
  command |= 6;
  if (pwrite(f.fd, &command, 2, f.config + 4) != 2) die("Command is not written");
  f.registers = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, f.fd, bar.offset + engine);
  if (f.registers == MAP_FAILED) die("BAR %u is not mapped: %s", bar.index, strerror(errno));
  return f;
}

static inline struct function open_engine(const char *address) {
  struct function f = open_function(address);
  if (f.registers[ID] != 0x4d4d4f49) die("no DMA engine: ID is %08x", f.registers[ID]);
  return f;
}

static inline uint32_t new_ioas(struct function *f) {
  struct call_ioas_alloc call = { .size = sizeof call };
  check("IOMMU_IOAS_ALLOC", ioctl(f->iommufd, CALL_IOAS_ALLOC, &call));
  return call.out_ioas_id;
}

static inline void map(struct function *f, uint32_t ioas, void *memory, uint64_t length, uint64_t iova) {
  struct call_ioas_map call = { .size = sizeof call, .flags = MAP_FIXED_RW, .ioas_id = ioas, .user_va = (uintptr_t)memory, .length = length, .iova = iova };
  check("IOMMU_IOAS_MAP", ioctl(f->iommufd, CALL_IOAS_MAP, &call));
}

static inline void unmap(struct function *f, uint32_t ioas, uint64_t iova, uint64_t length) {
  struct call_ioas_unmap call = { .size = sizeof call, .ioas_id = ioas, .iova = iova, .length = length };
  check("IOMMU_IOAS_UNMAP", ioctl(f->iommufd, CALL_IOAS_UNMAP, &call));
}

static inline uint32_t new_hwpt(struct function *f, uint32_t ioas, uint32_t flags) {
  struct call_hwpt_alloc call = { .size = sizeof call, .flags = flags, .dev_id = f->id, .pt_id = ioas };
  check("IOMMU_HWPT_ALLOC", ioctl(f->iommufd, CALL_HWPT_ALLOC, &call));
  return call.out_hwpt_id;
}

static inline void attach(struct function *f, uint32_t table, uint32_t pasid) {
  struct call_attach call = { .argsz = sizeof call, .flags = pasid ? WITH_PASID : 0, .pt_id = table, .pasid = pasid };
  check(pasid ? "VFIO_DEVICE_ATTACH_IOMMUFD_PT with a PASID" : "VFIO_DEVICE_ATTACH_IOMMUFD_PT", ioctl(f->fd, CALL_ATTACH, &call));
}

static inline void detach(struct function *f, uint32_t pasid) {
  struct call_attach call = { .argsz = 12, .flags = pasid ? WITH_PASID : 0, .pt_id = pasid };
  check("VFIO_DEVICE_DETACH_IOMMUFD_PT", ioctl(f->fd, CALL_DETACH, &call));
}

static inline uint8_t *memory(uint64_t length) {
  void *p = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (p == MAP_FAILED) die("no memory");
  return p;
}

/* Runs an operation; its STATUS. */
static inline uint32_t operate(struct function *f, uint32_t operation, uint64_t source, uint64_t destination, uint32_t length, uint32_t pattern, uint32_t pasid, uint32_t more) {
  volatile uint32_t *r = f->registers;
  r[STATUS] = ~0u;
  r[SRC] = source, r[SRC_HIGH] = source >> 32, r[DST] = destination, r[DST_HIGH] = destination >> 32;
  r[LENGTH] = length, r[PATTERN] = pattern, r[PASID] = pasid;
  r[CONTROL] = START | operation | (pasid ? PASIDS : 0) | more;
  uint32_t status = 0;
  for (int tries = 0; tries < 1000 && !((status = r[STATUS]) & DONE); tries++) usleep(1000);
  return status;
}

static inline void must_be(const char *what, uint32_t status, uint32_t expected) {
  if (status != expected) die("%s: STATUS is %x, expected %x", what, status, expected);
}

static inline void holds(const char *what, const uint8_t *bytes, uint64_t length, uint32_t pattern) {
  for (uint64_t i = 0; i < length; i++)
    if (bytes[i] != (uint8_t)(pattern >> (8 * (i & 3)))) die("%s: byte %llx is %02x, the pattern is %08x", what, (unsigned long long)i, bytes[i], pattern);
}
#endif
