/* What the test programs share: checks that name their line and what was found, and a few handles.
 * A program exits with 0 when all holds. Its first argument is the folder of the test models. */
#ifndef TESTS_CHECK_H
#define TESTS_CHECK_H

#include <ddpm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition) check_that((condition) != 0, #condition, __FILE__, __LINE__)
#define CHECK_RESULT(call, expected) check_result((call), (expected), #call, __FILE__, __LINE__)
#define CHECK_OK(call) CHECK_RESULT(call, DDPM_OK)
/* The call fails with this code, and the message contains the text. */
#define CHECK_ERROR(call, expected, text) check_error((call), (expected), (text), #call, __FILE__, __LINE__)

static inline void check_that(int holds, const char *what, const char *file, int line) {
    if (!holds) {
        fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, what);
        exit(1);
    }
}

static inline void check_result(ddpm_result found, ddpm_result expected, const char *what, const char *file, int line) {
    if (found != expected) {
        fprintf(stderr, "%s:%d: %s\n  found %s, expected %s\n  last error: %s\n", file, line, what, ddpm_result_name(found),
                ddpm_result_name(expected), ddpm_last_error());
        exit(1);
    }
}

static inline void check_error(ddpm_result found, ddpm_result expected, const char *text, const char *what, const char *file,
                               int line) {
    check_result(found, expected, what, file, line);
    if (strstr(ddpm_last_error(), text) == NULL) {
        fprintf(stderr, "%s:%d: %s\n  message: %s\n  expected it to contain: %s\n", file, line, what, ddpm_last_error(), text);
        exit(1);
    }
}

/* "folder/name", in one of a few static buffers. */
static inline const char *path_in(const char *folder, const char *name) {
    static char buffers[4][4096];
    static unsigned next;
    char *buffer = buffers[next++ % 4];
    CHECK(strlen(folder) + strlen(name) + 2 < sizeof buffers[0]);
    sprintf(buffer, "%s/%s", folder, name);
    return buffer;
}

/* An engine on a model of the folder, still loading. */
static inline ddpm_engine *start_engine(const char *models, const char *name) {
    ddpm_engine_desc desc = DDPM_ENGINE_DESC_INIT;
    ddpm_engine *engine = NULL;
    desc.model_path = path_in(models, name);
    desc.provider = DDPM_PROVIDER_CPU;
    CHECK_OK(ddpm_engine_create(&desc, &engine));
    CHECK(engine != NULL);
    return engine;
}

/* The same, loaded. */
static inline ddpm_engine *load_engine(const char *models, const char *name) {
    ddpm_engine *engine = start_engine(models, name);
    CHECK_OK(ddpm_engine_wait(engine, DDPM_WAIT_FOREVER));
    return engine;
}

static inline ddpm_stream *make_stream(ddpm_engine *engine, uint32_t steps, uint64_t seed) {
    ddpm_stream_desc desc = DDPM_STREAM_DESC_INIT;
    ddpm_stream *stream = NULL;
    desc.steps = steps;
    desc.seed = seed;
    CHECK_OK(ddpm_stream_create(engine, &desc, &stream));
    CHECK(stream != NULL);
    return stream;
}

/* Steps until the picture is finished. */
static inline void finish(ddpm_stream *stream) {
    ddpm_result stepped;
    while ((stepped = ddpm_step(stream)) != DDPM_DONE) {
        CHECK(stepped == DDPM_OK || stepped == DDPM_BUSY);
        CHECK_OK(ddpm_stream_wait(stream, DDPM_WAIT_FOREVER));
    }
}

#endif
