/* A reveal from noise to picture: states, frames, seeds, reset and cancel. */
#include "check.h"

enum { WIDTH = 8, HEIGHT = 8, ROW = WIDTH * 4, SIZE = ROW * HEIGHT };

static ddpm_stream_status status_of(ddpm_stream *stream) {
    ddpm_stream_status status = DDPM_STREAM_STATUS_INIT;
    CHECK_OK(ddpm_stream_get_status(stream, &status));
    CHECK(status.struct_size == sizeof status);
    return status;
}

static void copy(ddpm_stream *stream, unsigned char *pixels) {
    CHECK_OK(ddpm_stream_copy_frame(stream, pixels, SIZE, 0, NULL));
}

static void each_step_gives_one_frame(ddpm_engine *engine) {
    ddpm_stream *stream = make_stream(engine, 5, 7);
    unsigned char pixels[SIZE];
    uint64_t newest = 0;
    uint32_t step;
    CHECK(status_of(stream).state == DDPM_STREAM_IDLE && status_of(stream).step == 0);
    CHECK_RESULT(ddpm_stream_copy_frame(stream, pixels, sizeof pixels, 0, NULL), DDPM_NO_NEW_FRAME);
    for (step = 1; step <= 5; step++) {
        ddpm_frame_info info = DDPM_FRAME_INFO_INIT;
        CHECK_OK(ddpm_step(stream));
        CHECK_OK(ddpm_stream_wait(stream, DDPM_WAIT_FOREVER));
        CHECK_OK(ddpm_stream_copy_frame(stream, pixels, sizeof pixels, ROW, &info));
        CHECK(info.step == step && info.steps == 5 && info.width == WIDTH && info.height == HEIGHT);
        CHECK(info.generation > newest && info.generation == status_of(stream).generation);
        newest = info.generation;
        memset(pixels, 0xCD, sizeof pixels);
        CHECK_RESULT(ddpm_stream_copy_frame(stream, pixels, sizeof pixels, 0, &info), DDPM_NO_NEW_FRAME);
        CHECK(pixels[0] == 0xCD && info.generation == newest);
    }
    CHECK(status_of(stream).state == DDPM_STREAM_DONE && status_of(stream).step == 5);
    CHECK_RESULT(ddpm_step(stream), DDPM_DONE);
    CHECK_OK(ddpm_stream_destroy(stream));
}

static void bytes_between_rows_stay(ddpm_engine *engine) {
    ddpm_stream *stream = make_stream(engine, 2, 7);
    ddpm_stream *twin = make_stream(engine, 2, 7);
    unsigned char tight[SIZE];
    unsigned char wide[HEIGHT][ROW + 12];
    int y, x;
    finish(stream);
    finish(twin);
    copy(stream, tight);
    memset(wide, 0xCD, sizeof wide);
    /* The last row needs no gap behind it. */
    CHECK_OK(ddpm_stream_copy_frame(twin, wide, sizeof wide - 12, ROW + 12, NULL));
    for (y = 0; y < HEIGHT; y++) {
        CHECK(memcmp(wide[y], tight + y * ROW, ROW) == 0);
        for (x = ROW; x < ROW + 12; x++) {
            CHECK(wide[y][x] == 0xCD);
        }
    }
    CHECK_OK(ddpm_stream_destroy(stream));
    CHECK_OK(ddpm_stream_destroy(twin));
}

static void a_seed_is_a_picture(ddpm_engine *engine) {
    const uint64_t seeds[] = {1, 4294967297u, UINT64_MAX};
    unsigned char first[SIZE], again[SIZE], before[SIZE] = {0};
    size_t i;
    for (i = 0; i < 3; i++) {
        ddpm_stream *stream = make_stream(engine, 3, seeds[i]);
        finish(stream);
        copy(stream, first);
        CHECK_OK(ddpm_stream_reset(stream, 5));
        finish(stream);
        copy(stream, again);
        CHECK(memcmp(first, again, SIZE) != 0);
        CHECK_OK(ddpm_stream_reset(stream, seeds[i]));
        CHECK(status_of(stream).step == 0 && status_of(stream).state == DDPM_STREAM_IDLE);
        finish(stream);
        copy(stream, again);
        CHECK(memcmp(first, again, SIZE) == 0);
        CHECK(memcmp(first, before, SIZE) != 0);
        memcpy(before, first, SIZE);
        CHECK_OK(ddpm_stream_destroy(stream));
    }
}

