/* pasid BUS:DEV.FN: address spaces of one function told apart by PASIDs, which the guest's kernel attaches (VFIO's
 * device file with VFIO_DEVICE_ATTACH_PASID): the same IOVA reaches other memory under each. */
#include "engine.h"

int main(int count, char **words) {
  if (count != 2) die("usage: pasid BUS:DEV.FN");
  struct function f = open_engine(words[1]);
  const uint32_t pasids[] = { 0, 5, 77 };
  const uint64_t iova = 0x40000000, length = 65536;
  uint8_t *bytes[3];
  uint32_t spaces[3];
  for (int i = 0; i < 3; i++) {
    spaces[i] = new_ioas(&f);
    bytes[i] = memory(length);
    map(&f, spaces[i], bytes[i], length, iova);
    attach(&f, new_hwpt(&f, spaces[i], HWPT_FOR_PASIDS), pasids[i]);
  }
  if (!(f.registers[FEATURES] & 1)) die("PASIDs are not switched on in the function");
  for (int i = 0; i < 3; i++) must_be("fill", operate(&f, FILL, 0, iova, length, 0x1000 + pasids[i], pasids[i], 0), DONE);
  for (int i = 0; i < 3; i++) holds("memory of a PASID", bytes[i], length, 0x1000 + pasids[i]);
  printf("pasid: three address spaces at one IOVA\n");
  unmap(&f, spaces[1], iova, length);
  must_be("fill of what PASID 5 has no more", operate(&f, FILL, 0, iova, 4096, 0xdead, 5, 0), DONE | FAULTED);
  must_be("fill of what PASID 77 has", operate(&f, FILL, 0, iova, 4096, 0x77, 77, 0), DONE);
  holds("memory of PASID 77", bytes[2], 4096, 0x77);
  detach(&f, 77);
  must_be("fill with a PASID that is detached", operate(&f, FILL, 0, iova, 4096, 0xdead, 77, 0), DONE | FAULTED);
  must_be("fill with a PASID that never was", operate(&f, FILL, 0, iova, 4096, 0xdead, 9, 0), DONE | FAULTED);
  must_be("fill without PASID", operate(&f, FILL, 0, iova, 4096, 0x1, 0, 0), DONE);
  holds("memory without PASID", bytes[0], 4096, 0x1);
  printf("pasid: unmapped, detached and unknown ones fault\n");
  return 0;
}
