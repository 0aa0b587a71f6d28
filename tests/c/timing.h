/* What tests of time and of moments share: clocks, pauses, and numbers that look random and are the same
 * in every run. */
#ifndef TESTS_TIMING_H
#define TESTS_TIMING_H

#include <stdint.h>
#include <sys/resource.h>
#include <time.h>

#include "check.h"

/* Microseconds of processor time that all threads of the process have used. */
static inline int64_t processor_us(void) {
    struct rusage used;
    CHECK(getrusage(RUSAGE_SELF, &used) == 0);
    return ((int64_t)used.ru_utime.tv_sec + (int64_t)used.ru_stime.tv_sec) * 1000000 + (int64_t)used.ru_utime.tv_usec +
           (int64_t)used.ru_stime.tv_usec;
}

static inline int64_t clock_us(void) {
    struct timespec now;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return (int64_t)now.tv_sec * 1000000 + (int64_t)now.tv_nsec / 1000;
}

static inline void pause_us(uint32_t microseconds) {
    struct timespec pause;
    pause.tv_sec = (time_t)(microseconds / 1000000);
    pause.tv_nsec = (long)(microseconds % 1000000) * 1000;
    (void)nanosleep(&pause, NULL);
}

/* 0 to `below` - 1 (Knuth's MMIX generator). */
static inline uint32_t draw(uint64_t *state, uint32_t below) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33) % below;
}

#endif
