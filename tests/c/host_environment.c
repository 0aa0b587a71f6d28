/* A host that uses ONNX Runtime itself, the very library that libddpm uses: an environment with a logger of
 * its own, which it releases while a step runs. Sessions and later loads of libddpm stay good, and the
 * logger is not called any more. Second argument: the library. Third: when the host makes its
 * environment, "before" or "after" libddpm does. */
#define _POSIX_C_SOURCE 200809L

#include <dlfcn.h>

#include "check.h"

/* The first members of the runtime's tables, whose places never change. */
typedef struct api_base {
    const void *const *(*get_api)(uint32_t version);
    const char *(*get_version)(void);
} api_base;

enum { API_VERSION = 22, WARNING = 2, CREATE_ENV_WITH_LOGGER = 4, RELEASE_ENV = 92 };

typedef void logger(void *user_data, int severity, const char *category, const char *id, const char *place,
                    const char *message);
typedef void *create_env_with_logger(logger *log, void *user_data, int severity, const char *id, void **env);
typedef void release_env(void *env);

/* Entry `place` of the table, as what it is: C has no cast from data to functions. */
static void entry(const void *const *api, int place, void *function) { memcpy(function, &api[place], sizeof api[place]); }

static volatile int released;

static void log_message(void *user_data, int severity, const char *category, const char *id, const char *place,
                        const char *message) {
    (void)severity, (void)category, (void)id, (void)place;
    CHECK(*(int *)user_data == 17 && message != NULL);
    CHECK(!released);
}

static void *make_environment(const char *path, int *logged, release_env **release) {
    void *library = dlopen(path, RTLD_NOW);
    const api_base *(*get_base)(void);
    create_env_with_logger *create;
    const void *const *api;
    void *symbol, *env = NULL;
    CHECK(library != NULL);
    symbol = dlsym(library, "OrtGetApiBase");
    CHECK(symbol != NULL);
    memcpy(&get_base, &symbol, sizeof symbol);
    api = get_base()->get_api(API_VERSION);
    CHECK(api != NULL);
    entry(api, CREATE_ENV_WITH_LOGGER, &create);
    entry(api, RELEASE_ENV, release);
    CHECK(create(log_message, logged, WARNING, "host", &env) == NULL && env != NULL);
    return env;
}

static void reveal(ddpm_engine *engine) {
    ddpm_stream *stream = make_stream(engine, 3, 1);
    finish(stream);
    CHECK_OK(ddpm_stream_destroy(stream));
}

int main(int argc, char **argv) {
    ddpm_engine *engine;
    ddpm_stream *stream;
    release_env *release;
    void *env = NULL;
    int *logged;
    CHECK(argc > 3);
    CHECK(setenv("DDPM_ONNXRUNTIME", argv[2], 1) == 0);
    logged = (int *)malloc(sizeof *logged);
    CHECK(logged != NULL);
    *logged = 17;
    if (strcmp(argv[3], "before") == 0) {
        env = make_environment(argv[2], logged, &release);
    }
    engine = load_engine(argv[1], "endless.onnx");
    stream = make_stream(engine, 3, 1);
    /* The noisiest step never ends; a cancel ends it. */
    CHECK_OK(ddpm_step(stream));
    if (env == NULL) {
        env = make_environment(argv[2], logged, &release);
    }
    CHECK_RESULT(ddpm_stream_wait(stream, 50), DDPM_TIMEOUT);
    release(env);
    released = 1;
    *logged = 0;
    free(logged);
    CHECK_RESULT(ddpm_stream_wait(stream, 50), DDPM_TIMEOUT);
    CHECK_OK(ddpm_stream_cancel(stream));
    CHECK_OK(ddpm_stream_destroy(stream));
    CHECK_OK(ddpm_engine_destroy(engine));

    engine = load_engine(argv[1], "oracle.onnx");
    reveal(engine);
    CHECK_OK(ddpm_engine_destroy(engine));
    /* What fails has more to say. */
    engine = start_engine(argv[1], "opset_99.onnx");
    CHECK_ERROR(ddpm_engine_wait(engine, DDPM_WAIT_FOREVER), DDPM_ERROR_MODEL, "opset_99.onnx");
    CHECK_OK(ddpm_engine_destroy(engine));
    engine = load_engine(argv[1], "lin.onnx");
    reveal(engine);
    CHECK_OK(ddpm_engine_destroy(engine));
    return 0;
}
