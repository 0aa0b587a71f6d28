/* An engine that waits for the next step leaves the processor alone. Second argument: how many steps.
 *
 * Held as a share of the time that passes, which a slow or busy machine does not change: processor time
 * is what the gaps take, not how long they last. */
#define _DEFAULT_SOURCE

#include "timing.h"

enum { GAP = 160000 };

/* The share of one core, in thousandths, that the process used since then. */
static int64_t share_since(int64_t processor, int64_t clock) {
    return (processor_us() - processor) * 1000 / (clock_us() - clock);
}

int main(int argc, char **argv) {
    ddpm_engine_desc desc = DDPM_ENGINE_DESC_INIT;
    ddpm_engine *engine = NULL;
    ddpm_stream *stream;
    int64_t used = 0, passed = 0, processor, clock, asleep;
    int i, steps;
    CHECK(argc > 2);
    steps = atoi(argv[2]);
    desc.model_path = path_in(argv[1], "lin.onnx");
    desc.provider = DDPM_PROVIDER_CPU;
    /* A pool, whose threads could spin. */
    desc.threads = 2;
    CHECK_OK(ddpm_engine_create(&desc, &engine));
    CHECK_OK(ddpm_engine_wait(engine, DDPM_WAIT_FOREVER));
    stream = make_stream(engine, (uint32_t)steps, 1);
    for (i = 0; i < steps; i++) {
        CHECK_OK(ddpm_step(stream));
        CHECK_OK(ddpm_stream_wait(stream, DDPM_WAIT_FOREVER));
        processor = processor_us();
        clock = clock_us();
        pause_us(GAP);
        used += processor_us() - processor;
        passed += clock_us() - clock;
    }
    /* One thread that spins would be 1000. Short sleeps before the worker goes to sleep for good may
     * cost some thousandths; the rest is for the clock of the processor time. */
    if (used * 1000 / passed >= 50) {
        fprintf(stderr, "%ld thousandths of a core between steps, expected less than 50\n", (long)(used * 1000 / passed));
        return 1;
    }

    /* Nothing is asked for any more: not even short sleeps. */
    pause_us(1000000);
    processor = processor_us();
    clock = clock_us();
    pause_us(500000);
    asleep = share_since(processor, clock);
    if (asleep >= 5) {
        fprintf(stderr, "%ld thousandths of a core while nothing is asked for, expected less than 5\n", (long)asleep);
        return 1;
    }
    CHECK_OK(ddpm_stream_destroy(stream));
    CHECK_OK(ddpm_engine_destroy(engine));
    return 0;
}
