/* The library as a host sees it that loads it while it runs. */
#ifndef TESTS_LOADED_H
#define TESTS_LOADED_H

#include <dlfcn.h>

#include "check.h"

typedef struct loaded {
    void *handle;
    uint32_t (*abi_version)(void);
    const char *(*last_error)(void);
    ddpm_result (*engine_create)(const ddpm_engine_desc *, ddpm_engine **);
    ddpm_result (*engine_wait)(ddpm_engine *, uint32_t);
    ddpm_result (*engine_destroy)(ddpm_engine *);
    ddpm_result (*stream_create)(ddpm_engine *, const ddpm_stream_desc *, ddpm_stream **);
    ddpm_result (*step)(ddpm_stream *);
    ddpm_result (*stream_wait)(ddpm_stream *, uint32_t);
    ddpm_result (*copy_frame)(ddpm_stream *, void *, uint64_t, uint64_t, ddpm_frame_info *);
    ddpm_result (*stream_destroy)(ddpm_stream *);
} loaded;

/* The library's own message where a call fails. */
#define LOADED_OK(library, call) loaded_ok(library, call, #call, __FILE__, __LINE__)

static inline void loaded_ok(const loaded *library, ddpm_result found, const char *what, const char *file, int line) {
    if (found != DDPM_OK) {
        fprintf(stderr, "%s:%d: %s\n  found %ld\n  last error: %s\n", file, line, what, (long)found, library->last_error());
        exit(1);
    }
}

static inline void *open_library(const char *path, int flags) {
    void *handle = dlopen(path, RTLD_NOW | flags);
    if (handle == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    return handle;
}

static inline void *find(void *handle, const char *name) {
    void *symbol = dlsym(handle, name);
    if (symbol == NULL) {
        fprintf(stderr, "%s: %s\n", name, dlerror());
        exit(1);
    }
    return symbol;
}

static inline loaded load(const char *path) {
    loaded library;
    library.handle = open_library(path, RTLD_LOCAL);
    /* ISO C has no conversion from the object pointer of dlsym to a function pointer; POSIX has, in
     * this form. */
    *(void **)&library.abi_version = find(library.handle, "ddpm_abi_version");
    *(void **)&library.last_error = find(library.handle, "ddpm_last_error");
    *(void **)&library.engine_create = find(library.handle, "ddpm_engine_create");
    *(void **)&library.engine_wait = find(library.handle, "ddpm_engine_wait");
    *(void **)&library.engine_destroy = find(library.handle, "ddpm_engine_destroy");
    *(void **)&library.stream_create = find(library.handle, "ddpm_stream_create");
    *(void **)&library.step = find(library.handle, "ddpm_step");
    *(void **)&library.stream_wait = find(library.handle, "ddpm_stream_wait");
    *(void **)&library.copy_frame = find(library.handle, "ddpm_stream_copy_frame");
    *(void **)&library.stream_destroy = find(library.handle, "ddpm_stream_destroy");
    CHECK(library.abi_version() == DDPM_ABI_VERSION);
    return library;
}

static inline ddpm_engine *load_with(const loaded *library, const char *models, const char *name) {
    ddpm_engine_desc desc = DDPM_ENGINE_DESC_INIT;
    ddpm_engine *engine = NULL;
    desc.model_path = path_in(models, name);
    desc.provider = DDPM_PROVIDER_CPU;
    LOADED_OK(library, library->engine_create(&desc, &engine));
    LOADED_OK(library, library->engine_wait(engine, DDPM_WAIT_FOREVER));
    return engine;
}

static inline ddpm_stream *stream_with(const loaded *library, ddpm_engine *engine, uint32_t steps, uint64_t seed) {
    ddpm_stream_desc desc = DDPM_STREAM_DESC_INIT;
    ddpm_stream *stream = NULL;
    desc.steps = steps;
    desc.seed = seed;
    LOADED_OK(library, library->stream_create(engine, &desc, &stream));
    return stream;
}

static inline void finish_with(const loaded *library, ddpm_stream *stream) {
    ddpm_result stepped;
    while ((stepped = library->step(stream)) != DDPM_DONE) {
        CHECK(stepped == DDPM_OK || stepped == DDPM_BUSY);
        LOADED_OK(library, library->stream_wait(stream, DDPM_WAIT_FOREVER));
    }
}

#endif
