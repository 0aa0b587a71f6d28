/* Back and forth along a run, a run put away and taken up again, and another that branches off: with the
 * steps made by the library, and with steps that the model makes whole. */
#include <math.h>

#include "check.h"

enum { WIDTH = 8, VALUES = WIDTH * WIDTH * 3, STEPS = 12, ROOM = 1 << 16 };

typedef struct picture {
    float values[VALUES];
} picture;

static ddpm_engine *engine_with(const char *models, uint32_t fused_step) {
    ddpm_engine_desc desc = DDPM_ENGINE_DESC_INIT;
    ddpm_engine_info info = DDPM_ENGINE_INFO_INIT;
    ddpm_engine *engine = NULL;
    desc.model_path = path_in(models, "oracle.onnx");
    desc.provider = DDPM_PROVIDER_CPU;
    desc.fused_step = fused_step;
    CHECK_OK(ddpm_engine_create(&desc, &engine));
    CHECK_OK(ddpm_engine_wait(engine, DDPM_WAIT_FOREVER));
    CHECK_OK(ddpm_engine_get_info(engine, &info));
    CHECK(info.fused_step == (fused_step == DDPM_FUSED_ON));
    return engine;
}

static uint64_t copies_of(ddpm_engine *engine) {
    ddpm_engine_status status = DDPM_ENGINE_STATUS_INIT;
    CHECK_OK(ddpm_engine_get_status(engine, &status));
    return status.host_copies;
}

static picture picture_of(ddpm_stream *stream) {
    picture made;
    CHECK_OK(ddpm_stream_wait(stream, DDPM_WAIT_FOREVER));
    CHECK_OK(ddpm_stream_copy_frame(stream, made.values, sizeof made.values, 0, NULL));
    return made;
}

static picture step(ddpm_stream *stream) {
    CHECK_OK(ddpm_step(stream));
    return picture_of(stream);
}

static int is_same(picture a, picture b) {
    return memcmp(&a, &b, sizeof a) == 0;
}

static double difference(picture a, picture b) {
    double most = 0.0;
    size_t i;
    for (i = 0; i < VALUES; i++) {
        most = fmax(most, fabs((double)a.values[i] - (double)b.values[i]));
    }
    return most;
}

static void a_run_and_what_comes_of_it(ddpm_engine *engine, uint32_t sampler, picture straight[STEPS]) {
    static unsigned char saved[ROOM];
    ddpm_stream_desc desc = DDPM_STREAM_DESC_INIT, shown = DDPM_STREAM_DESC_INIT;
    ddpm_branch_desc branch = DDPM_BRANCH_DESC_INIT;
    ddpm_stream *stream = NULL, *loaded = NULL, *other = NULL;
    uint64_t size = 0;
    uint32_t i;
    desc.sampler = sampler;
    desc.steps = STEPS;
    desc.seed = 11;
    desc.frame_format = shown.frame_format = DDPM_FRAME_PLANAR_F32;
    /* The model knows the picture; what differs is how far it is. */
    desc.preview = shown.preview = DDPM_PREVIEW_SAMPLE;
    CHECK_OK(ddpm_stream_create(engine, &desc, &stream));
    for (i = 0; i < STEPS; i++) {
        straight[i] = step(stream);
    }
    CHECK(ddpm_step(stream) == DDPM_DONE);
    for (i = STEPS; i > 0; i -= 3) {
        CHECK_OK(ddpm_stream_seek(stream, i));
        CHECK(is_same(picture_of(stream), straight[i - 1]));
    }
    CHECK(ddpm_stream_seek(stream, STEPS + 1) == DDPM_ERROR_INVALID_ARGUMENT);
    CHECK_OK(ddpm_stream_seek(stream, 4));
    CHECK(is_same(picture_of(stream), straight[3]));

    /* The size is told before there is room, and nothing is written then. */
    CHECK_OK(ddpm_stream_save(stream, NULL, 0, &size));
    CHECK(size > 0 && size <= sizeof saved);
    CHECK(ddpm_stream_save(stream, saved, size - 1, &size) == DDPM_ERROR_INVALID_ARGUMENT);
    CHECK_OK(ddpm_stream_save(stream, saved, sizeof saved, &size));
    CHECK_OK(ddpm_stream_load(engine, saved, size, &shown, &loaded));
    CHECK(is_same(picture_of(loaded), straight[3]));
    CHECK(is_same(step(loaded), straight[4]));
    CHECK(ddpm_stream_load(engine, saved, size / 2, &shown, &other) == DDPM_ERROR_INVALID_ARGUMENT);

    branch.step = 6;
    branch.seed = 5;
    branch.variation = 1.0f;
    CHECK_OK(ddpm_stream_branch(stream, &branch, &other));
    CHECK(is_same(picture_of(other), straight[5]));
    CHECK(difference(step(other), straight[6]) > 1e-3);
    CHECK(is_same(step(stream), straight[4]));
    CHECK_OK(ddpm_stream_destroy(other));
    CHECK_OK(ddpm_stream_destroy(loaded));
    CHECK_OK(ddpm_stream_destroy(stream));
}

static void samples_stay_where_the_model_runs(ddpm_engine *engine) {
    ddpm_stream_desc desc = DDPM_STREAM_DESC_INIT;
    ddpm_stream *stream = NULL;
    const uint64_t before = copies_of(engine);
    uint32_t i;
    desc.steps = STEPS;
    /* As good as none: not even one state fits. */
    desc.checkpoint_bytes = 1;
    CHECK_OK(ddpm_stream_create(engine, &desc, &stream));
    for (i = 0; i < STEPS; i++) {
        CHECK_OK(ddpm_step(stream));
        CHECK_OK(ddpm_stream_wait(stream, DDPM_WAIT_FOREVER));
    }
    CHECK(copies_of(engine) - before <= 1);
    CHECK_OK(ddpm_stream_destroy(stream));
}

int main(int argc, char **argv) {
    static const uint32_t samplers[] = {DDPM_SAMPLER_DDPM, DDPM_SAMPLER_DPMPP};
    static picture by_library[STEPS], by_model[STEPS];
    ddpm_engine *plain, *fused;
    size_t i, k;
    CHECK(argc > 1);
    plain = engine_with(argv[1], DDPM_FUSED_OFF);
    fused = engine_with(argv[1], DDPM_FUSED_ON);
    for (i = 0; i < sizeof samplers / sizeof *samplers; i++) {
        a_run_and_what_comes_of_it(plain, samplers[i], by_library);
        a_run_and_what_comes_of_it(fused, samplers[i], by_model);
        /* Both compute in doubles and round once; a sum in another order may round the other way. */
        for (k = 0; k < STEPS; k++) {
            CHECK(difference(by_library[k], by_model[k]) <= 1e-5);
        }
    }
    samples_stay_where_the_model_runs(fused);
    CHECK_OK(ddpm_engine_destroy(plain));
    CHECK_OK(ddpm_engine_destroy(fused));
    return 0;
}
