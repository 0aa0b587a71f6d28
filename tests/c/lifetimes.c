/* Handles end in any order, at any time. */
#include "check.h"

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
    int i;
    for (i = 0; i < times; i++) {
        ddpm_engine *engine = load_engine(models, "slow.onnx");
        ddpm_stream *stream = make_stream(engine, 3, (uint64_t)i);
        CHECK_OK(ddpm_step(stream));
        if (i % 2 == 0) {
            CHECK_OK(ddpm_stream_destroy(stream));
            CHECK_OK(ddpm_engine_destroy(engine));
        } else {
            CHECK_OK(ddpm_engine_destroy(engine));
            CHECK_OK(ddpm_stream_destroy(stream));
        }
    }
}

static void create_and_destroy_at_once(const char *models, int times) {
    int i;
    for (i = 0; i < times; i++) {
        CHECK_OK(ddpm_engine_destroy(start_engine(models, i % 2 == 0 ? "lin.onnx" : "endless_load.onnx")));
    }
}

static void cancel_and_reset_at_any_moment(const char *models, int times) {
    ddpm_engine *engine = load_engine(models, "slow.onnx");
    ddpm_stream *stream = make_stream(engine, 3, 11);
    ddpm_stream *fresh = make_stream(engine, 3, 11);
    unsigned char pixels[8 * 8 * 4], expected[8 * 8 * 4];
    int i;
    for (i = 0; i < times; i++) {
        CHECK(ddpm_step(stream) >= 0);
        /* The time until the next line differs from turn to turn, and so does where the worker is. */
        CHECK(ddpm_stream_wait(stream, (uint32_t)(i % 4)) >= 0);
        CHECK_OK(ddpm_stream_cancel(stream));
        CHECK_OK(ddpm_stream_reset(stream, 11));
    }
    finish(stream);
    finish(fresh);
    CHECK_OK(ddpm_stream_copy_frame(stream, pixels, sizeof pixels, 0, NULL));
    CHECK_OK(ddpm_stream_copy_frame(fresh, expected, sizeof expected, 0, NULL));
    CHECK(memcmp(pixels, expected, sizeof pixels) == 0);
    CHECK_OK(ddpm_stream_destroy(stream));
    CHECK_OK(ddpm_stream_destroy(fresh));
    CHECK_OK(ddpm_engine_destroy(engine));
}

/* The second argument is how often the repeated ones repeat. */
int main(int argc, char **argv) {
    int times;
    CHECK(argc > 2);
    times = atoi(argv[2]);
    stream_outlives_its_engine(argv[1]);
    loading_is_an_answer_not_a_wait(argv[1]);
    destroy_in_mid_step(argv[1], times);
    create_and_destroy_at_once(argv[1], times);
    cancel_and_reset_at_any_moment(argv[1], times);
    return 0;
}
