/*
 * The counterpart of bench/descriptor.ts: the same descriptors, judged and put into entries in plain C. Each
 * line on the standard input is answered by "NANOSECONDS_A_DESCRIPTOR CHECKSUM".
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define DESCRIPTORS (1 << 14)
#define PASSES 64

enum { CONTEXT_CACHE = 1, IOTLB, DEVICE_TLB, INTERRUPT_ENTRY, WAIT, PASID_IOTLB, PASID_CACHE, PASID_DEVICE_TLB, PAGE_RESPONSE };

struct descriptor {
    uint32_t word[8];
};

struct entry {
    uint64_t address, pages;
    uint32_t flags, reserved;
};

static struct descriptor queue[DESCRIPTORS];
static struct entry batch[DESCRIPTORS];
static uint32_t ordinals[DESCRIPTORS];
static bool offered[16];

static const uint32_t reserved[16][4] = {
    [CONTEXT_CACHE] = { 0xf1c0, 0xfffc0000, ~0u, ~0u },
    [IOTLB] = { 0xf100, ~0u, 0xf80, 0 },
    [DEVICE_TLB] = { 0xffe001f0, 0x000f0000, 0xffe, 0 },
    [INTERRUPT_ENTRY] = { 0x07fff1e0, 0xffff0000, ~0u, ~0u },
    [WAIT] = { 0xfffff180, 0, 3, 0 },
    [PASID_IOTLB] = { 0xf1c0, 0xfff00000, 0xf80, 0 },
    [PASID_CACHE] = { 0xf1c0, 0xfff00000, ~0u, ~0u },
    [PASID_DEVICE_TLB] = { 0, 0, 0x7fe, 0 },
};

static __attribute__((noinline)) bool wrong(const struct descriptor *d, unsigned type, bool scalable)
{
    const uint32_t *w = d->word;
    if (type >= 16 || !offered[type])
        return true;
    if (!scalable && type >= PASID_IOTLB)
        return true;
    const uint32_t *r = reserved[type];
    if ((w[0] & r[0]) | (w[1] & r[1]) | (w[2] & r[2]) | (w[3] & r[3]))
        return true;
    if ((w[4] | w[5] | w[6] | w[7]) && type != PAGE_RESPONSE)
        return true;
    unsigned granularity = w[0] >> 4 & 3;
    switch (type) {
    case CONTEXT_CACHE:
        return granularity == 0;
    case IOTLB:
        return granularity == 3 ? (w[2] & 0x3f) > 18 : granularity == 0;
    case PASID_CACHE:
        return granularity == 2;
    case PASID_IOTLB:
        return granularity < 2;
    case WAIT:
        return !(w[0] & 0xf0);
    default:
        return false;
    }
}

static __attribute__((noinline)) uint32_t decode_all(uint32_t sum)
{
    uint32_t at = 0, bad = 0;
    for (uint32_t n = 0; n < DESCRIPTORS; n++) {
        struct descriptor d = queue[n];
        unsigned type = (d.word[0] & 0xf) | (d.word[0] >> 5 & 0x70);
        if (wrong(&d, type, true)) {
            bad++;
        } else if (type == PASID_IOTLB) {
            struct entry *e = &batch[at];
            ordinals[at++] = n * 8;
            memset(e, 0, sizeof *e);
            if ((d.word[0] >> 4 & 3) == 3) {
                unsigned span = 12 + (d.word[2] & 0x3f);
                e->address = ((uint64_t)d.word[3] << 32 | (d.word[2] & ~0xfffu)) & (span < 64 ? ~0ull << span : 0);
                e->pages = 1ull << (d.word[2] & 0x3f);
                e->flags = d.word[2] >> 6 & 1;
            } else {
                e->pages = ~0ull;
            }
        } else {
            sum = sum * 31 + d.word[1];
        }
    }
    return sum * 31 + at + bad;
}

static uint32_t state = 12345;

static uint32_t random32(void)
{
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

static void make_queue(void)
{
    for (int n = 0; n < DESCRIPTORS; n++) {
        uint32_t kind = random32() % 16, low = random32(), high = random32();
        uint32_t *w = queue[n].word;
        if (kind < 8) {
            w[0] = 0x36 | (low & 0xffff0000);
            w[1] = high & 0xfffff;
            w[2] = (low & ~0xfffu) | (high & 0x4f);
            w[3] = high & 0xffff;
        } else if (kind < 11) {
            w[0] = 0x8 | (low & 0xffff0000);
            w[1] = high & 0xfffff;
            w[2] = low & ~0xfffu;
        } else if (kind < 14) {
            w[0] = 0x25;
            w[1] = low;
            w[2] = high & ~3u;
        } else if (kind == 14) {
            w[0] = 0x17 | (low & 0xffff0000);
            w[1] = high & 0xfffff;
        } else {
            w[0] = 0x1f | (low & 0xffff0000);
        }
    }
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

int main(void)
{
    char line[64];
    for (int type = CONTEXT_CACHE; type <= PASID_DEVICE_TLB; type++)
        offered[type] = true;
    make_queue();
    while (fgets(line, sizeof line, stdin)) {
        uint32_t sum = 0;
        double start = seconds();
        for (int pass = 0; pass < PASSES; pass++)
            sum = decode_all(sum);
        printf("%.4f %u\n", (seconds() - start) * 1e9 / DESCRIPTORS / PASSES, sum);
        fflush(stdout);
    }
    return 0;
}
