/*
 * The counterpart of bench/walk.ts: the same tables, sequences, walk and TLB, in plain 64-bit C.
 *
 * usage: walk IMAGE vmsa|vtd; then lines "uniform|hot90|sequential noTlb|tlb" on the standard input, each answered
 * by "NANOSECONDS_A_WALK CHECKSUM".
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Times that a round goes through its sequence. */
#define PASSES 8

enum { OK = 0, MISS = 1, TRANSLATION = -1, ACCESS = -2, PERMISSION = -3, ADDRESS_SIZE = -4, ABORT = -5 };
enum { READ = 1, WRITE = 2, EXECUTE = 4, PRIVILEGED = 8 };

#define ADDRESS_MASK 0x0000fffffffff000ull

/* One stage's tables, as StageConfig has them. */
struct stage {
    uint64_t base;
    int start;
    uint64_t first_mask;
    uint64_t input_beyond;
    uint64_t output_beyond;
    uint64_t access_flag;
    uint64_t hierarchical;
    unsigned controls;
    uint64_t table_attributes;
};

struct walker {
    uint8_t *flat;
    uint64_t flat_base;
    uint64_t flat_bytes;
    struct stage s1, s2;
    uint64_t leaf2;
    int leaf2_bits;
    uint64_t out;
    int out_bits, out_level, out_global;
    unsigned out_permissions;
};

static uint8_t required[16], permissions1[1024], permissions2[32];

static void make_permissions(void)
{
    for (unsigned access = 0; access < 16; access++) {
        unsigned need = access & EXECUTE ? 4 : access & READ ? 1 : 0;
        need |= access & WRITE ? 2 : 0;
        required[access] = access & PRIVILEGED ? need << 3 : need;
    }
    for (unsigned i = 0; i < 1024; i++) {
        bool el0 = (i & 1) && !(i & 0x40), ro = (i & 2) || (i & 0x80);
        bool pxn = (i & 4) || (i & 0x10), uxn = (i & 8) || (i & 0x20), wxn = i & 256, pan = i & 512;
        bool el0_write = el0 && !ro;
        unsigned p = el0 ? 1 | (ro ? 0 : 2) : 0;
        if (!(pan && el0))
            p |= 8 | (ro ? 0 : 16);
        if (!uxn && !(wxn && el0_write))
            p |= 4;
        if (!pxn && !el0_write && !(wxn && !ro))
            p |= 32;
        permissions1[i] = p;
    }
    for (unsigned i = 0; i < 32; i++) {
        unsigned xn = i >> 2 & 3, xnx = i & 16, p = 0;
        bool both = xnx ? xn == 0 : !(xn & 2);
        p |= i & 1 ? 9 : 0;
        p |= i & 2 ? 18 : 0;
        p |= both || (xnx && xn == 1) ? 4 : 0;
        p |= both || (xnx && xn == 3) ? 32 : 0;
        permissions2[i] = p;
    }
}

static inline bool load(const struct walker *w, uint64_t address, uint64_t *value)
{
    uint64_t offset = address - w->flat_base;
    if (offset >= w->flat_bytes)
        return false;
    memcpy(value, w->flat + offset, 8);
    return true;
}

