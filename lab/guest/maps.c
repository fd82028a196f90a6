/* maps BUS:DEV.FN [PAGES]: time of mapping and unmapping by VFIO behind the guest's IOMMU: 1 page, 16 pages, 2 MiB of
 * 4 KiB pages, with PAGES pages mapped besides. Prints microseconds of a map and of an unmap: least and median of rounds. */
#include "engine.h"

static int less(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return x < y ? -1 : x > y;
}

int main(int count, char **words) {
  if (count < 2) die("usage: maps BUS:DEV.FN [PAGES]");
  struct function f = open_engine(words[1]);
  uint32_t ioas = new_ioas(&f);
  attach(&f, ioas, 0);
  uint64_t besides = count > 2 ? strtoull(words[2], NULL, 0) : 0;
  uint8_t *bytes = memory(512 * 4096);
  madvise(bytes, 512 * 4096, MADV_NOHUGEPAGE);
  for (uint64_t n = 0; n < besides; n++) map(&f, ioas, bytes + 4096 * (n % 512), 4096, 0x100000000ull + 4096 * n);
  static const int sizes[] = { 1, 16, 512 };
  for (int s = 0; s < 3; s++) {
    enum { ROUNDS = 20 };
    uint64_t maps[ROUNDS], unmaps[ROUNDS], length = sizes[s] * 4096ull;
    for (int round = 0; round < ROUNDS; round++) {
      uint64_t begun = now_us();
      map(&f, ioas, bytes, length, 0x40000000);
      uint64_t mapped = now_us();
      must_be("fill", operate(&f, FILL, 0, 0x40000000, 64, round, 0, 0), DONE);
      uint64_t used = now_us();
      unmap(&f, ioas, 0x40000000, length);
      unmaps[round] = now_us() - used, maps[round] = mapped - begun;
    }
    qsort(maps, ROUNDS, 8, less), qsort(unmaps, ROUNDS, 8, less);
    printf("maps: %d pages, map %llu %llu us, unmap %llu %llu us\n", sizes[s], (unsigned long long)maps[0], (unsigned long long)maps[ROUNDS / 2], (unsigned long long)unmaps[0], (unsigned long long)unmaps[ROUNDS / 2]);
  }
  return 0;
}
