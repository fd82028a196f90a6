/* Processes that do the same at once, each on a CPU of its own, and what they print for whoever counts exits (bench/lab/). */
#ifndef LAB_PROCESSES_H
#define LAB_PROCESSES_H
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <termios.h>
#include "engine.h"

static int processes = 1;
static atomic_int *arrived;

/* Waits until all processes are here. */
static void together(void) {
  const int turn = (atomic_fetch_add(arrived, 1) / processes + 1) * processes;
  while (atomic_load(arrived) < turn) sched_yield();
}

static void child_ended(int signal) {
  (void)signal;
  die("a process has ended");
}

/* Makes the others; which of them this is. */
static int divide(const char *number) {
  if ((processes = atoi(number)) < 1) die("there is at least one process, not %s", number);
  arrived = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  signal(SIGCHLD, child_ended);
  int self = 0;
  for (int n = 1; n < processes && self == 0; n++) {
    fflush(stdout);
    if (fork() == 0) self = n, signal(SIGCHLD, SIG_DFL), prctl(PR_SET_PDEATHSIG, SIGKILL);
  }
  if (processes > 1) {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(self, &cpus);
    check("sched_setaffinity", sched_setaffinity(0, sizeof cpus, &cpus));
  }
  return self;
}

static int all_end(void) {
  signal(SIGCHLD, SIG_DFL);
  together();
  return 0;
}

/* A line for whoever counts, while the others wait. */
#define tell(self, ...) (together(), (self) == 0 ? (printf(__VA_ARGS__), fflush(stdout), tcdrain(1)) : 0, together())
#endif
