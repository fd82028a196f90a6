/* reads DISK [SECONDS | counted [PROCESSES]]: random reads of 4, 64 and 512 KiB past the page cache, one after the other. For SECONDS without
 * a look at how long they take, then with one; counted: phases for whoever counts exits, each between two lines of the console
 * (bench/lab/). The driver maps and unmaps for each, strictly with iommu.strict=1; PROCESSES read at once. */
#define _GNU_SOURCE
#include <linux/fs.h>
#include <sys/ioctl.h>
#include "engine.h"
#include "processes.h"

enum { PAGE = 4096, MOST = 128, COUNTED = 32 };
static const struct { int pages, times; } sizes[] = { { 1, 256 }, { 16, 128 }, { MOST, 64 } };

static uint64_t size;
static void *bytes;
static uint32_t seed = 1;
static void read_one(int disk, int pages) {
  const uint64_t length = (uint64_t)pages * PAGE;
  seed = seed * 1103515245 + 12345;
  if (pread(disk, bytes, length, (seed >> 8) % (size / length) * length) != (ssize_t)length) die("a block is not read: %s", strerror(errno));
}

int main(int count, char **words) {
  if (count < 2) die("usage: reads DISK [SECONDS | counted [PROCESSES]]");
  const int counted = count > 2 && !strcmp(words[2], "counted");
  int disk = open(words[1], O_RDONLY | O_DIRECT);
  check(words[1], disk);
  check("BLKGETSIZE64", ioctl(disk, BLKGETSIZE64, &size));
  bytes = memory(MOST * PAGE);
  const int self = divide(count > 3 ? words[3] : "1");
  seed += self;
  const uint64_t warm = now_us() + (count > 2 && !counted ? strtoull(words[2], NULL, 0) : 0) * 1000000;
  while (now_us() < warm) read_one(disk, 1);
  for (int s = 0; s < 3; s++) {
    const int pages = sizes[s].pages, times = counted ? COUNTED : sizes[s].times;
    if (counted) tell(self, "rates: begin read %d %d\n", pages, times * processes);
    else together();
    const uint64_t begun = now_us();
    for (int n = 0; n < times; n++) read_one(disk, pages);
    together();
    if (counted) tell(self, "rates: end\n");
    else if (self == 0) printf("rates: %d reads of %d pages in %llu us\n", times * processes, pages, (unsigned long long)(now_us() - begun));
  }
  return all_end();
}
