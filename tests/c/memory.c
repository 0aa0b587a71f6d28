/* Memory is flat over runs of every batch size and picture size, and given back at the destroys.
 * Second argument: how many cycles; each is 24 runs, 1 to 8 streams at once for each of three sizes. */
#define _DEFAULT_SOURCE

#include "resident.h"

enum { MOST = 8, STEPS = 4, LARGE = 512 };

/* KiB by which the end of the last cycle may be above that of the first. It moves by some 250 KiB with
 * where small blocks happen to lie. A sample of the smallest picture lost in each run would be 12 KiB, 24
 * times a cycle, and half a KiB lost with each stream as many KiB after 20 cycles. */
static const long tolerance = 1024;

static ddpm_engine *engine_of_size(const char *models, uint32_t size) {
    ddpm_engine_desc desc = DDPM_ENGINE_DESC_INIT;
    ddpm_engine *engine = NULL;
    desc.model_path = path_in(models, "open_size.onnx");
    desc.provider = DDPM_PROVIDER_CPU;
    desc.width = desc.height = size;
    CHECK_OK(ddpm_engine_create(&desc, &engine));
    CHECK_OK(ddpm_engine_wait(engine, DDPM_WAIT_FOREVER));
    return engine;
}

static void step_together(ddpm_stream **streams, int count) {
    int step, i;
    for (step = 0; step < STEPS; step++) {
        for (i = 0; i < count; i++) {
            CHECK_OK(ddpm_step(streams[i]));
        }
        for (i = 0; i < count; i++) {
            CHECK_OK(ddpm_stream_wait(streams[i], DDPM_WAIT_FOREVER));
        }
    }
}

static void cycle(const char *models) {
    static const uint32_t sizes[] = {32, 48, 64};
    size_t size;
    for (size = 0; size < sizeof sizes / sizeof sizes[0]; size++) {
        ddpm_engine *engine = engine_of_size(models, sizes[size]);
        int count, i;
        for (count = 1; count <= MOST; count++) {
            ddpm_stream *streams[MOST];
            for (i = 0; i < count; i++) {
                streams[i] = make_stream(engine, STEPS, (uint64_t)i);
            }
            step_together(streams, count);
            for (i = 0; i < count; i++) {
                CHECK_OK(ddpm_stream_destroy(streams[i]));
            }
        }
        CHECK_OK(ddpm_engine_destroy(engine));
    }
}

static void flat_over_cycles(const char *models, int cycles) {
    long first, last;
    int i;
    cycle(models);
    first = held_kib();
    for (i = 1; i < cycles; i++) {
        cycle(models);
    }
    last = held_kib();
    if (last - first > tolerance) {
        fprintf(stderr, "%ld KiB after the first cycle, %ld KiB after %d, expected at most %ld more\n", first, last, cycles,
                tolerance);
        exit(1);
    }
}

/* What only a large engine needs is gone with it. */
static void given_back_at_destroy(const char *models) {
    const long sample = (long)LARGE * LARGE * 3 * 4 / 1024;
    const long before = held_kib();
    ddpm_engine *engine = engine_of_size(models, LARGE);
    ddpm_stream *streams[MOST];
    long most, after;
    int i;
    for (i = 0; i < MOST; i++) {
        streams[i] = make_stream(engine, STEPS, (uint64_t)i);
    }
    step_together(streams, MOST);
    most = held_kib();
    /* A sample in each stream, and one in each place of a batch of the model's input and output. */
    CHECK(most - before > 3 * MOST * sample);
    for (i = 0; i < MOST; i++) {
        CHECK_OK(ddpm_stream_destroy(streams[i]));
    }
    CHECK_OK(ddpm_engine_destroy(engine));
    after = held_kib();
    /* Less than one of the many samples that were held. */
    if (after - before >= sample) {
        fprintf(stderr, "%ld KiB before, %ld KiB with a large engine, %ld KiB after its destroy\n", before, most, after);
        exit(1);
    }
}

int main(int argc, char **argv) {
    CHECK(argc > 2);
    keep_no_freed_memory();
    flat_over_cycles(argv[1], atoi(argv[2]));
    given_back_at_destroy(argv[1]);
    return 0;
}
