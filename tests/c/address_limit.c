/* A process that may not have more memory (`ulimit -v`) gets an error and lives on, however much is left.
 * Arguments after the models: the pictures' width and height, threads; and of the MB that are left, the
 * least, the most, and from one to the next. */
#define _DEFAULT_SOURCE

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

/* Bytes of addresses that the process has taken. */
static rlim_t taken(void) {
    unsigned long pages = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    CHECK(statm != NULL && fscanf(statm, "%lu", &pages) == 1);
    CHECK(fclose(statm) == 0);
    return (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

static void leave(rlim_t bytes) {
    struct rlimit limit;
    limit.rlim_cur = limit.rlim_max = taken() + bytes;
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
}

/* A model of this picture size, and up to eight streams of it. Errors are as good as pictures. */
static int use_the_library(const char *models, uint32_t size, uint32_t threads) {
    ddpm_engine_desc desc = DDPM_ENGINE_DESC_INIT;
    ddpm_stream_desc stream_desc = DDPM_STREAM_DESC_INIT;
    ddpm_engine *engine = NULL;
    ddpm_stream *streams[8] = {NULL};
    ddpm_result result;
    int i, step, failed = 0;
    desc.model_path = path_in(models, "open_size.onnx");
    desc.width = desc.height = size;
    desc.provider = DDPM_PROVIDER_CPU;
    desc.threads = threads;
    result = ddpm_engine_create(&desc, &engine);
    if (result < 0) {
        CHECK(strlen(ddpm_last_error()) > 20);
        return 1;
    }
    result = ddpm_engine_wait(engine, DDPM_WAIT_FOREVER);
    if (result < 0) {
        CHECK(strlen(ddpm_last_error()) > 20);
        failed = 1;
    }
    stream_desc.steps = 2;
    for (i = 0; i < 8 && !failed; i++) {
        result = ddpm_stream_create(engine, &stream_desc, &streams[i]);
        CHECK(result == DDPM_OK || result == DDPM_ERROR_OUT_OF_MEMORY);
        failed = result < 0;
    }
    for (step = 0; step < 2; step++) {
        for (i = 0; i < 8 && streams[i] != NULL; i++) {
            failed |= ddpm_step(streams[i]) < 0;
        }
        for (i = 0; i < 8 && streams[i] != NULL; i++) {
            failed |= ddpm_stream_wait(streams[i], DDPM_WAIT_FOREVER) < 0;
        }
    }
    for (i = 0; i < 8 && streams[i] != NULL; i++) {
        CHECK_OK(ddpm_stream_destroy(streams[i]));
    }
    CHECK_OK(ddpm_engine_destroy(engine));
    return failed;
}

/* How many of the limits were errors. */
static int errors_in(const char *models, uint32_t size, uint32_t threads, int least, int most, int stride) {
    int room, errors = 0;
    for (room = least; room <= most; room += stride) {
        int status = 0;
        const pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            /* A wait that never ends fails as well. */
            (void)alarm(60);
            leave((rlim_t)room << 20);
            _exit(use_the_library(models, size, threads));
        }
        CHECK(waitpid(child, &status, 0) == child);
        if (!WIFEXITED(status) || WEXITSTATUS(status) > 1) {
            fprintf(stderr, "%d MB left, pictures of %lu pixels, %lu threads: status %d, expected an error or a picture\n", room,
                    (unsigned long)size, (unsigned long)threads, status);
            exit(1);
        }
        errors += WEXITSTATUS(status);
    }
    return errors;
}

int main(int argc, char **argv) {
    CHECK(argc > 6);
    CHECK(errors_in(argv[1], (uint32_t)atoi(argv[2]), (uint32_t)atoi(argv[3]), atoi(argv[4]), atoi(argv[5]), atoi(argv[6])) > 0);
    return 0;
}
