/* Reveals that take a time: by the clock that the host ticks, whatever the machine. The seconds of these
 * ticks are the test's own, and so long that no step takes a share of them that shows. */
#include <math.h>

#include "check.h"

enum { WIDTH = 8, PIXELS = WIDTH * WIDTH * 4, STEPS = 20 };

static const double LONG = 1000.0;

typedef struct picture {
    unsigned char bytes[PIXELS];
} picture;

static ddpm_stream *played(ddpm_engine *engine, const ddpm_stream_desc *desc, double duration, uint32_t easing) {
    ddpm_playback_desc playback = DDPM_PLAYBACK_DESC_INIT;
    ddpm_stream *stream = NULL;
    playback.duration = duration;
    playback.easing = easing;
    CHECK_OK(ddpm_stream_create(engine, desc, &stream));
    CHECK_OK(ddpm_stream_play(stream, &playback));
    return stream;
}

static ddpm_stream_status status_of(ddpm_stream *stream) {
    ddpm_stream_status status = DDPM_STREAM_STATUS_INIT;
    CHECK_OK(ddpm_stream_get_status(stream, &status));
    return status;
}

/* Lets time pass, and tells how many steps there are once the worker has made what is due. */
static uint32_t steps_after(ddpm_stream *stream, double seconds) {
    CHECK_OK(ddpm_stream_tick(stream, seconds));
    CHECK_OK(ddpm_stream_wait(stream, DDPM_WAIT_FOREVER));
    return status_of(stream).step;
}

static picture picture_of(ddpm_stream *stream) {
    picture made;
    CHECK_OK(ddpm_stream_copy_frame(stream, made.bytes, sizeof made.bytes, 0, NULL));
    return made;
}

static picture stepped_picture(ddpm_engine *engine, const ddpm_stream_desc *desc) {
    ddpm_stream *stream = NULL;
    picture made;
    CHECK_OK(ddpm_stream_create(engine, desc, &stream));
    finish(stream);
    made = picture_of(stream);
    CHECK_OK(ddpm_stream_destroy(stream));
    return made;
}

static void ticks_ask_for_what_is_due(ddpm_engine *engine, const ddpm_stream_desc *desc) {
    const picture expected = stepped_picture(engine, desc);
    ddpm_stream *stream = played(engine, desc, LONG, DDPM_EASING_LINEAR);
    picture found;
    /* The first step may be made at once, to be measured. */
    CHECK(steps_after(stream, 0.0) <= 1);
    CHECK(steps_after(stream, LONG / 2) == STEPS / 2);
    CHECK(steps_after(stream, LONG / 2 - 1) == STEPS - 1);
    CHECK(steps_after(stream, 1) == STEPS);
    CHECK(status_of(stream).state == DDPM_STREAM_DONE && status_of(stream).steps == STEPS);
    CHECK_RESULT(ddpm_stream_tick(stream, 1.0), DDPM_DONE);
    found = picture_of(stream);
    CHECK(memcmp(&found, &expected, sizeof found) == 0);
    CHECK_OK(ddpm_stream_destroy(stream));
}

static void easings_say_what_is_due(ddpm_engine *engine, const ddpm_stream_desc *desc) {
    /* Of 20 steps when half of the time is over: 1/8, 7/8 and a half. */
    const uint32_t due[] = {10, 2, 17, 10};
    uint32_t easing;
    for (easing = DDPM_EASING_LINEAR; easing <= DDPM_EASING_IN_OUT; easing++) {
        ddpm_stream *stream = played(engine, desc, LONG, easing);
        CHECK(steps_after(stream, LONG / 2) == due[easing]);
        CHECK_OK(ddpm_stream_destroy(stream));
    }
}

