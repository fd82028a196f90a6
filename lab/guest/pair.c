/* pair BUS:DEV.FN: a load of two registers from a function's registers, by which arm64's hardware tells KVM neither width
 * nor register: the program gets SIGBUS and the machine goes on. */
#include "engine.h"
#include <setjmp.h>
#include <signal.h>

static sigjmp_buf back;
static void aborted(int signal) { siglongjmp(back, signal); }

int main(int count, char **words) {
  if (count != 2) die("usage: pair BUS:DEV.FN");
#ifdef __aarch64__
  struct function f = open_engine(words[1]);
  signal(SIGBUS, aborted);
  if (sigsetjmp(back, 1) == 0) {
    uint32_t first, second;
    __asm__ volatile("ldp %w0, %w1, [%2]" : "=r"(first), "=r"(second) : "r"(f.registers) : "memory");
    die("it loads %08x and %08x", first, second);
  }
  if (f.registers[ID] != 0x4d4d4f49) die("ID is %08x after", f.registers[ID]);
  printf("pair: aborted\n");
  return 0;
#else
  (void)aborted;
  (void)back;
  die("%s: arm64 alone has such a load", words[1]);
#endif
}