/* Stage 2 of an IPA: the leaf in leaf2, and the output address. */
static __attribute__((noinline)) int translate2(struct walker *w, uint64_t ipa, uint64_t *out)
{
    const struct stage *s = &w->s2;
    uint64_t at, d;
    int bits = 12;

    if (ipa & s->input_beyond)
        return TRANSLATION;
    if (s->start == 0) {
        at = s->base + (ipa >> 39 & s->first_mask) * 8;
        if (!load(w, at, &d))
            return ABORT;
        if ((d & 3) != 3)
            return TRANSLATION;
        if (d & s->output_beyond)
            return ADDRESS_SIZE;
        at = (d & ADDRESS_MASK) + (ipa >> 30 & 511) * 8;
    } else if (s->start == 1) {
        at = s->base + (ipa >> 30 & s->first_mask) * 8;
    } else {
        at = s->base + (ipa >> 21 & s->first_mask) * 8;
    }
    if (s->start <= 1) {
        if (!load(w, at, &d))
            return ABORT;
        if (d & s->output_beyond)
            return ADDRESS_SIZE;
        if ((d & 3) != 3) {
            bits = 30;
            goto leaf;
        }
        at = (d & ADDRESS_MASK) + (ipa >> 21 & 511) * 8;
    }
    if (!load(w, at, &d))
        return ABORT;
    if (d & s->output_beyond)
        return ADDRESS_SIZE;
    if ((d & 3) != 3) {
        bits = 21;
        goto leaf;
    }
    at = (d & ADDRESS_MASK) + (ipa >> 12 & 511) * 8;
    if (!load(w, at, &d))
        return ABORT;
    if (d & s->output_beyond)
        return ADDRESS_SIZE;
    if (!(d & 2))
        return TRANSLATION;
leaf:
    if (!(d & 1))
        return TRANSLATION;
    if ((d & s->access_flag) != s->access_flag)
        return ACCESS;
    w->leaf2 = d;
    w->leaf2_bits = bits;
    uint64_t offset = (1ull << bits) - 1;
    *out = (d & ADDRESS_MASK & ~offset) | (ipa & offset);
    return OK;
}

/* The stage-1 descriptor at an IPA. */
static inline int fetch1(struct walker *w, uint64_t ipa, uint64_t *d)
{
    uint64_t pa;
    int code = translate2(w, ipa, &pa);
    if (code != OK)
        return code;
    if (!(w->leaf2 & 0x40) || !(w->leaf2 & w->s2.table_attributes))
        return PERMISSION;
    return load(w, pa, d) ? OK : ABORT;
}

static __attribute__((noinline)) int walk_nested(struct walker *w, uint64_t iova, unsigned access)
{
    const struct stage *s = &w->s1;
    uint64_t input = iova & ~s->input_beyond, hierarchical = 0, at, d, pa;
    int bits = 12, code;

    if (s->start == 0) {
        at = s->base + (input >> 39 & s->first_mask) * 8;
        if ((code = fetch1(w, at, &d)) != OK)
            return code;
        if ((d & 3) != 3)
            return TRANSLATION;
        if (d & s->output_beyond)
            return ADDRESS_SIZE;
        hierarchical = d;
        at = (d & ADDRESS_MASK) + (input >> 30 & 511) * 8;
    } else if (s->start == 1) {
        at = s->base + (input >> 30 & s->first_mask) * 8;
    } else {
        at = s->base + (input >> 21 & s->first_mask) * 8;
    }
    if (s->start <= 1) {
        if ((code = fetch1(w, at, &d)) != OK)
            return code;
        if (d & s->output_beyond)
            return ADDRESS_SIZE;
        if ((d & 3) != 3) {
            bits = 30;
            goto leaf;
        }
        hierarchical |= d;
        at = (d & ADDRESS_MASK) + (input >> 21 & 511) * 8;
    }
    if ((code = fetch1(w, at, &d)) != OK)
        return code;
    if (d & s->output_beyond)
        return ADDRESS_SIZE;
    if ((d & 3) != 3) {
        bits = 21;
        goto leaf;
    }
    hierarchical |= d;
    at = (d & ADDRESS_MASK) + (input >> 12 & 511) * 8;
    if ((code = fetch1(w, at, &d)) != OK)
        return code;
    if (d & s->output_beyond)
        return ADDRESS_SIZE;
    if (!(d & 2))
        return TRANSLATION;
leaf:
    if (!(d & 1))
        return TRANSLATION;
    if ((d & s->access_flag) != s->access_flag)
        return ACCESS;
    unsigned p1 = permissions1[s->controls | (hierarchical & s->hierarchical) >> 59 << 4 | (d >> 53 & 3) << 2 | (d >> 6 & 3)];
    uint64_t offset = (1ull << bits) - 1;
    uint64_t ipa = (d & ADDRESS_MASK & ~offset) | (input & offset);
    if ((code = translate2(w, ipa, &pa)) != OK)
        return code;
    unsigned p = p1 & permissions2[w->s2.controls | (w->leaf2 >> 53 & 3) << 2 | (w->leaf2 >> 6 & 3)];
    if (required[access & 15] & ~p)
        return PERMISSION;
    w->out = pa;
    w->out_bits = bits < w->leaf2_bits ? bits : w->leaf2_bits;
    w->out_permissions = p;
    w->out_level = bits == 12 ? 3 : bits == 21 ? 2 : 1;
    w->out_global = !(d & 0x800);
    return OK;
}

