/*
 * The counterpart of bench/exits.ts: the same guest, its exits answered in the thread that runs it. Each line on the
 * standard input is answered by "MICROSECONDS_AN_EXIT CHECKSUM". The numbers are those of linux/kvm.h.
 */
#include <linux/kvm.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#define EXITS 20000

static void check(const char *what, long result)
{
    if (result < 0) {
        perror(what);
        exit(1);
    }
}

int main(void)
{
    /* mov dx, 0x3f8; mov al, 'A'; again: out dx, al; jmp again */
    static const uint8_t code[] = { 0xba, 0xf8, 0x03, 0xb0, 0x41, 0xee, 0xeb, 0xfd };
    int kvm = open("/dev/kvm", O_RDWR);
    check("/dev/kvm", kvm);
    int vm = ioctl(kvm, KVM_CREATE_VM, 0);
    check("KVM_CREATE_VM", vm);
    uint8_t *memory = mmap(NULL, 0x10000, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memcpy(memory + 0x1000, code, sizeof code);
    struct kvm_userspace_memory_region slot = { .memory_size = 0x10000, .userspace_addr = (uintptr_t)memory };
    check("KVM_SET_USER_MEMORY_REGION", ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot));
    int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    check("KVM_CREATE_VCPU", vcpu);
    struct kvm_run *run = mmap(NULL, ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    struct kvm_sregs special;
    check("KVM_GET_SREGS", ioctl(vcpu, KVM_GET_SREGS, &special));
    special.cs.base = special.cs.selector = 0;
    check("KVM_SET_SREGS", ioctl(vcpu, KVM_SET_SREGS, &special));
    struct kvm_regs registers = { .rip = 0x1000, .rflags = 2 };
    check("KVM_SET_REGS", ioctl(vcpu, KVM_SET_REGS, &registers));
    char line[64];
    while (fgets(line, sizeof line, stdin) != NULL) {
        struct timespec from, to;
        uint32_t sum = 0;
        clock_gettime(CLOCK_MONOTONIC, &from);
        for (int n = 0; n < EXITS; n++) {
            check("KVM_RUN", ioctl(vcpu, KVM_RUN, 0));
            if (run->exit_reason != KVM_EXIT_IO)
                return 1;
            sum += ((uint8_t *)run)[run->io.data_offset];
        }
        clock_gettime(CLOCK_MONOTONIC, &to);
        printf("%.3f %u\n", ((to.tv_sec - from.tv_sec) * 1e9 + (to.tv_nsec - from.tv_nsec)) / 1e3 / EXITS, sum);
        fflush(stdout);
    }
    return 0;
}
