/* kexec KERNEL INITRD COMMAND-LINE: loads another kernel and starts it, by kexec_file_load(2) and reboot(2). */
#include <errno.h>
#include <fcntl.h>
#include <linux/reboot.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int count, char **words) {
  if (count != 4) return 2;
  int kernel = open(words[1], O_RDONLY), initrd = open(words[2], O_RDONLY);
  if (kernel < 0 || initrd < 0 || syscall(SYS_kexec_file_load, kernel, initrd, strlen(words[3]) + 1, words[3], 0ul) < 0) {
    printf("kexec: %s\n", strerror(errno));
    return 1;
  }
  syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_KEXEC, NULL);
  printf("kexec: %s\n", strerror(errno));
  return 1;
}
