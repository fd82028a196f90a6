/* edu BUS:DEV.FN [intx | stray]: QEMU's edu by VFIO and iommufd of the guest (qemu: docs/specs/edu.rst). Its DMA goes to
 * memory and back through its buffer, and where nothing is mapped goes nowhere; intx: its pin, masked and unmasked,
 * instead. stray: without VFIO, which takes no function that a device tree gives a direct mapping
 * (iommu_create_device_direct_mappings): its DMA in the kernel's own address space for it, where nothing is mapped. */
#include "engine.h"

enum { EDU_ID = 0x00, EDU_LIVE = 0x04, EDU_RAISE = 0x60, EDU_LOWER = 0x64, EDU_SOURCE = 0x80, EDU_TARGET = 0x88, EDU_COUNT = 0x90, EDU_COMMAND = 0x98 };
enum { RUN = 1, TO_MEMORY = 2, BUFFER = 0x40000 };

static volatile uint64_t *wide(struct function *f, int offset) { return (volatile uint64_t *)((volatile uint8_t *)f->registers + offset); }
static volatile uint32_t *narrow(struct function *f, int offset) { return f->registers + offset / 4; }

/* Its registers by sysfs. */
static struct function without_vfio(const char *address) {
  struct function f = { .address = address };
  char path[300];
  snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/config", address);
  int config = open(path, O_RDWR), bar;
  uint16_t command = 6;
  if (config < 0 || pwrite(config, &command, 2, 4) != 2) die("%s: %s", path, strerror(errno));
  close(config);
  snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/resource0", address);
  check(path, bar = open(path, O_RDWR));
  f.registers = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, bar, 0);
  if (f.registers == MAP_FAILED) die("BAR 0 is not mapped: %s", strerror(errno));
  return f;
}

static void transfer(struct function *f, uint64_t source, uint64_t target, uint64_t bytes, int command) {
  *wide(f, EDU_SOURCE) = source, *wide(f, EDU_TARGET) = target, *wide(f, EDU_COUNT) = bytes;
  *wide(f, EDU_COMMAND) = RUN | command;
  for (int tries = 0; *wide(f, EDU_COMMAND) & RUN; tries++) {
    if (tries == 5000) die("edu's DMA does not end");
    usleep(1000);
  }
}

static void pin(struct function *f) {
  int event;
  struct call_set_irqs irqs = { .argsz = 20 + 4, .flags = IRQ_EVENTFDS, .index = IRQ_INTX, .count = 1 };
  struct call_set_irqs unmask = { .argsz = 20, .flags = IRQ_UNMASK, .index = IRQ_INTX, .count = 1 };
  check("eventfd", irqs.fds[0] = event = eventfd(0, EFD_NONBLOCK));
  check("VFIO_DEVICE_SET_IRQS of INTx", ioctl(f->fd, CALL_SET_IRQS, &irqs));
  uint64_t seen;
  struct pollfd wait = { .fd = event, .events = POLLIN };
  for (int round = 0; round < 20; round++) {
    *narrow(f, EDU_RAISE) = 1;
    if (poll(&wait, 1, 10000) != 1 || read(event, &seen, 8) != 8) die("round %d: the pin does not interrupt", round);
    /* It is masked now: it stays silent, though it is high. */
    if (poll(&wait, 1, 20) != 0) die("round %d: it interrupts though it is masked", round);
    if (round % 2) {
      /* Still high when unmasked: it interrupts again. */
      check("unmask", ioctl(f->fd, CALL_SET_IRQS, &unmask));
      if (poll(&wait, 1, 10000) != 1 || read(event, &seen, 8) != 8) die("round %d: unmasked and high, it does not interrupt", round);
    }
    *narrow(f, EDU_LOWER) = 1;
    check("unmask", ioctl(f->fd, CALL_SET_IRQS, &unmask));
    if (poll(&wait, 1, 20) != 0) die("round %d: it interrupts though it is low", round);
  }
  printf("edu: 20 rounds of its pin\n");
}

int main(int count, char **words) {
  if (count < 2) die("usage: edu BUS:DEV.FN [intx | stray]");
  int stray = count > 2 && !strcmp(words[2], "stray");
  struct function f = stray ? without_vfio(words[1]) : open_function(words[1]);
  if ((*narrow(&f, EDU_ID) & 0xffff) != 0x00ed) die("no edu: its identification is %08x", *narrow(&f, EDU_ID));
  *narrow(&f, EDU_LIVE) = 0x12345678;
  if (*narrow(&f, EDU_LIVE) != ~0x12345678u) die("edu's liveness register is %08x", *narrow(&f, EDU_LIVE));
  if (stray) {
    transfer(&f, BUFFER, 0x2345000, 4, TO_MEMORY);
    return 0;
  }
  uint32_t ioas = new_ioas(&f);
  attach(&f, ioas, 0);
  if (count > 2) {
    pin(&f);
    return 0;
  }
  /* It has 28 address bits. */
  const uint64_t iova = 0x1000000, step = 65536, length = 4 * step;
  uint8_t *bytes = memory(length);
  for (uint64_t i = 0; i < length; i++) bytes[i] = i * 7 + (i >> 8);
  map(&f, ioas, bytes, length, iova);
  for (int page = 0; page < 2; page++) {
    transfer(&f, iova + page * step, BUFFER, 4096, 0);
    transfer(&f, BUFFER, iova + (2 + page) * step, 4096, TO_MEMORY);
  }
  if (memcmp(bytes, bytes + 2 * step, 4096) || memcmp(bytes + step, bytes + 3 * step, 4096)) die("what came back through edu is not what it was given");
  printf("edu: 8 KiB through its buffer\n");
  unmap(&f, ioas, iova, length);
  memset(bytes, 0x55, length);
  transfer(&f, BUFFER, iova, 4, TO_MEMORY);
  for (uint64_t i = 0; i < length; i++)
    if (bytes[i] != 0x55) die("unmapped memory was written at %llx", (unsigned long long)i);
  transfer(&f, BUFFER, 0x2345000, 4, TO_MEMORY);
  printf("edu: unmapped memory is not reached\n");
  return 0;
}
