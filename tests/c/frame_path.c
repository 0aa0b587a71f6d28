/* The frame path allocates nothing on the host's thread. Linux: this program's own malloc stands in
 * for the C library's, for libddpm too, and counts what the main thread asks for. */
#define _POSIX_C_SOURCE 200809L

#include <pthread.h>
#include <time.h>

#include "check.h"

/* volatile: the compiler knows malloc, and takes for granted that it touches neither. */
static __thread volatile int counting;
static __thread volatile unsigned long allocations;

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *block, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
void *malloc(size_t size);
void *calloc(size_t count, size_t size);
void *realloc(void *block, size_t size);

static void count(void) { allocations += counting != 0; }

void *malloc(size_t size) {
    count();
    return __libc_malloc(size);
}

void *calloc(size_t number, size_t size) {
    count();
    return __libc_calloc(number, size);
}

void *realloc(void *block, size_t size) {
    count();
    return __libc_realloc(block, size);
}

int posix_memalign(void **block, size_t alignment, size_t size) {
    count();
    *block = __libc_memalign(alignment, size);
    return *block == NULL ? 12 : 0;
}

/* Time for the worker to have gone to sleep, since waking it is another path than finding it awake. */
static void let_worker_sleep(void) {
    const struct timespec pause = {0, 50000000};
    nanosleep(&pause, NULL);
}

/* A thread that made no stream: its first step may set the thread up, once. */
/* Frames of floats, copied and acquired in turn. */
static void floats_allocate_nothing(ddpm_stream *stream, float *values, uint64_t size) {
    int taken = 0;
    while (taken < 4) {
        ddpm_frame_view view = DDPM_FRAME_VIEW_INIT;
        CHECK(ddpm_step(stream) == DDPM_OK);
        CHECK(ddpm_stream_wait(stream, DDPM_WAIT_FOREVER) == DDPM_OK);
        counting = 1;
        if (taken % 2 == 0) {
            CHECK(ddpm_stream_acquire_frame(stream, &view) == DDPM_OK);
            CHECK(ddpm_stream_acquire_frame(stream, &view) == DDPM_BUSY);
            CHECK(ddpm_stream_copy_frame(stream, values, size, 0, NULL) == DDPM_BUSY);
            CHECK(ddpm_stream_release_frame(stream) == DDPM_OK);
        } else {
            CHECK(ddpm_stream_copy_frame(stream, values, size, 0, NULL) == DDPM_OK);
        }
        CHECK(ddpm_stream_acquire_frame(stream, &view) == DDPM_NO_NEW_FRAME);
        counting = 0;
        taken++;
    }
    CHECK(allocations == 0);
}

static void *step_from_elsewhere(void *argument) {
    ddpm_stream *stream = (ddpm_stream *)argument;
    int i;
    for (i = 0; i < 3; i++) {
        let_worker_sleep();
        counting = i > 0;
        CHECK(ddpm_step(stream) == DDPM_OK);
        CHECK(ddpm_stream_wait(stream, DDPM_WAIT_FOREVER) == DDPM_OK);
        counting = 0;
    }
    CHECK(allocations == 0);
    return NULL;
}

int main(int argc, char **argv) {
    pthread_t elsewhere;
    unsigned char pixels[8 * 8 * 4] = {0};
    float values[8 * 8 * 4] = {0};
    ddpm_stream_desc still_desc = DDPM_STREAM_DESC_INIT;
    ddpm_engine *engine;
    ddpm_stream *stream, *still = NULL, *floats = NULL;
    ddpm_stream_desc float_desc = DDPM_STREAM_DESC_INIT;
    ddpm_result stepped = DDPM_OK;
    void *volatile probe;
    int frames = 0;
    CHECK(argc > 1);
    counting = 1;
    probe = malloc(16);
    counting = 0;
    CHECK(probe != NULL && allocations == 1);
    free(probe);

    engine = load_engine(argv[1], "slow.onnx");
    stream = make_stream(engine, 20, 1);
    /* An image and no step to make. */
    still_desc.image = pixels;
    still_desc.image_size = sizeof pixels;
    CHECK_OK(ddpm_stream_create(engine, &still_desc, &still));
    let_worker_sleep();
    allocations = 0;
    counting = 1;
    while (stepped != DDPM_DONE) {
        ddpm_stream_status status = DDPM_STREAM_STATUS_INIT;
        ddpm_engine_status progress = DDPM_ENGINE_STATUS_INIT;
        stepped = ddpm_step(stream);
        CHECK(stepped >= 0);
        CHECK(ddpm_stream_get_status(stream, &status) == DDPM_OK);
        frames += ddpm_stream_copy_frame(stream, pixels, sizeof pixels, 0, NULL) == DDPM_OK;
        CHECK(ddpm_engine_wait(engine, 0) == DDPM_OK);
        CHECK(ddpm_engine_get_status(engine, &progress) == DDPM_OK);
        CHECK(ddpm_stream_wait(stream, 1) >= 0);
    }
    CHECK(ddpm_stream_reset(stream, 2) == DDPM_OK);
    CHECK(ddpm_step(stream) == DDPM_OK);
    CHECK(ddpm_stream_cancel(stream) == DDPM_OK);
    CHECK(ddpm_stream_reset(still, 2) == DDPM_OK && ddpm_step(still) == DDPM_DONE);
    CHECK(ddpm_stream_copy_frame(still, pixels, sizeof pixels, 0, NULL) == DDPM_OK);
    CHECK(ddpm_engine_add_noise(engine, values, values, 8 * 8 * 3, 500, values) == DDPM_OK);
    counting = 0;
    CHECK(frames > 1);
    if (allocations != 0) {
        fprintf(stderr, "%lu allocations on the frame path, expected none\n", allocations);
        return 1;
    }
    float_desc.frame_format = DDPM_FRAME_RGBA32F;
    CHECK_OK(ddpm_stream_create(engine, &float_desc, &floats));
    floats_allocate_nothing(floats, values, sizeof values);
    CHECK_OK(ddpm_stream_destroy(floats));
    CHECK_OK(ddpm_stream_reset(stream, 3));
    CHECK(pthread_create(&elsewhere, NULL, step_from_elsewhere, stream) == 0);
    CHECK(pthread_join(elsewhere, NULL) == 0);
    CHECK_OK(ddpm_stream_destroy(stream));
    CHECK_OK(ddpm_stream_destroy(still));
    CHECK_OK(ddpm_engine_destroy(engine));
    return 0;
}
