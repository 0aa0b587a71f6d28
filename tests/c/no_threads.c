/* A system that gives no more threads is an error, soon, and no thread is left behind. This program's own
 * pthread_create stands in for the C library's, for libddpm and ONNX Runtime too, and refuses one call. */
#define _GNU_SOURCE

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#include "timing.h"

enum { THREADS = 6 };

/* Calls until the one that is refused; counted from several threads. */
static int left;

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument) {
    int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (__atomic_sub_fetch(&left, 1, __ATOMIC_SEQ_CST) == -1) {
        return EAGAIN;
    }
    *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
    return real(thread, attributes, start, argument);
}

/* Threads whose name is ours. */
static int own_threads(void) {
    DIR *tasks = opendir("/proc/self/task");
    struct dirent *task;
    int count = 0;
    CHECK(tasks != NULL);
    while ((task = readdir(tasks)) != NULL) {
        char path[300], name[64] = "";
        FILE *file;
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", task->d_name);
        file = fopen(path, "r");
        if (file != NULL) {
            count += fgets(name, sizeof name, file) != NULL && strncmp(name, "ddpm-m", 6) == 0;
            fclose(file);
        }
    }
    closedir(tasks);
    return count;
}

/* The result of a load where the call number `refused`, from 0, gets no thread. */
static ddpm_result load_without(const char *models, int refused) {
    ddpm_engine_desc desc = DDPM_ENGINE_DESC_INIT;
    ddpm_engine *engine = NULL;
    ddpm_result result;
    desc.model_path = path_in(models, "lin.onnx");
    desc.provider = DDPM_PROVIDER_CPU;
    desc.threads = THREADS;
    __atomic_store_n(&left, refused, __ATOMIC_SEQ_CST);
    result = ddpm_engine_create(&desc, &engine);
    if (result == DDPM_OK) {
        result = ddpm_engine_wait(engine, 60000);
        CHECK(result == DDPM_OK || strstr(ddpm_last_error(), "no thread for the model") != NULL);
        __atomic_store_n(&left, 1000, __ATOMIC_SEQ_CST);
        CHECK_OK(ddpm_engine_destroy(engine));
    } else {
        CHECK(strstr(ddpm_last_error(), "no thread for the worker") != NULL && engine == NULL);
    }
    __atomic_store_n(&left, 1000, __ATOMIC_SEQ_CST);
    return result;
}

int main(int argc, char **argv) {
    int refused, tries;
    CHECK(argc > 1);
    /* Once as it is, since ONNX Runtime starts a thread of its own with the first session. */
    CHECK_OK(load_without(argv[1], 1000));
    /* The worker, and its helpers. */
    for (refused = 0; refused < THREADS; refused++) {
        CHECK(load_without(argv[1], refused) == DDPM_ERROR_INTERNAL);
    }
    CHECK_OK(load_without(argv[1], THREADS));
    /* Those that were waited for may show a moment longer. */
    for (tries = 0; tries < 5000 && own_threads() > 0; tries++) {
        pause_us(1000);
    }
    CHECK(own_threads() == 0);
    return 0;
}
