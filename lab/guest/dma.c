/* dma BUS:DEV.FN [silent] [ats]: DMA of a function through the guest's IOMMU by VFIO: what is mapped is reached and nothing
 * else, what was unmapped is reached no more, messages arrive. Silent: without messages, which a program of the guest does
 * not get behind an accelerated SMMU (docs/guests.md). ATS: what is used has been translated by the function before,
 * and is in its cache when it is unmapped. */
#include "engine.h"

/* Bits of CONTROL that every operation has. */
static uint32_t always;

/* Each of three vectors arrives at the event that it was given. */
static void messages(struct function *f, uint64_t iova) {
  int events[3];
  struct call_set_irqs irqs = { .argsz = 20 + 12, .flags = IRQ_EVENTFDS, .index = IRQ_MSIX, .count = 3 };
  for (int i = 0; i < 3; i++) check("eventfd", irqs.fds[i] = events[i] = eventfd(0, EFD_NONBLOCK));
  check("VFIO_DEVICE_SET_IRQS", ioctl(f->fd, CALL_SET_IRQS, &irqs));
  for (int i = 0; i < 3; i++) {
    must_be("fill with a message", operate(f, FILL, 0, iova, 4096, i, 0, always | MESSAGE | i << 16), DONE);
    struct pollfd wait = { .fd = events[i], .events = POLLIN };
    if (poll(&wait, 1, 10000) != 1) die("message of vector %d does not arrive", i);
  }
  printf("dma: 3 messages\n");
}

int main(int count, char **words) {
  if (count < 2) die("usage: dma BUS:DEV.FN [silent] [ats]");
  int silent = 0;
  for (int i = 2; i < count; i++) strcmp(words[i], "ats") ? (silent = 1) : (always = BY_ATS);
  struct function f = open_engine(words[1]);
  uint32_t ioas = new_ioas(&f);
  attach(&f, ioas, 0);
  const uint64_t length = 1 << 20, iova = 0x40000000;
  uint8_t *bytes = memory(length);
  map(&f, ioas, bytes, length, iova);

  if (always && !(f.registers[FEATURES] & HAS_ATS)) die("the kernel has not enabled ATS");
  must_be("fill", operate(&f, FILL, 0, iova, 65536, 0x12345678, 0, always), DONE);
  holds("filled", bytes, 65536, 0x12345678);
  must_be("copy", operate(&f, COPY, iova, iova + 524288, 65536, 0, 0, always), DONE);
  holds("copied", bytes + 524288, 65536, 0x12345678);
  printf("dma: filled and copied\n");

  if (!silent) messages(&f, iova);

  for (int round = 0; round < 20; round++) {
    uint64_t at = iova + 0x10000000 + round * 0x1000;
    map(&f, ioas, bytes, 4096, at);
    must_be("fill of a page", operate(&f, FILL, 0, at, 4096, round, 0, always), DONE);
    holds("page", bytes, 4096, round);
    unmap(&f, ioas, at, 4096);
    uint32_t status = operate(&f, FILL, 0, at, 4096, 0xdead, 0, always);
    if (status != (DONE | FAULTED)) die("round %d: DMA to an unmapped address: STATUS is %x", round, status);
    if (f.registers[FAULT] != (uint32_t)at) die("it faulted at %x, not at %x", f.registers[FAULT], (uint32_t)at);
    holds("page after", bytes, 4096, round);
  }
  unmap(&f, ioas, iova, length);
  must_be("fill after unmap", operate(&f, FILL, 0, iova, 4096, 0xdead, 0, always), DONE | FAULTED);
  printf("dma: 20 rounds of map, use, unmap; unmapped addresses fault\n");
  return 0;
}
