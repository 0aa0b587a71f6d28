/* Any function from any thread: two threads on one stream, others on streams of their own, one that
 * waits and one that looks. */
#define _POSIX_C_SOURCE 200809L

#include <pthread.h>

#include "check.h"

enum { SIZE = 8 * 8 * 4, STEPS = 40 };

typedef struct shared {
    ddpm_engine *engine;
    ddpm_stream *stream;
    uint64_t seed;
    unsigned char pixels[SIZE];
} shared;

static void *step_to_the_end(void *argument) {
    shared *mine = (shared *)argument;
    ddpm_result stepped;
    while ((stepped = ddpm_step(mine->stream)) != DDPM_DONE) {
        ddpm_stream_status status = DDPM_STREAM_STATUS_INIT;
        ddpm_frame_view view = DDPM_FRAME_VIEW_INIT;
        CHECK(stepped == DDPM_OK || stepped == DDPM_BUSY);
        CHECK_OK(ddpm_stream_get_status(mine->stream, &status));
        CHECK(status.step <= STEPS && status.steps == STEPS);
        CHECK(ddpm_stream_copy_frame(mine->stream, mine->pixels, SIZE, 0, NULL) >= 0);
        if (ddpm_stream_acquire_frame(mine->stream, &view) == DDPM_OK) {
            memcpy(mine->pixels, view.pixels, SIZE);
            CHECK_OK(ddpm_stream_release_frame(mine->stream));
        }
        CHECK(ddpm_stream_wait(mine->stream, 1) >= 0);
    }
    return NULL;
}

static void *reveal_alone(void *argument) {
    shared *mine = (shared *)argument;
    mine->stream = make_stream(mine->engine, STEPS, mine->seed);
    finish(mine->stream);
    CHECK_OK(ddpm_stream_copy_frame(mine->stream, mine->pixels, SIZE, 0, NULL));
    CHECK_OK(ddpm_stream_destroy(mine->stream));
    return NULL;
}

static void *fail_alone(void *argument) {
    (void)argument;
    CHECK(strcmp(ddpm_last_error(), "") == 0);
    CHECK_ERROR(ddpm_stream_cancel(NULL), DDPM_ERROR_INVALID_ARGUMENT, "ddpm_stream_cancel");
    return NULL;
}

int main(int argc, char **argv) {
    ddpm_engine *engine;
    ddpm_stream *stream;
    shared both[2], alone[3];
    pthread_t threads[6];
    int i;
    CHECK(argc > 1);
    engine = load_engine(argv[1], "lin.onnx");
    stream = make_stream(engine, STEPS, 9);
    CHECK_ERROR(ddpm_step(NULL), DDPM_ERROR_INVALID_ARGUMENT, "ddpm_step");
    for (i = 0; i < 2; i++) {
        both[i].stream = stream;
        CHECK(pthread_create(&threads[i], NULL, step_to_the_end, &both[i]) == 0);
    }
    for (i = 0; i < 3; i++) {
        alone[i].engine = engine;
        alone[i].seed = i == 2 ? 100 : 9;
        CHECK(pthread_create(&threads[2 + i], NULL, reveal_alone, &alone[i]) == 0);
    }
    CHECK(pthread_create(&threads[5], NULL, fail_alone, NULL) == 0);
    for (i = 0; i < 6; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    /* The error of another thread is not this thread's. */
    CHECK(strstr(ddpm_last_error(), "ddpm_step") != NULL);
    /* A seed gives its picture whatever else runs. */
    CHECK(memcmp(alone[0].pixels, alone[1].pixels, SIZE) == 0);
    CHECK(memcmp(alone[0].pixels, alone[2].pixels, SIZE) != 0);
    CHECK_OK(ddpm_stream_destroy(stream));
    CHECK_OK(ddpm_engine_destroy(engine));
    return 0;
}