static void no_time_passes_in_a_pause(ddpm_engine *engine, const ddpm_stream_desc *desc) {
    ddpm_stream *stream = played(engine, desc, LONG, DDPM_EASING_LINEAR);
    CHECK(steps_after(stream, LONG / 4) == STEPS / 4);
    CHECK(status_of(stream).is_paused == 0);
    CHECK_OK(ddpm_stream_pause(stream));
    CHECK_OK(ddpm_stream_pause(stream));
    CHECK(status_of(stream).is_paused == 1 && status_of(stream).state == DDPM_STREAM_IDLE);
    CHECK_RESULT(ddpm_stream_tick(stream, LONG), DDPM_PAUSED);
    CHECK_RESULT(ddpm_step(stream), DDPM_PAUSED);
    CHECK_OK(ddpm_stream_resume(stream));
    CHECK(steps_after(stream, 0.0) == STEPS / 4);
    CHECK(steps_after(stream, LONG / 4) == STEPS / 2);

    /* From the start, and from the middle, in the time that is its share. */
    CHECK_OK(ddpm_stream_reset(stream, 3));
    CHECK(steps_after(stream, LONG / 4) == STEPS / 4);
    CHECK_OK(ddpm_stream_seek(stream, STEPS / 2));
    CHECK_OK(ddpm_stream_wait(stream, DDPM_WAIT_FOREVER));
    CHECK(steps_after(stream, LONG / 4) == STEPS * 3 / 4);
    CHECK_OK(ddpm_stream_destroy(stream));
}

/* No machine makes a step in a nanosecond. */
static void slow_machines_leave_steps_out(ddpm_engine *engine) {
    ddpm_stream_desc desc = DDPM_STREAM_DESC_INIT;
    ddpm_playback_desc playback = DDPM_PLAYBACK_DESC_INIT;
    ddpm_stream *stream = NULL;
    ddpm_stream_status status;
    desc.sampler = DDPM_SAMPLER_DPMPP;
    desc.steps = 500;
    CHECK_OK(ddpm_stream_create(engine, &desc, &stream));
    playback.duration = 1e-9;
    playback.fewest_steps = 10;
    CHECK_OK(ddpm_stream_play(stream, &playback));
    CHECK(steps_after(stream, 1.0) >= 10);
    status = status_of(stream);
    CHECK(status.state == DDPM_STREAM_DONE && status.step == status.steps && status.steps < 500);

    playback.fewest_steps = 500;
    CHECK_OK(ddpm_stream_destroy(stream));
    CHECK_OK(ddpm_stream_create(engine, &desc, &stream));
    CHECK_OK(ddpm_stream_play(stream, &playback));
    CHECK(steps_after(stream, 1.0) == 500);
    CHECK_OK(ddpm_stream_destroy(stream));
}

static void wrong_times_are_refused(ddpm_engine *engine, const ddpm_stream_desc *desc) {
    const double durations[] = {0.0, -1.0, 86401.0, (double)NAN, (double)INFINITY};
    const double seconds[] = {-0.5, (double)NAN, (double)INFINITY};
    ddpm_playback_desc playback = DDPM_PLAYBACK_DESC_INIT;
    ddpm_stream *stream = NULL;
    size_t i;
    CHECK_OK(ddpm_stream_create(engine, desc, &stream));
    CHECK_ERROR(ddpm_stream_tick(stream, 0.1), DDPM_ERROR_INVALID_ARGUMENT, "the stream does not play");
    for (i = 0; i < sizeof durations / sizeof durations[0]; i++) {
        playback.duration = durations[i];
        CHECK_ERROR(ddpm_stream_play(stream, &playback), DDPM_ERROR_INVALID_ARGUMENT, "desc.duration: found");
    }
    playback.duration = 1.0;
    playback.easing = 4;
    CHECK_ERROR(ddpm_stream_play(stream, &playback), DDPM_ERROR_INVALID_ARGUMENT, "desc.easing: found 4");
    playback.easing = 0;
    playback.reserved = 1;
    CHECK_ERROR(ddpm_stream_play(stream, &playback), DDPM_ERROR_INVALID_ARGUMENT, "desc.reserved: found 1");
    playback.reserved = 0;
    CHECK_OK(ddpm_stream_play(stream, &playback));
    for (i = 0; i < sizeof seconds / sizeof seconds[0]; i++) {
        CHECK_ERROR(ddpm_stream_tick(stream, seconds[i]), DDPM_ERROR_INVALID_ARGUMENT, "seconds: found");
    }
    CHECK_OK(ddpm_stream_destroy(stream));
}

