/* rates BUS:DEV.FN [SECONDS [PROCESSES]]: what maps and unmaps cost a guest, by iommufd behind its IOMMU, with any function: 1
 * page, 16 pages, 2 MiB of 4 KiB pages, no two of them adjacent in memory. First SECONDS without a look at the clock, so that a
 * monitor with a compiler of its own has done its work; then the times; then the same for whoever counts exits, each phase
 * between two lines of the console (bench/lab/). Several processes, each on a CPU of its own, do the same at once in one
 * address space: what is printed is of all. Nothing uses what is mapped: the device is not told. */
#define _GNU_SOURCE
#include "engine.h"
#include "processes.h"

enum { PAGE = 4096, MOST = 512 };
static const struct { int pages, times; } sizes[] = { { 1, 32 }, { 16, 32 }, { MOST, 8 } };
static const uint64_t stride = MOST * PAGE;

/* Pages in an order of their own, so that no two are one range. */
static void *scattered(void) {
  int fd = memfd_create("rates", 0);
  check("memory", ftruncate(fd, MOST * PAGE));
  memset(mmap(NULL, MOST * PAGE, PROT_WRITE, MAP_SHARED, fd, 0), 1, MOST * PAGE);
  uint8_t *bytes = mmap(NULL, MOST * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  for (int n = 0; n < MOST; n++)
    if (mmap(bytes + n * PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_POPULATE, fd, (n * 197 % MOST) * PAGE) == MAP_FAILED) die("memory: %s", strerror(errno));
  return bytes;
}

int main(int count, char **words) {
  if (count < 2) die("usage: rates BUS:DEV.FN [SECONDS [PROCESSES]]");
  struct function f = open_any_function(words[1]);
  uint32_t ioas = new_ioas(&f);
  attach(&f, ioas, 0);
  const int self = divide(count > 3 ? words[3] : "1");
  const uint64_t base = 0x40000000ull * (self + 1);
  void *bytes = scattered();
  const uint64_t warm = now_us() + (count > 2 ? strtoull(words[2], NULL, 0) : 0) * 1000000;
  for (int n = 0; now_us() < warm; n++) {
    map(&f, ioas, bytes, (n % 8 ? 1 : 16) * PAGE, base);
    unmap(&f, ioas, base, (n % 8 ? 1 : 16) * PAGE);
  }
  for (int counted = 0; counted < 2; counted++) {
    if (counted) {
      tell(self, "rates: counted now\n");
      sleep(4);
    }
    for (int s = 0; s < 3; s++)
      for (int round = counted ? 4 : 0; round < 5; round++) {
        const int pages = sizes[s].pages, times = sizes[s].times;
        if (counted) tell(self, "rates: begin map %d %d\n", pages, times * processes);
        else together();
        uint64_t begun = now_us();
        for (int n = 0; n < times; n++) map(&f, ioas, bytes, (uint64_t)pages * PAGE, base + n * stride);
        if (counted) tell(self, "rates: end\nrates: begin unmap %d %d\n", pages, times * processes);
        else together();
        uint64_t mapped = now_us();
        for (int n = 0; n < times; n++) unmap(&f, ioas, base + n * stride, (uint64_t)pages * PAGE);
        together();
        uint64_t ended = now_us();
        if (counted) tell(self, "rates: end\n");
        else if (self == 0) printf("rates: %d pages %d times map %llu unmap %llu us\n", pages, times * processes, (unsigned long long)(mapped - begun), (unsigned long long)(ended - mapped));
      }
  }
  return all_end();
}
