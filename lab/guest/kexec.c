/* kexec KERNEL INITRD COMMAND-LINE [crash]: loads another kernel and starts it, by kexec_file_load(2) and reboot(2).
 * Crash: only loads it, as the one that a panic starts. */
#include <errno.h>
#include <fcntl.h>
#include <linux/reboot.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* KEXEC_FILE_ON_CRASH (linux/kexec.h) */
#define ON_CRASH 2ul

int main(int count, char **words) {
  if (count < 4) return 2;
  int crash = count > 4;
  int kernel = open(words[1], O_RDONLY), initrd = open(words[2], O_RDONLY);
  if (kernel < 0 || initrd < 0 || syscall(SYS_kexec_file_load, kernel, initrd, strlen(words[3]) + 1, words[3], crash ? ON_CRASH : 0ul) < 0) {
    printf("kexec: %s\n", strerror(errno));
    return 1;
  }
  if (crash) return 0;
  syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_KEXEC, NULL);
  printf("kexec: %s\n", strerror(errno));
  return 1;
}