/* Intel VT-d's tables: an entry's permissions count at each level, reserved bits fault, accessed bits are set. */
#define VTD_ADDRESS 0x000ffffffffff000ull
#define VTD_BEYOND 0x000f000000000000ull
#define VTD_LARGE 0x80ull
enum { RESERVED = -6, UPDATE = -7 };

/* The second stage of an address: R is bit 0, W bit 1. */
static __attribute__((noinline)) int vtd_translate2(struct walker *w, uint64_t ipa, unsigned need, uint64_t *out)
{
    uint64_t at = w->s2.base, d, rights = 3, offset;
    int bits = 39;

    if (ipa & w->s2.input_beyond)
        return ADDRESS_SIZE;
    for (;;) {
        if (!load(w, at + (ipa >> bits & 511) * 8, &d))
            return ABORT;
        if (!(d & 3))
            return TRANSLATION;
        rights &= d;
        if (need & ~rights)
            return PERMISSION;
        if (bits == 12 || ((d & VTD_LARGE) && bits <= 30))
            break;
        if (d & (VTD_BEYOND | 1ull << 62 | 0x880))
            return RESERVED;
        at = d & VTD_ADDRESS;
        bits -= 9;
    }
    offset = (1ull << bits) - 1;
    if (d & (VTD_BEYOND | 1ull << 62 | 0x800 | (offset & ~0xfffull)))
        return RESERVED;
    w->leaf2 = rights;
    w->leaf2_bits = bits;
    *out = (d & VTD_ADDRESS & ~offset) | (ipa & offset);
    return OK;
}

/* Sets bits of a first-stage entry, which the second stage has to let be written. */
static __attribute__((noinline)) int vtd_update(struct walker *w, uint64_t ipa, uint64_t bits)
{
    uint64_t pa, d;
    int code = vtd_translate2(w, ipa, 2, &pa);
    if (code != OK)
        return code;
    if (!load(w, pa, &d))
        return UPDATE;
    d |= bits;
    memcpy(w->flat + (pa - w->flat_base), &d, 8);
    return OK;
}

static __attribute__((noinline)) int vtd_walk_nested(struct walker *w, uint64_t iova, unsigned access)
{
    uint64_t entry, pa, d, denied = 0, rights = 6, offset, want;
    uint64_t table = w->s1.base;
    unsigned need = (access & READ) | (access & WRITE);
    int bits = 39, code;

    if ((int64_t)(iova << 16) >> 16 != (int64_t)iova)
        return ADDRESS_SIZE;
    for (;;) {
        entry = table + (iova >> bits & 511) * 8;
        if ((code = vtd_translate2(w, entry, 1, &pa)) != OK)
            return code;
        if (!load(w, pa, &d))
            return ABORT;
        if (!(d & 1))
            return TRANSLATION;
        rights &= d;
        denied |= d & 1ull << 63;
        if (!(rights & 4) || (need & 2 & ~rights))
            return PERMISSION;
        if (bits == 12 || ((d & VTD_LARGE) && bits <= 30))
            break;
        if (d & (VTD_BEYOND | VTD_LARGE))
            return RESERVED;
        if (!(d & 0x20) && (code = vtd_update(w, entry, 0x20)) != OK)
            return code;
        table = d & VTD_ADDRESS;
        bits -= 9;
    }
    offset = (1ull << bits) - 1;
    if (d & (VTD_BEYOND | (offset & ~0x1fffull)))
        return RESERVED;
    if ((code = vtd_translate2(w, (d & VTD_ADDRESS & ~offset) | (iova & offset), need, &pa)) != OK)
        return code;
    uint64_t leaf2 = w->leaf2;
    int leaf2_bits = w->leaf2_bits;
    want = access & WRITE ? 0x60 : 0x20;
    if ((d & want) != want && (code = vtd_update(w, entry, want)) != OK)
        return code;
    w->out = pa;
    w->out_bits = bits < leaf2_bits ? bits : leaf2_bits;
    w->out_permissions = (leaf2 & 1) | (rights & leaf2 & 2) | ((leaf2 & 1) && !denied ? 4 : 0);
    w->out_level = bits == 12 ? 3 : bits == 21 ? 2 : 1;
    w->out_global = 0;
    return OK;
}

