#define _POSIX_C_SOURCE 200809L

#include "frame_clock.h"

#include <stdio.h>
#include <stdlib.h>

#ifdef _WIN32
#include <windows.h>
#else
#include <time.h>
#endif

#ifdef _WIN32

double clock_ms(void) {
    LARGE_INTEGER frequency;
    LARGE_INTEGER now;
    QueryPerformanceFrequency(&frequency);
    QueryPerformanceCounter(&now);
    return (double)now.QuadPart * 1000.0 / (double)frequency.QuadPart;
}

static void sleep_ms(double ms) { Sleep((DWORD)ms); }

#else

double clock_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1000.0 + (double)now.tv_nsec / 1e6;
}

static void sleep_ms(double ms) {
    struct timespec pause;
    pause.tv_sec = (time_t)(ms / 1000.0);
    pause.tv_nsec = (long)((ms - (double)pause.tv_sec * 1000.0) * 1e6);
    nanosleep(&pause, NULL);
}

#endif

void clock_sleep_until(double ms) {
    double left = ms - clock_ms();
    while (left > 0.0) {
        sleep_ms(left);
        left = ms - clock_ms();
    }
}

void host_work(uint64_t rounds) {
    /* volatile: the compiler must believe that somebody reads the result. */
    static volatile uint64_t result;
    uint64_t state = result | 1u;
    uint64_t i;
    for (i = 0; i < rounds; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
    }
    result = state;
}

uint64_t host_work_rounds(double ms) {
    const uint64_t probe = 1000000;
    double quickest = 1e9;
    int i;
    for (i = 0; i < 20; i++) {
        double start = clock_ms();
        double took;
        host_work(probe);
        took = clock_ms() - start;
        quickest = took < quickest ? took : quickest;
    }
    return (uint64_t)(ms / quickest * (double)probe);
}

static int ascending(const void *a, const void *b) {
    double left = *(const double *)a;
    double right = *(const double *)b;
    return (left > right) - (left < right);
}

void print_frame_times(const char *label, double *times_ms, size_t count) {
    if (count == 0) {
        return;
    }
    qsort(times_ms, count, sizeof *times_ms, ascending);
    printf("host work per frame, %s: p50 %.2f ms, p99 %.2f ms, max %.2f ms (%lu frames)\n", label, times_ms[count / 2],
           times_ms[(count - 1) * 99 / 100], times_ms[count - 1], (unsigned long)count);
}
