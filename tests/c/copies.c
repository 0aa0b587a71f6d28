/* Two copies of the library in one process, each in a file of its own, with a third library in Rust
 * beside them: they step at once, go in any order, and one is unloaded while the other steps.
 * Arguments after the models: the two files, the third library, and how often. */
#define _DEFAULT_SOURCE

#include <pthread.h>

#include "loaded.h"

enum { SIZE = 8 * 8 * 4, STEPS = 12 };

/* One copy, used by one thread. */
typedef struct user {
    const char *models;
    const char *path;
    uint64_t seed;
    int times;
    unsigned char pixels[SIZE];
} user;

/* The whole life of a copy, from dlopen to dlclose, which falls into the middle of the other's. */
static void *live(void *argument) {
    user *mine = (user *)argument;
    int i;
    for (i = 0; i < mine->times; i++) {
        const loaded library = load(mine->path);
        ddpm_engine *engine = load_with(&library, mine->models, "slow.onnx");
        ddpm_stream *stream = stream_with(&library, engine, STEPS, mine->seed);
        finish_with(&library, stream);
        LOADED_OK(&library, library.copy_frame(stream, mine->pixels, SIZE, 0, NULL));
        CHECK(library.step(NULL) == DDPM_ERROR_INVALID_ARGUMENT);
        LOADED_OK(&library, library.stream_destroy(stream));
        LOADED_OK(&library, library.engine_destroy(engine));
        CHECK(dlclose(library.handle) == 0);
    }
    return NULL;
}

static void both_live_at_once(const char *models, const char *first, const char *second, int times) {
    user users[2];
    pthread_t threads[2];
    int i;
    for (i = 0; i < 2; i++) {
        users[i].models = models;
        users[i].path = i == 0 ? first : second;
        users[i].seed = 5;
        /* Not the same, so that they drift apart. */
        users[i].times = times + i;
        memset(users[i].pixels, i, SIZE);
        CHECK(pthread_create(&threads[i], NULL, live, &users[i]) == 0);
    }
    for (i = 0; i < 2; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    CHECK(memcmp(users[0].pixels, users[1].pixels, SIZE) == 0);
}

typedef struct pair {
    const char *models;
    const char *stays;
    const char *goes;
} pair;

/* On one thread: nothing of one is the other's, and either may go first. */
static void *one_goes_while_the_other_steps(void *argument) {
    const pair *both = (const pair *)argument;
    const loaded stays = load(both->stays);
    const loaded goes = load(both->goes);
    ddpm_engine *engine = load_with(&stays, both->models, "slow.onnx");
    ddpm_engine *other = load_with(&goes, both->models, "endless.onnx");
    ddpm_stream *stream = stream_with(&stays, engine, STEPS, 5);
    ddpm_stream *stuck = stream_with(&goes, other, STEPS, 5);
    unsigned char pixels[SIZE];
    CHECK(stays.step != goes.step);
    CHECK(stays.step(NULL) == DDPM_ERROR_INVALID_ARGUMENT);
    CHECK(strstr(stays.last_error(), "ddpm_step") != NULL && strcmp(goes.last_error(), "") == 0);
    LOADED_OK(&goes, goes.step(stuck));
    LOADED_OK(&stays, stays.step(stream));
    LOADED_OK(&goes, goes.engine_destroy(other));
    LOADED_OK(&goes, goes.stream_destroy(stuck));
    CHECK(dlclose(goes.handle) == 0);
    finish_with(&stays, stream);
    LOADED_OK(&stays, stays.copy_frame(stream, pixels, SIZE, 0, NULL));
    CHECK(strstr(stays.last_error(), "ddpm_step") != NULL);
    LOADED_OK(&stays, stays.stream_destroy(stream));
    LOADED_OK(&stays, stays.engine_destroy(engine));
    CHECK(dlclose(stays.handle) == 0);
    return NULL;
}

typedef struct neighbour {
    uint64_t (*sum)(uint32_t);
    int times;
} neighbour;

static void *keep_summing(void *argument) {
    const neighbour *mine = (const neighbour *)argument;
    int i;
    for (i = 0; i < mine->times; i++) {
        CHECK(mine->sum(20) == 190);
    }
    return NULL;
}

int main(int argc, char **argv) {
    neighbour third;
    pthread_t thread, last;
    void *handle;
    int i, times;
    CHECK(argc > 5);
    times = atoi(argv[5]);
    /* Global, so that whatever it exports is there for the others to be mixed up with. */
    handle = open_library(argv[4], RTLD_GLOBAL);
    *(void **)&third.sum = find(handle, "neighbour_sum");
    third.times = 20 * times;
    CHECK(pthread_create(&thread, NULL, keep_summing, &third) == 0);
    both_live_at_once(argv[1], argv[2], argv[3], times);
    for (i = 0; i < 2; i++) {
        pair both;
        both.models = argv[1];
        both.stays = argv[2 + i];
        both.goes = argv[3 - i];
        /* A thread of its own, with whose end a copy that it called can go. */
        CHECK(pthread_create(&last, NULL, one_goes_while_the_other_steps, &both) == 0);
        CHECK(pthread_join(last, NULL) == 0);
    }
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(dlclose(handle) == 0);
    both_live_at_once(argv[1], argv[2], argv[3], 1);
    return 0;
}