static bool vtd;

static inline int walk(struct walker *w, uint64_t iova, unsigned access)
{
    return vtd ? vtd_walk_nested(w, iova, access) : walk_nested(w, iova, access);
}

/* The TLB: four ways, 16 bytes an entry, as src/translation/tlb.ts. */
#define ENTRIES 4096
#define SETS (ENTRIES / 4)

struct entry {
    uint64_t tag;  /* 31:0 VA[43:12], 35:32 VA[47:44], 36 VA[55], 47:42 log2 of the page, 63:48 context */
    uint64_t data; /* 31:0 PA[43:12], 43:40 PA[47:44], 37:32 permissions */
};

struct tlb {
    struct entry sets[SETS][4];
    uint32_t large_sizes;
    bool globals;
    unsigned victim;
    int last_vmid, last_asid;
    unsigned last_context, next_context;
    uint64_t out;
    int out_bits;
    unsigned out_permissions;
};

static inline uint64_t tag_of(uint64_t address, int bits, unsigned context)
{
    uint64_t page = (address >> 12 & 0xfffffffff) & ~((1ull << (bits - 12)) - 1);
    return page | (address >> 55 & 1) << 36 | (uint64_t)bits << 42 | (uint64_t)context << 48;
}

static inline struct entry *set_of(struct tlb *t, uint64_t tag, int bits, unsigned context)
{
    uint32_t number = (uint32_t)tag >> (bits - 12);
    return t->sets[(number ^ number >> 10 ^ context * 0x61) & (SETS - 1)];
}

static inline int hit(struct tlb *t, const struct entry *e, uint64_t address, int bits, unsigned access)
{
    uint64_t offset = (1ull << bits) - 1;
    uint64_t pa = (e->data & 0xffffffff) << 12 | (e->data >> 40 & 0xf) << 44;
    t->out = pa | (address & offset);
    t->out_permissions = e->data >> 32 & 0x3f;
    t->out_bits = bits;
    return required[access & 15] & ~t->out_permissions ? PERMISSION : OK;
}

static __attribute__((noinline)) int lookup_large(struct tlb *t, unsigned context, uint64_t address, unsigned access)
{
    for (uint32_t sizes = t->large_sizes; sizes;) {
        int bits = 31 - __builtin_clz(sizes);
        sizes ^= 1u << bits;
        uint64_t tag = tag_of(address, bits, context);
        struct entry *e = set_of(t, tag, bits, context);
        for (int way = 0; way < 4; way++)
            if (e[way].tag == tag)
                return hit(t, &e[way], address, bits, access);
    }
    return MISS;
}

static inline int lookup(struct tlb *t, unsigned context, uint64_t address, unsigned access)
{
    uint64_t tag = tag_of(address, 12, context);
    struct entry *e = set_of(t, tag, 12, context);
    for (int way = 0; way < 4; way++)
        if (e[way].tag == tag)
            return hit(t, &e[way], address, 12, access);
    return t->large_sizes || t->globals ? lookup_large(t, context, address, access) : MISS;
}

