/* storm BUS:DEV.FN ...: on each function two processes that map, use by DMA and unmap, all at once, until the file
 * /tmp/over is there. Every fill is compared with what memory has then, and now and then what was unmapped is used,
 * which must fault. Its last line tells the rounds. */
#include <sys/wait.h>
#include "engine.h"

#define PROCESSES 2
#define PAGE 4096u
#define MOST 16
/* Rounds of a process at the least. */
#define LEAST 40

struct shared {
  /* The engine has one set of registers: who uses them. */
  uint32_t busy;
  uint32_t rounds[PROCESSES];
};

static uint32_t alone(struct function *f, struct shared *s, uint64_t at, uint32_t length, uint32_t pattern) {
  while (__atomic_exchange_n(&s->busy, 1, __ATOMIC_ACQUIRE)) usleep(500);
  uint32_t status = operate(f, FILL, 0, at, length, pattern, 0, 0);
  __atomic_store_n(&s->busy, 0, __ATOMIC_RELEASE);
  return status;
}

static void work(struct function *f, uint32_t ioas, struct shared *s, int process) {
  uint8_t *bytes = memory(MOST * PAGE);
  uint32_t seed = process + 1;
  for (uint32_t round = 0; round < LEAST || access("/tmp/over", F_OK) != 0; round++) {
    seed = seed * 1664525 + 1013904223;
    uint32_t length = PAGE * (1 + (seed >> 16) % MOST), pattern = seed ^ 0x5a5a5a5a;
    /* Addresses come again, so that what a cache had kept would be found. */
    uint64_t at = 0x40000000 + process * 0x40000000ull + (seed >> 8) % 8 * 0x200000;
    map(f, ioas, bytes, length, at);
    must_be("fill", alone(f, s, at, length, pattern), DONE);
    holds("filled", bytes, length, pattern);
    unmap(f, ioas, at, length);
    if (round % 8 == 0) {
      must_be("fill after unmap", alone(f, s, at, PAGE, ~pattern), DONE | FAULTED);
      holds("after unmap", bytes, length, pattern);
    }
    s->rounds[process]++;
  }
}

int main(int count, char **words) {
  int functions = count - 1, failed = 0;
  if (functions < 1 || functions > 8) die("usage: storm BUS:DEV.FN ...");
  struct shared *shared[8];
  for (int i = 0; i < functions; i++) {
    struct function f = open_engine(words[i + 1]);
    uint32_t ioas = new_ioas(&f);
    attach(&f, ioas, 0);
    shared[i] = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared[i] == MAP_FAILED) die("no memory");
    for (int process = 0; process < PROCESSES; process++)
      if (fork() == 0) { work(&f, ioas, shared[i], process); exit(0); }
  }
  for (int status; wait(&status) > 0;) failed |= status != 0;
  for (int i = 0; i < functions; i++)
    for (int process = 0; process < PROCESSES; process++) {
      printf("storm: %s process %d: %u rounds\n", words[i + 1], process, shared[i]->rounds[process]);
      failed |= shared[i]->rounds[process] == 0;
    }
  return failed;
}