/* The noise level of each step. */
static void timesteps_of(ddpm_engine *engine, const ddpm_stream_desc *desc, double *timesteps) {
    ddpm_stream *stream = NULL;
    uint32_t step;
    CHECK_OK(ddpm_stream_create(engine, desc, &stream));
    for (step = 0; step < STEPS; step++) {
        CHECK_OK(ddpm_step(stream));
        CHECK_OK(ddpm_stream_wait(stream, DDPM_WAIT_FOREVER));
        /* After the last step it is still that of the last. */
        timesteps[step] = status_of(stream).timestep;
    }
    CHECK_RESULT(ddpm_step(stream), DDPM_DONE);
    CHECK_OK(ddpm_stream_destroy(stream));
}

static void the_director_chooses_timesteps(ddpm_engine *engine, ddpm_stream_desc desc) {
    double plain[STEPS], directed[STEPS], again[STEPS];
    ddpm_stream *stream = NULL;
    uint32_t step;
    timesteps_of(engine, &desc, plain);
    desc.director = 1;
    timesteps_of(engine, &desc, directed);
    desc.seed++;
    timesteps_of(engine, &desc, again);
    CHECK(memcmp(directed, again, sizeof directed) == 0);
    CHECK(memcmp(directed, plain, sizeof directed) != 0);
    for (step = 1; step + 1 < STEPS; step++) {
        CHECK(directed[step] < directed[step - 1]);
    }
    desc.director = 2;
    CHECK_ERROR(ddpm_stream_create(engine, &desc, &stream), DDPM_ERROR_INVALID_ARGUMENT, "desc.director: found 2, expected 0 or 1");
    desc.director = 1;
    desc.sampler = DDPM_SAMPLER_HEUN;
    CHECK_ERROR(ddpm_stream_create(engine, &desc, &stream), DDPM_ERROR_INVALID_ARGUMENT, "desc.director: heun");
}

static void priorities_and_checkpoints_change_no_picture(ddpm_engine *engine, ddpm_stream_desc desc) {
    const picture expected = stepped_picture(engine, &desc);
    const uint64_t bytes[] = {0, 1, 4096, UINT64_MAX};
    picture found;
    ddpm_stream *stream = NULL;
    size_t i;
    for (desc.priority = DDPM_PRIORITY_NORMAL; desc.priority <= DDPM_PRIORITY_HIGH; desc.priority++) {
        found = stepped_picture(engine, &desc);
        CHECK(memcmp(&found, &expected, sizeof found) == 0);
    }
    CHECK_ERROR(ddpm_stream_create(engine, &desc, &stream), DDPM_ERROR_INVALID_ARGUMENT, "desc.priority: found 3");
    desc.priority = DDPM_PRIORITY_LOW;
    for (i = 0; i < sizeof bytes / sizeof bytes[0]; i++) {
        desc.checkpoint_bytes = bytes[i];
        CHECK_OK(ddpm_stream_create(engine, &desc, &stream));
        finish(stream);
        CHECK_OK(ddpm_stream_seek(stream, 3));
        CHECK_OK(ddpm_stream_wait(stream, DDPM_WAIT_FOREVER));
        finish(stream);
        found = picture_of(stream);
        CHECK(memcmp(&found, &expected, sizeof found) == 0);
        CHECK_OK(ddpm_stream_destroy(stream));
    }
}

int main(int argc, char **argv) {
    ddpm_stream_desc desc = DDPM_STREAM_DESC_INIT;
    ddpm_engine *engine;
    CHECK(argc > 1);
    engine = load_engine(argv[1], "oracle.onnx");
    desc.sampler = DDPM_SAMPLER_DDIM;
    desc.steps = STEPS;
    desc.seed = 5;
    desc.preview = DDPM_PREVIEW_SAMPLE;
    ticks_ask_for_what_is_due(engine, &desc);
    easings_say_what_is_due(engine, &desc);
    no_time_passes_in_a_pause(engine, &desc);
    slow_machines_leave_steps_out(engine);
    wrong_times_are_refused(engine, &desc);
    the_director_chooses_timesteps(engine, desc);
    priorities_and_checkpoints_change_no_picture(engine, desc);
    CHECK_OK(ddpm_engine_destroy(engine));
    return 0;
}