static void insert(struct tlb *t, unsigned context, uint64_t address, uint64_t out, int bits, unsigned permissions)
{
    uint64_t tag = tag_of(address, bits, context);
    struct entry *e = set_of(t, tag, bits, context);
    int at = -1;
    if (bits != 12)
        t->large_sizes |= 1u << bits;
    for (int way = 0; way < 4; way++) {
        if (e[way].tag == tag) {
            at = way;
            break;
        }
        if (!e[way].tag && at < 0)
            at = way;
    }
    if (at < 0) {
        at = t->victim;
        t->victim = (t->victim + 1) & 3;
    }
    uint64_t page = out >> 12 & ~((1ull << (bits - 12)) - 1);
    e[at].tag = tag;
    e[at].data = (page & 0xffffffff) | (page >> 32 & 0xf) << 40 | (uint64_t)permissions << 32;
}

static inline unsigned context_of(struct tlb *t, int vmid, int asid)
{
    if (vmid == t->last_vmid && asid == t->last_asid && t->last_context)
        return t->last_context;
    t->last_vmid = vmid;
    t->last_asid = asid;
    return t->last_context = ++t->next_context;
}

static __attribute__((noinline)) int translate(struct walker *w, struct tlb *t, int vmid, int asid, uint64_t iova, unsigned access)
{
    unsigned context = context_of(t, vmid, asid);
    if (lookup(t, context, iova, access) == OK) {
        w->out = t->out;
        w->out_bits = t->out_bits;
        w->out_permissions = t->out_permissions;
        return OK;
    }
    int code = walk(w, iova, access);
    if (code == OK)
        insert(t, context, iova, w->out, w->out_bits, w->out_permissions);
    return code;
}

static uint64_t number(FILE *file)
{
    uint64_t value;
    if (fread(&value, 8, 1, file) != 1)
        exit(1);
    return value;
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

int main(int argc, char **argv)
{
    static struct walker w;
    static struct tlb tlb;
    static const char *names[] = { "uniform", "hot90", "sequential" };
    uint64_t *sequences[3];
    FILE *file = argc == 3 ? fopen(argv[1], "rb") : NULL;
    if (!file)
        return 1;
    vtd = !strcmp(argv[2], "vtd");
    make_permissions();
    w.flat_base = number(file);
    w.flat_bytes = number(file);
    w.flat = calloc(1, w.flat_bytes);
    struct stage common = { .first_mask = 511, .input_beyond = ~0ull << 48, .output_beyond = 0, .access_flag = 0x400, .hierarchical = 0xfull << 59, .table_attributes = 1 };
    w.s1 = w.s2 = common;
    w.s1.base = number(file);
    w.s2.base = number(file);
    uint64_t pages = number(file), length = number(file);
    for (uint64_t i = 0; i < pages; i++) {
        uint64_t address = number(file);
        if (fread(w.flat + (address - w.flat_base), 4096, 1, file) != 1)
            return 1;
    }
    for (int i = 0; i < 3; i++) {
        sequences[i] = malloc(length * 8);
        if (fread(sequences[i], 8, length, file) != length)
            return 1;
    }
    fclose(file);

    char name[32], kind[32];
    while (scanf("%31s %31s", name, kind) == 2) {
        const uint64_t *addresses = NULL;
        for (int i = 0; i < 3; i++)
            if (!strcmp(name, names[i]))
                addresses = sequences[i];
        if (!addresses)
            return 1;
        uint32_t sum = 0;
        double start = seconds();
        if (!strcmp(kind, "noTlb")) {
            for (int pass = 0; pass < PASSES; pass++)
                for (uint64_t i = 0; i < length; i++)
                    if (walk(&w, addresses[i], READ) == OK)
                        sum = sum * 31 + ((uint32_t)w.out ^ (uint32_t)(w.out >> 32));
        } else {
            for (int pass = 0; pass < PASSES; pass++)
                for (uint64_t i = 0; i < length; i++)
                    if (translate(&w, &tlb, 1, 1, addresses[i], READ) == OK)
                        sum = sum * 31 + ((uint32_t)w.out ^ (uint32_t)(w.out >> 32));
        }
        printf("%.3f %u\n", (seconds() - start) * 1e9 / length / PASSES, sum);
        fflush(stdout);
    }
    return 0;
}
