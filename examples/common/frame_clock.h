/* What a host with a frame loop has anyway: a clock, pacing, and work of its own to do. */
#ifndef EXAMPLES_FRAME_CLOCK_H
#define EXAMPLES_FRAME_CLOCK_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Milliseconds on a clock that only goes forward. */
double clock_ms(void);

/* Sleeps until the clock reads `ms`; returns at once when it already does. */
void clock_sleep_until(double ms);

/* The rounds of `host_work` that take about `ms` on this machine while it is quiet. */
uint64_t host_work_rounds(double ms);

/* Computes for that many rounds: a fixed amount of work, which takes longer when it is disturbed. */
void host_work(uint64_t rounds);

/* Prints p50, p99 and the largest of `count` frame times. Sorts them. */
void print_frame_times(const char *label, double *times_ms, size_t count);

#ifdef __cplusplus
}
#endif

#endif
