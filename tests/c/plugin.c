/* A host that loads the library as a plug-in: RTLD_LOCAL, from another working directory, and
 * unloads it, again and again, each time on a thread that ends. Second argument: the library, as an
 * absolute path. Third: how often. */
#define _POSIX_C_SOURCE 200809L

#include <dlfcn.h>
#include <pthread.h>
#include <unistd.h>

#include "check.h"

/* ISO C has no conversion from the object pointer of dlsym to a function pointer; POSIX has, as
 * `*(void **)&function = dlsym(...)`. */

static void *find(void *library, const char *name) {
    void *symbol = dlsym(library, name);
    if (symbol == NULL) {
        fprintf(stderr, "%s: %s\n", name, dlerror());
        exit(1);
    }
    return symbol;
}

typedef struct job {
    const char *model;
    const char *library;
} job;

static void *use(void *argument) {
    const job *job_ = (const job *)argument;
    ddpm_engine_desc engine_desc = DDPM_ENGINE_DESC_INIT;
    ddpm_stream_desc stream_desc = DDPM_STREAM_DESC_INIT;
    ddpm_engine *engine = NULL;
    ddpm_stream *stream = NULL;
    unsigned char pixels[8 * 8 * 4];
    uint32_t (*ddpm_abi_version_)(void);
    ddpm_result (*engine_create)(const ddpm_engine_desc *, ddpm_engine **);
    ddpm_result (*engine_wait)(ddpm_engine *, uint32_t);
    ddpm_result (*engine_destroy)(ddpm_engine *);
    ddpm_result (*stream_create)(ddpm_engine *, const ddpm_stream_desc *, ddpm_stream **);
    ddpm_result (*step)(ddpm_stream *);
    ddpm_result (*stream_wait)(ddpm_stream *, uint32_t);
    ddpm_result (*copy_frame)(ddpm_stream *, void *, uint64_t, uint64_t, ddpm_frame_info *);
    ddpm_result (*stream_destroy)(ddpm_stream *);
    const char *(*last_error)(void);
    void *library = dlopen(job_->library, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    *(void **)&ddpm_abi_version_ = find(library, "ddpm_abi_version");
    *(void **)&engine_create = find(library, "ddpm_engine_create");
    *(void **)&engine_wait = find(library, "ddpm_engine_wait");
    *(void **)&engine_destroy = find(library, "ddpm_engine_destroy");
    *(void **)&stream_create = find(library, "ddpm_stream_create");
    *(void **)&step = find(library, "ddpm_step");
    *(void **)&stream_wait = find(library, "ddpm_stream_wait");
    *(void **)&copy_frame = find(library, "ddpm_stream_copy_frame");
    *(void **)&stream_destroy = find(library, "ddpm_stream_destroy");
    *(void **)&last_error = find(library, "ddpm_last_error");

    CHECK(ddpm_abi_version_() == DDPM_ABI_VERSION);
    engine_desc.model_path = job_->model;
    stream_desc.steps = 2;
    CHECK(engine_create(&engine_desc, &engine) == DDPM_OK);
    if (engine_wait(engine, DDPM_WAIT_FOREVER) != DDPM_OK) {
        fprintf(stderr, "%s\n", last_error());
        exit(1);
    }
    CHECK(stream_create(engine, &stream_desc, &stream) == DDPM_OK);
    while (step(stream) != DDPM_DONE) {
        CHECK(stream_wait(stream, DDPM_WAIT_FOREVER) == DDPM_OK);
    }
    CHECK(copy_frame(stream, pixels, sizeof pixels, 0, NULL) == DDPM_OK);
    /* An error leaves thread-local text behind, which ends with the thread. */
    CHECK(step(NULL) == DDPM_ERROR_INVALID_ARGUMENT && last_error()[0] != '\0');
    CHECK(stream_destroy(stream) == DDPM_OK);
    CHECK(engine_destroy(engine) == DDPM_OK);
    CHECK(dlclose(library) == 0);
    return NULL;
}

int main(int argc, char **argv) {
    job job_;
    int i, times;
    CHECK(argc > 3);
    job_.model = path_in(argv[1], "lin.onnx");
    job_.library = argv[2];
    times = atoi(argv[3]);
    CHECK(chdir("/") == 0);
    for (i = 0; i < times; i++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, use, &job_) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    }
    return 0;
}
