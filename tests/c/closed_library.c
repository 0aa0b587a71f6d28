/* A host that uses ONNX Runtime itself, the very file that libddpm used, after libddpm was unloaded: the
 * runtime must have kept nothing of it, a logger for one, that leads into nothing. Arguments after the models:
 * the library, the runtime. */
#define _DEFAULT_SOURCE

#include <pthread.h>

#include "loaded.h"

/* The first members of the runtime's tables, whose places never change. */
typedef struct api_base {
    const void *const *(*get_api)(uint32_t version);
    const char *(*get_version)(void);
} api_base;

enum { API_VERSION = 22, INFO = 1, WARNING = 2, CREATE_ENV = 3, CREATE_SESSION = 7, CREATE_SESSION_OPTIONS = 10, SET_SEVERITY = 22 };
enum { RELEASE_ENV = 92, RELEASE_SESSION = 95, RELEASE_SESSION_OPTIONS = 100 };

typedef void *create_env(int severity, const char *id, void **env);
typedef void *create_session(const void *env, const char *path, const void *options, void **session);
typedef void *create_session_options(void **options);
typedef void *set_severity(void *options, int severity);
typedef void release(void *made);

/* Entry `place` of the table, as what it is: C has no cast from data to functions. */
static void entry(const void *const *api, int place, void *function) { memcpy(function, &api[place], sizeof api[place]); }

static const char *models, *library_path;

static void *use_and_close(void *argument) {
    const loaded library = load(library_path);
    ddpm_engine *engine = load_with(&library, models, "lin.onnx");
    ddpm_stream *stream = stream_with(&library, engine, 2, 1);
    finish_with(&library, stream);
    LOADED_OK(&library, library.stream_destroy(stream));
    LOADED_OK(&library, library.engine_destroy(engine));
    CHECK(dlclose(library.handle) == 0);
    return argument;
}

int main(int argc, char **argv) {
    pthread_t thread;
    const api_base *(*get_base)(void);
    create_env *make_env;
    create_session *make_session;
    create_session_options *make_options;
    set_severity *set;
    release *release_env, *release_session, *release_options;
    const void *const *api;
    void *symbol, *handle, *env = NULL, *options = NULL, *session = NULL;
    CHECK(argc > 3);
    models = argv[1];
    library_path = argv[2];
    CHECK(setenv("DDPM_ONNXRUNTIME", argv[3], 1) == 0);
    CHECK(pthread_create(&thread, NULL, use_and_close, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    /* The thread is gone, which may have kept the library in memory; the loader looks for what it can let
     * go of when something is closed. */
    CHECK(dlclose(open_library("libm.so.6", RTLD_LOCAL)) == 0);
    handle = open_library(argv[3], RTLD_LOCAL);

    symbol = find(handle, "OrtGetApiBase");
    memcpy(&get_base, &symbol, sizeof symbol);
    api = get_base()->get_api(API_VERSION);
    CHECK(api != NULL);
    entry(api, CREATE_ENV, &make_env);
    entry(api, CREATE_SESSION, &make_session);
    entry(api, CREATE_SESSION_OPTIONS, &make_options);
    entry(api, SET_SEVERITY, &set);
    entry(api, RELEASE_ENV, &release_env);
    entry(api, RELEASE_SESSION, &release_session);
    entry(api, RELEASE_SESSION_OPTIONS, &release_options);
    CHECK(make_env(WARNING, "host", &env) == NULL && env != NULL);
    CHECK(make_options(&options) == NULL && options != NULL);
    CHECK(set(options, INFO) == NULL);
    /* A session says a lot, to whatever logger the process began with. */
    CHECK(make_session(env, path_in(models, "lin.onnx"), options, &session) == NULL && session != NULL);
    release_session(session);
    release_options(options);
    release_env(env);
    return 0;
}
