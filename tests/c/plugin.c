/* A host that loads the library as a plug-in: RTLD_LOCAL, from another working directory, and
 * unloads it, again and again, each time on a thread that ends, and with a second thread that used it
 * and ends before or after that. Second argument: the library, as an absolute path. Third: how often. */
#define _DEFAULT_SOURCE

#include <pthread.h>
#include <unistd.h>

#include "loaded.h"

#ifdef __GLIBC__

#include "resident.h"

/* Whether the library is still in memory. The loader looks for what it can let go of when something
 * is closed. */
static int is_loaded(const char *library) {
    void *handle = dlopen("libm.so.6", RTLD_NOW | RTLD_LOCAL);
    CHECK(handle != NULL && dlclose(handle) == 0);
    handle = dlopen(library, RTLD_NOW | RTLD_NOLOAD);
    if (handle != NULL) {
        CHECK(dlclose(handle) == 0);
    }
    return handle != NULL;
}

#else

/* Other systems may keep it, and other allocators have no such switches. */
static int is_loaded(const char *library) { return library == NULL; }
static long held_kib(void) { return 0; }
static void keep_no_freed_memory(void) {}

#endif

typedef struct job {
    const char *models;
    const char *path;
    loaded library;
    ddpm_stream *stream;
    /* When the second thread ends: before the library is unloaded, after that, or after the thread that
     * unloaded it. */
    enum { BEFORE, AFTER, LAST } second_ends;
    pthread_t second;
    pthread_mutex_t unloading;
    pthread_mutex_t lock;
    pthread_cond_t used;
    int is_used;
} job;

static void *use_too(void *argument) {
    job *shared = (job *)argument;
    CHECK(shared->library.step(shared->stream) >= 0);
    /* An error leaves text of this thread's own behind, which its end frees. */
    CHECK(shared->library.step(NULL) == DDPM_ERROR_INVALID_ARGUMENT && shared->library.last_error()[0] != '\0');
    CHECK(pthread_mutex_lock(&shared->lock) == 0);
    shared->is_used = 1;
    CHECK(pthread_cond_signal(&shared->used) == 0);
    CHECK(pthread_mutex_unlock(&shared->lock) == 0);
    /* Held by those who want this thread to live on. */
    CHECK(pthread_mutex_lock(&shared->unloading) == 0);
    CHECK(pthread_mutex_unlock(&shared->unloading) == 0);
    return NULL;
}

static void *use(void *argument) {
    job *shared = (job *)argument;
    unsigned char pixels[8 * 8 * 4];
    ddpm_engine *engine;
    const loaded *library = &shared->library;
    shared->library = load(shared->path);
    engine = load_with(library, shared->models, "lin.onnx");
    shared->stream = stream_with(library, engine, 2, 1);

    if (shared->second_ends == AFTER) {
        CHECK(pthread_mutex_lock(&shared->unloading) == 0);
    }
    shared->is_used = 0;
    CHECK(pthread_create(&shared->second, NULL, use_too, shared) == 0);
    CHECK(pthread_mutex_lock(&shared->lock) == 0);
    while (!shared->is_used) {
        CHECK(pthread_cond_wait(&shared->used, &shared->lock) == 0);
    }
    CHECK(pthread_mutex_unlock(&shared->lock) == 0);

    finish_with(library, shared->stream);
    LOADED_OK(library, library->copy_frame(shared->stream, pixels, sizeof pixels, 0, NULL));
    CHECK(library->step(NULL) == DDPM_ERROR_INVALID_ARGUMENT && library->last_error()[0] != '\0');
    LOADED_OK(library, library->stream_destroy(shared->stream));
    LOADED_OK(library, library->engine_destroy(engine));
    if (shared->second_ends == BEFORE) {
        CHECK(pthread_join(shared->second, NULL) == 0);
    }
    CHECK(dlclose(library->handle) == 0);
    if (shared->second_ends == AFTER) {
        CHECK(pthread_mutex_unlock(&shared->unloading) == 0);
        CHECK(pthread_join(shared->second, NULL) == 0);
    }
    return NULL;
}

static void load_use_and_unload(job *shared) {
    pthread_t thread;
    if (shared->second_ends == LAST) {
        CHECK(pthread_mutex_lock(&shared->unloading) == 0);
    }
    CHECK(pthread_create(&thread, NULL, use, shared) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    if (shared->second_ends == LAST) {
        CHECK(pthread_mutex_unlock(&shared->unloading) == 0);
        CHECK(pthread_join(shared->second, NULL) == 0);
    }
    /* All threads that used it have ended, so nothing keeps it. */
    CHECK(!is_loaded(shared->path));
}

int main(int argc, char **argv) {
    job shared;
    long warm = 0;
    int i, times;
    CHECK(argc > 3);
    shared.models = argv[1];
    shared.path = argv[2];
    times = atoi(argv[3]);
    keep_no_freed_memory();
    CHECK(pthread_mutex_init(&shared.unloading, NULL) == 0);
    CHECK(pthread_mutex_init(&shared.lock, NULL) == 0);
    CHECK(pthread_cond_init(&shared.used, NULL) == 0);
    CHECK(chdir("/") == 0);
    for (i = 0; i < times; i++) {
        shared.second_ends = i % 3 == 0 ? BEFORE : i % 3 == 1 ? AFTER : LAST;
        load_use_and_unload(&shared);
        if (i == times / 5) {
            warm = held_kib();
        }
    }
    /* ONNX Runtime's environment stays, and so do the library's own statics on the heap: less than 2 KiB
     * a time. A model that stayed would be some 100. */
    if (held_kib() - warm > 1024) {
        fprintf(stderr, "%ld KiB after %d times, %ld KiB after %d\n", warm, times / 5, held_kib(), times);
        return 1;
    }
    return 0;
}