static void step_after_cancel_matches_a_fresh_stream(ddpm_engine *engine) {
    ddpm_stream *stream = make_stream(engine, 4, 3);
    ddpm_stream *fresh = make_stream(engine, 4, 3);
    unsigned char pixels[SIZE], expected[SIZE];
    CHECK_OK(ddpm_step(stream));
    CHECK_OK(ddpm_stream_cancel(stream));
    CHECK(status_of(stream).state == DDPM_STREAM_CANCELLED);
    CHECK_RESULT(ddpm_step(stream), DDPM_DONE);
    CHECK_OK(ddpm_stream_reset(stream, 3));
    finish(stream);
    finish(fresh);
    copy(stream, pixels);
    copy(fresh, expected);
    CHECK(memcmp(pixels, expected, SIZE) == 0);
    CHECK_OK(ddpm_stream_destroy(stream));
    CHECK_OK(ddpm_stream_destroy(fresh));
}

/* Each option alone makes another picture than all the others. */
static void every_option_is_taken(const char *models) {
    enum { OPTIONS = 8 };
    unsigned char pixels[OPTIONS][SIZE];
    int option, other;
    for (option = 0; option < OPTIONS; option++) {
        ddpm_engine_desc engine_desc = DDPM_ENGINE_DESC_INIT;
        ddpm_stream_desc desc = DDPM_STREAM_DESC_INIT;
        ddpm_engine *engine = NULL;
        ddpm_stream *stream = NULL;
        engine_desc.model_path = path_in(models, "lin.onnx");
        engine_desc.provider = DDPM_PROVIDER_CPU;
        desc.steps = 6;
        switch (option) {
            case 1: desc.sampler = DDPM_SAMPLER_DDIM; break;
            case 2: desc.sampler = DDPM_SAMPLER_DDIM; desc.eta = 0.5f; break;
            case 3: desc.spacing = DDPM_SPACING_LEADING; break;
            case 4: desc.clip = DDPM_CLIP_RANGE; desc.clip_range = 0.25f; break;
            case 5: desc.variance_type = DDPM_VARIANCE_FIXED_LARGE; break;
            case 6: desc.preview = DDPM_PREVIEW_SAMPLE; break;
            case 7: engine_desc.prediction_type = DDPM_PREDICTION_SAMPLE; break;
            default: break;
        }
        CHECK_OK(ddpm_engine_create(&engine_desc, &engine));
        CHECK_OK(ddpm_engine_wait(engine, DDPM_WAIT_FOREVER));
        CHECK_OK(ddpm_stream_create(engine, &desc, &stream));
        /* Not to the end: there the sample and the prediction are the same picture. */
        for (other = 0; other < 5; other++) {
            CHECK_OK(ddpm_step(stream));
            CHECK_OK(ddpm_stream_wait(stream, DDPM_WAIT_FOREVER));
        }
        copy(stream, pixels[option]);
        for (other = 0; other < option; other++) {
            CHECK(memcmp(pixels[other], pixels[option], SIZE) != 0);
        }
        CHECK_OK(ddpm_stream_destroy(stream));
        CHECK_OK(ddpm_engine_destroy(engine));
    }
}

static void an_error_sticks_until_reset(const char *models) {
    ddpm_engine *engine = load_engine(models, "overflow.onnx");
    ddpm_stream *stream = make_stream(engine, 4, 1);
    ddpm_result stepped;
    do {
        stepped = ddpm_step(stream);
        if (stepped >= 0) {
            ddpm_result waited = ddpm_stream_wait(stream, DDPM_WAIT_FOREVER);
            CHECK(waited == DDPM_OK || waited == DDPM_ERROR_NON_FINITE);
        }
    } while (stepped >= 0 && stepped != DDPM_DONE);
    CHECK(stepped == DDPM_ERROR_NON_FINITE);
    CHECK_ERROR(ddpm_step(stream), DDPM_ERROR_NON_FINITE, "non-finite");
    CHECK(status_of(stream).state == DDPM_STREAM_FAILED);
    CHECK_OK(ddpm_stream_reset(stream, 1));
    CHECK(status_of(stream).state == DDPM_STREAM_IDLE);
    CHECK_OK(ddpm_step(stream));
    CHECK_OK(ddpm_stream_destroy(stream));
    CHECK_OK(ddpm_engine_destroy(engine));
}

int main(int argc, char **argv) {
    ddpm_engine *engine;
    CHECK(argc > 1);
    engine = load_engine(argv[1], "lin.onnx");
    each_step_gives_one_frame(engine);
    bytes_between_rows_stay(engine);
    a_seed_is_a_picture(engine);
    step_after_cancel_matches_a_fresh_stream(engine);
    CHECK_OK(ddpm_engine_destroy(engine));
    every_option_is_taken(argv[1]);
    an_error_sticks_until_reset(argv[1]);
    return 0;
}
