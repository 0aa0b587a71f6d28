/* The threads that an engine starts: as many as asked for, by their names, as urgent as asked for, on the
 * cores of the thread that made the engine, and gone with it. Linux. */
#define _GNU_SOURCE

#include <dirent.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <unistd.h>

#include "check.h"

typedef struct census {
    int workers; /* named ddpm-worker */
    int helpers; /* named ddpm-model-<number> */
    int others;
    int nicest; /* of ours, the least and the greatest value of nice */
    int rudest;
} census;

static census take_census(const cpu_set_t *cores) {
    census found = {0, 0, 0, -100, 100};
    DIR *tasks = opendir("/proc/self/task");
    struct dirent *task;
    CHECK(tasks != NULL);
    while ((task = readdir(tasks)) != NULL) {
        char path[300], name[64] = "";
        cpu_set_t allowed;
        FILE *file;
        const pid_t id = (pid_t)atoi(task->d_name);
        if (id == 0) {
            continue;
        }
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", task->d_name);
        file = fopen(path, "r");
        if (file == NULL || fgets(name, sizeof name, file) == NULL) {
            name[0] = '\0'; /* It ended meanwhile. */
        }
        if (file != NULL) {
            fclose(file);
        }
        if (strncmp(name, "ddpm-", 5) == 0) {
            const int nice_value = getpriority(PRIO_PROCESS, (id_t)id);
            found.nicest = nice_value > found.nicest ? nice_value : found.nicest;
            found.rudest = nice_value < found.rudest ? nice_value : found.rudest;
            CHECK(sched_getaffinity(id, sizeof allowed, &allowed) == 0);
            CHECK(CPU_EQUAL(&allowed, cores));
        }
        if (strcmp(name, "ddpm-worker\n") == 0) {
            found.workers++;
        } else if (strncmp(name, "ddpm-model-", 11) == 0) {
            found.helpers++;
        } else if (name[0] != '\0') {
            found.others++;
        }
    }
    closedir(tasks);
    return found;
}

/* A census with so many of ours. A thread gives itself its name, and until it runs it has that of the one
 * that started it; one that was waited for may show a moment longer. */
static census expect_census(int workers, int helpers, const cpu_set_t *cores) {
    census found;
    int tries;
    for (tries = 0; tries < 10000; tries++) {
        found = take_census(cores);
        if (found.workers == workers && found.helpers == helpers) {
            return found;
        }
        usleep(1000);
    }
    fprintf(stderr, "%d workers, %d helpers, expected %d and %d\n", found.workers, found.helpers, workers, helpers);
    exit(1);
}

static void starts_and_ends(const char *models, uint32_t priority, int nicer, const cpu_set_t *cores) {
    const census before = take_census(cores);
    const int own = getpriority(PRIO_PROCESS, (id_t)gettid());
    ddpm_engine_desc desc = DDPM_ENGINE_DESC_INIT;
    ddpm_engine *engine = NULL;
    ddpm_stream *stream;
    cpu_set_t allowed;
    census during, after;
    desc.model_path = path_in(models, "lin.onnx");
    desc.provider = DDPM_PROVIDER_CPU;
    desc.threads = 4;
    desc.thread_priority = priority;
    CHECK_OK(ddpm_engine_create(&desc, &engine));
    CHECK_OK(ddpm_engine_wait(engine, DDPM_WAIT_FOREVER));
    stream = make_stream(engine, 3, 1);
    finish(stream);
    /* The worker is the fourth. */
    during = expect_census(1, 3, cores);
    CHECK(during.others == before.others);
    CHECK(during.rudest == own + nicer && during.nicest == own + nicer);
    CHECK_OK(ddpm_stream_destroy(stream));
    CHECK_OK(ddpm_engine_destroy(engine));
    after = expect_census(0, 0, cores);
    CHECK(after.others == before.others);
    CHECK(getpriority(PRIO_PROCESS, (id_t)gettid()) == own);
    CHECK(sched_getaffinity(0, sizeof allowed, &allowed) == 0 && CPU_EQUAL(&allowed, cores));
}

int main(int argc, char **argv) {
    ddpm_engine_desc desc = DDPM_ENGINE_DESC_INIT;
    ddpm_engine *engine = NULL;
    cpu_set_t cores;
    size_t core;
    CHECK(argc > 1);
    CHECK(sched_getaffinity(0, sizeof cores, &cores) == 0);
    starts_and_ends(argv[1], DDPM_PRIORITY_DEFAULT, 0, &cores);
    starts_and_ends(argv[1], DDPM_PRIORITY_LOW, 5, &cores);
    /* On one core only, and nice already: both are handed on. */
    for (core = 0; !CPU_ISSET(core, &cores); core++) {
    }
    CPU_ZERO(&cores);
    CPU_SET(core, &cores);
    CHECK(sched_setaffinity(0, sizeof cores, &cores) == 0);
    CHECK(setpriority(PRIO_PROCESS, (id_t)gettid(), 3) == 0);
    starts_and_ends(argv[1], DDPM_PRIORITY_DEFAULT, 0, &cores);
    starts_and_ends(argv[1], DDPM_PRIORITY_LOW, 5, &cores);
    desc.model_path = path_in(argv[1], "lin.onnx");
    desc.thread_priority = 2;
    CHECK_ERROR(ddpm_engine_create(&desc, &engine), DDPM_ERROR_INVALID_ARGUMENT,
                "desc.thread_priority: found 2, expected one of DDPM_PRIORITY_DEFAULT (0)");
    return 0;
}
