/*
 * The counterpart of bench/command.ts: the same commands, judged, masked and batched in plain C. Each line
 * on the standard input is answered by "NANOSECONDS_A_COMMAND CHECKSUM".
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define COMMANDS (1 << 14)
#define PASSES 64

enum {
    PREFETCH_CONFIG = 0x01, PREFETCH_ADDR = 0x02, CFGI_STE = 0x03, CFGI_STE_RANGE = 0x04, CFGI_CD = 0x05,
    CFGI_CD_ALL = 0x06, CFGI_VMS_PIDM = 0x07, TLBI_NH_ALL = 0x10, TLBI_NH_ASID = 0x11, TLBI_NH_VA = 0x12,
    TLBI_NH_VAA = 0x13, TLBI_EL2_ALL = 0x20, TLBI_EL2_ASID = 0x21, TLBI_EL2_VA = 0x22, TLBI_EL2_VAA = 0x23,
    TLBI_S12_VMALL = 0x28, TLBI_S2_IPA = 0x2a, TLBI_NSNH_ALL = 0x30, ATC_INV = 0x40, PRI_RESP = 0x41,
    RESUME = 0x44, STALL_TERM = 0x45, SYNC = 0x46,
};

struct command {
    uint64_t low, high;
};

struct rules {
    bool stage1, stage2, hyp, ats, pri, stalls, ranges, mpam;
};

#define BITS(top, bottom) ((~0ull >> (63 - (top))) & (~0ull << (bottom)))
#define SSEC BITS(10, 10)
#define RANGE_LOW (BITS(16, 12) | BITS(24, 20))
#define RANGE_HIGH (BITS(9, 8) | BITS(11, 10))

static struct command queue[COMMANDS], batch[COMMANDS], defined[256];

static void make_defined(void)
{
    const uint64_t op = 0xff, sid = BITS(63, 32), ssid = BITS(31, 12), vmid = BITS(47, 32), asid = BITS(63, 48);
    const struct command ranged = { RANGE_LOW, BITS(0, 0) | RANGE_HIGH | BITS(63, 12) };
    const struct command configured = { SSEC | BITS(11, 11) | ssid | sid, 0 };
#define DEFINE(opcode, l, h) defined[opcode] = (struct command){ op | (l), (h) }
    DEFINE(PREFETCH_CONFIG, configured.low, 0);
    DEFINE(PREFETCH_ADDR, configured.low, BITS(9, 0) | BITS(63, 12));
    DEFINE(CFGI_STE, SSEC | sid, 1);
    DEFINE(CFGI_STE_RANGE, SSEC | sid, 0x1f);
    DEFINE(CFGI_CD, SSEC | ssid | sid, 1);
    DEFINE(CFGI_CD_ALL, SSEC | sid, 0);
    DEFINE(CFGI_VMS_PIDM, SSEC | vmid, 0);
    DEFINE(TLBI_NH_ALL, vmid, 0);
    DEFINE(TLBI_NH_ASID, vmid | asid, 0);
    DEFINE(TLBI_NH_VA, vmid | asid | ranged.low, ranged.high);
    DEFINE(TLBI_NH_VAA, vmid | ranged.low, ranged.high);
    DEFINE(TLBI_EL2_ALL, 0, 0);
    DEFINE(TLBI_EL2_ASID, asid, 0);
    DEFINE(TLBI_EL2_VA, asid | ranged.low, ranged.high);
    DEFINE(TLBI_EL2_VAA, ranged.low, ranged.high);
    DEFINE(TLBI_S12_VMALL, vmid, 0);
    DEFINE(TLBI_S2_IPA, vmid | ranged.low, ranged.high);
    DEFINE(TLBI_NSNH_ALL, 0, 0);
    DEFINE(ATC_INV, configured.low | BITS(9, 9), BITS(5, 0) | BITS(63, 12));
    DEFINE(PRI_RESP, configured.low, BITS(8, 0) | BITS(13, 12));
    DEFINE(RESUME, SSEC | sid | BITS(13, 12), BITS(15, 0));
    DEFINE(STALL_TERM, SSEC | sid, 0);
    DEFINE(SYNC, BITS(13, 12) | BITS(27, 22) | sid, BITS(51, 2));
}

static bool illegal_range(const struct rules *r, const struct command *c)
{
    if (!r->ranges)
        return (c->low & RANGE_LOW) || (c->high & RANGE_HIGH);
    unsigned granule = c->high >> 10 & 3, level = c->high >> 8 & 3;
    if (granule == 0 || !(c->low & RANGE_LOW))
        return false;
    return level == 0 || (granule == 2 && level == 1);
}

static __attribute__((noinline)) bool illegal(const struct rules *r, const struct command *c)
{
    switch (c->low & 0xff) {
    case PREFETCH_CONFIG:
    case PREFETCH_ADDR:
    case CFGI_STE:
    case CFGI_STE_RANGE:
        return c->low & SSEC;
    case CFGI_CD:
    case CFGI_CD_ALL:
        return !r->stage1 || (c->low & SSEC);
    case CFGI_VMS_PIDM:
        return !r->mpam || (c->low & SSEC);
    case TLBI_NH_ALL:
    case TLBI_NH_ASID:
        return !r->stage1;
    case TLBI_NH_VA:
    case TLBI_NH_VAA:
        return !r->stage1 || illegal_range(r, c);
    case TLBI_EL2_ALL:
    case TLBI_EL2_ASID:
        return !r->stage1 || !r->hyp;
    case TLBI_EL2_VA:
    case TLBI_EL2_VAA:
        return !r->stage1 || !r->hyp || illegal_range(r, c);
    case TLBI_S12_VMALL:
        return !r->stage2;
    case TLBI_S2_IPA:
        return !r->stage2 || illegal_range(r, c);
    case TLBI_NSNH_ALL:
        return false;
    case ATC_INV:
        return !r->ats || (c->low & SSEC) || (c->high & 0x3f) > 52;
    case PRI_RESP:
        return !r->pri || (c->low & SSEC) || (c->high >> 12 & 3) == 3;
    case RESUME:
    case STALL_TERM:
        return !r->stalls || (c->low & SSEC);
    case SYNC:
        return (c->low >> 12 & 3) > 2;
    default:
        return true;
    }
}

static __attribute__((noinline)) uint32_t decode_all(const struct rules *r, uint32_t sum)
{
    uint32_t at = 0, bad = 0;
    for (int n = 0; n < COMMANDS; n++) {
        struct command c = queue[n];
        if (illegal(r, &c)) {
            bad++;
            continue;
        }
        unsigned opcode = c.low & 0xff;
        c.low &= defined[opcode].low;
        c.high &= defined[opcode].high;
        switch (opcode) {
        case CFGI_CD:
        case CFGI_CD_ALL:
        case TLBI_NH_ALL:
        case TLBI_NH_ASID:
        case TLBI_NH_VA:
        case TLBI_NH_VAA:
        case TLBI_NSNH_ALL:
        case ATC_INV:
            batch[at++] = c;
            break;
        default:
            sum = sum * 31 + (uint32_t)(c.low >> 32);
        }
    }
    const struct command *last = &batch[at - 1];
    return sum * 31 + ((uint32_t)last->low ^ (uint32_t)(last->low >> 32) ^ (uint32_t)last->high ^ at * 4) + bad;
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
    for (int n = 0; n < COMMANDS; n++) {
        uint32_t kind = random32() % 16, low = random32(), high = random32();
        unsigned opcode = kind < 8 ? TLBI_NH_VA : kind < 10 ? ATC_INV : kind < 12 ? SYNC : kind == 12 ? CFGI_CD
            : kind == 13 ? CFGI_STE : kind == 14 ? TLBI_NH_ASID : 0xff;
        uint32_t words[4] = { opcode };
        if (opcode == TLBI_NH_VA) {
            words[0] |= (low & 0x1f) << 12;
            words[1] = (low & 0xffff0000) | 1;
            words[2] = (high & ~0xfffu) | 1 << 10 | 3 << 8 | 1;
            words[3] = low & 0xffff;
        } else if (opcode != SYNC) {
            words[1] = low;
            words[2] = opcode == ATC_INV ? high & ~0xfffu : 0;
            words[3] = opcode == ATC_INV ? low : high;
        } else {
            words[0] |= low % 3 << 12;
        }
        memcpy(&queue[n], words, 16);
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
    static const uint32_t idr0 = 0x0d44141b, idr3 = 0x1414;
    struct rules r = {
        .stage2 = idr0 & 1, .stage1 = idr0 >> 1 & 1, .hyp = idr0 >> 9 & 1, .ats = idr0 >> 10 & 1, .pri = idr0 >> 16 & 1,
        .stalls = (idr0 >> 24 & 3) != 1, .ranges = idr3 >> 10 & 1, .mpam = idr3 >> 7 & 1,
    };
    char line[64];
    make_defined();
    make_queue();
    while (fgets(line, sizeof line, stdin)) {
        uint32_t sum = 0;
        double start = seconds();
        for (int pass = 0; pass < PASSES; pass++)
            sum = decode_all(&r, sum);
        printf("%.4f %u\n", (seconds() - start) * 1e9 / COMMANDS / PASSES, sum);
        fflush(stdout);
    }
    return 0;
}
