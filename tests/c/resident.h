/* What tests of memory share. Linux with glibc. */
#ifndef TESTS_RESIDENT_H
#define TESTS_RESIDENT_H

#include <malloc.h>
#include <unistd.h>

#include "check.h"

/* Makes glibc give back what is freed, so that what stays is held. By itself it raises the size from
 * which a block is mapped alone with each one freed, up to 32 MiB, and keeps twice as much at the top of
 * every thread's arena, where malloc_trim does not look. Call it first. */
static inline void keep_no_freed_memory(void) {
#ifndef UNDER_A_CHECKER
    CHECK(mallopt(M_MMAP_THRESHOLD, 128 * 1024) == 1);
    CHECK(mallopt(M_TRIM_THRESHOLD, 128 * 1024) == 1);
    CHECK(mallopt(M_ARENA_MAX, 1) == 1);
#endif
}

/* KiB of memory that the process holds. Compiled for a memory checker, which keeps what is freed for
 * itself and finds leaks in its own way, 0. */
static inline long held_kib(void) {
    long total = 0, resident = 0;
#ifndef UNDER_A_CHECKER
    FILE *statm;
    (void)malloc_trim(0);
    statm = fopen("/proc/self/statm", "r");
    CHECK(statm != NULL);
    CHECK(fscanf(statm, "%ld %ld", &total, &resident) == 2);
    CHECK(fclose(statm) == 0);
#endif
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

#endif
