/* Handles end in any order, at any time, and soon. */
#define _DEFAULT_SOURCE

#include <pthread.h>

#include "timing.h"

/* Some models load, or make a step, for hours. A destroy that takes this long waits for them. */
enum { SOON = 20000000 };

static void destroy_soon(ddpm_engine *engine) {
    const int64_t start = clock_us();
    CHECK_OK(ddpm_engine_destroy(engine));
    CHECK(clock_us() - start < SOON);
}

static void stream_outlives_its_engine(const char *models) {
    ddpm_engine *engine = load_engine(models, "lin.onnx");
    ddpm_stream *stream = make_stream(engine, 3, 1);
    ddpm_stream_status status = DDPM_STREAM_STATUS_INIT;
    unsigned char pixels[8 * 8 * 4];
    CHECK_OK(ddpm_step(stream));
    CHECK_OK(ddpm_stream_wait(stream, DDPM_WAIT_FOREVER));
    CHECK_OK(ddpm_engine_destroy(engine));
    CHECK_ERROR(ddpm_step(stream), DDPM_ERROR_ENGINE_CLOSED, "engine");
    CHECK_ERROR(ddpm_stream_reset(stream, 2), DDPM_ERROR_ENGINE_CLOSED, "engine");
    CHECK_OK(ddpm_stream_get_status(stream, &status));
    CHECK(status.step == 1);
    CHECK_OK(ddpm_stream_copy_frame(stream, pixels, sizeof pixels, 0, NULL));
    CHECK_OK(ddpm_stream_destroy(stream));
}

static void loading_is_an_answer_not_a_wait(const char *models) {
    ddpm_engine *engine = start_engine(models, "endless_load.onnx");
    ddpm_engine_info info = DDPM_ENGINE_INFO_INIT;
    ddpm_stream_desc desc = DDPM_STREAM_DESC_INIT;
    ddpm_stream *stream = NULL;
    ddpm_engine_status status = DDPM_ENGINE_STATUS_INIT;
    /* Its first run never ends, and no call waits for it. */
    while (status.stage != DDPM_LOAD_FIRST_RUNS) {
        const ddpm_engine_status before = status;
        CHECK_OK(ddpm_engine_get_status(engine, &status));
        CHECK(status.state == DDPM_ENGINE_LOADING);
        CHECK(status.stage >= before.stage && status.progress >= before.progress && status.progress < 1);
    }
    CHECK_RESULT(ddpm_engine_wait(engine, 0), DDPM_TIMEOUT);
    CHECK_RESULT(ddpm_engine_wait(engine, 20), DDPM_TIMEOUT);
    CHECK_ERROR(ddpm_engine_get_info(engine, &info), DDPM_ERROR_ENGINE_LOADING, "load");
    CHECK_ERROR(ddpm_stream_create(engine, &desc, &stream), DDPM_ERROR_ENGINE_LOADING, "load");
    CHECK_OK(ddpm_engine_destroy(engine));
}

static void destroy_in_mid_step(const char *models, int times) {
    uint64_t random = 3;
    int i;
    for (i = 0; i < times; i++) {
        const int order = i % 3;
        ddpm_engine *engine = load_engine(models, i % 2 == 0 ? "endless.onnx" : "slow.onnx");
        ddpm_stream *stream = make_stream(engine, 3, (uint64_t)i);
        ddpm_stream *other = make_stream(engine, 3, (uint64_t)i);
        CHECK_OK(ddpm_step(stream));
        CHECK_OK(ddpm_step(other));
        /* The step waits, begins, or runs. */
        pause_us(draw(&random, 2) * draw(&random, 3000));
        if (order == 0) {
            CHECK_OK(ddpm_stream_destroy(stream));
        }
        destroy_soon(engine);
        if (order == 1) {
            CHECK_OK(ddpm_stream_destroy(stream));
        }
        /* Whoever waits for a step that will not come is told so. */
        CHECK(ddpm_stream_wait(other, DDPM_WAIT_FOREVER) < 0 || i % 2 == 1);
        CHECK_OK(ddpm_stream_destroy(other));
        if (order == 2) {
            CHECK_OK(ddpm_stream_destroy(stream));
        }
    }
}

static void create_and_destroy_at_once(const char *models, int times) {
    uint64_t random = 4;
    int i;
    for (i = 0; i < times; i++) {
        ddpm_engine *engine = start_engine(models, i % 4 == 0 ? "lin.onnx" : "endless_load.onnx");
        pause_us(draw(&random, 2) * draw(&random, 4000));
        destroy_soon(engine);
    }
}

/* While a thread waits for the engine, or for a step, another one breaks it off. */
typedef struct waiter {
    ddpm_engine *engine;
    ddpm_stream *stream;
    ddpm_result found;
} waiter;

static void *wait_for_step(void *argument) {
    waiter *mine = (waiter *)argument;
    mine->found = ddpm_stream_wait(mine->stream, DDPM_WAIT_FOREVER);
    return NULL;
}

static void a_wait_ends_with_the_engine(const char *models) {
    waiter mine;
    pthread_t thread;
    mine.engine = load_engine(models, "endless.onnx");
    mine.stream = make_stream(mine.engine, 3, 1);
    mine.found = DDPM_OK;
    CHECK_OK(ddpm_step(mine.stream));
    CHECK(pthread_create(&thread, NULL, wait_for_step, &mine) == 0);
    pause_us(20000);
    destroy_soon(mine.engine);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(mine.found == DDPM_ERROR_ENGINE_CLOSED);
    CHECK_OK(ddpm_stream_destroy(mine.stream));
}

/* The second and third argument: how often engines end in mid-step, and while they load. */
int main(int argc, char **argv) {
    CHECK(argc > 3);
    stream_outlives_its_engine(argv[1]);
    loading_is_an_answer_not_a_wait(argv[1]);
    a_wait_ends_with_the_engine(argv[1]);
    destroy_in_mid_step(argv[1], atoi(argv[2]));
    create_and_destroy_at_once(argv[1], atoi(argv[3]));
    return 0;
}
