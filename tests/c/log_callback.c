/* The log callback gets the messages, on threads that the header names and none after the destroy;
 * calls back into the library are refused, not obeyed. */
#define _DEFAULT_SOURCE

#include <pthread.h>

#include "timing.h"

typedef struct seen {
    ddpm_engine *engine;
    int messages;
    int refused;
} seen;

static void log_message(void *user_data, uint32_t level, const char *message) {
    seen *log = (seen *)user_data;
    log->messages++;
    CHECK(level >= DDPM_LOG_ERROR && level <= DDPM_LOG_DEBUG);
    CHECK(message != NULL && message[0] != '\0');
    /* What needs no handle is allowed. */
    CHECK(ddpm_abi_version() == DDPM_ABI_VERSION);
    /* Not NULL: a handle that is refused before it is looked at. */
    CHECK_ERROR(ddpm_step((ddpm_stream *)user_data), DDPM_ERROR_UNSUPPORTED, "log callback");
    CHECK_ERROR(ddpm_stream_destroy((ddpm_stream *)user_data), DDPM_ERROR_UNSUPPORTED, "log callback");
    if (log->engine != NULL) {
        CHECK_ERROR(ddpm_engine_destroy(log->engine), DDPM_ERROR_UNSUPPORTED, "log callback");
        log->refused++;
    }
}

static void count(void *user_data, uint32_t level, const char *message) {
    (void)level;
    (void)message;
    ++*(int *)user_data;
}

/* One engine's log: which thread made it, and what was heard. */
typedef struct trace {
    pthread_t host;
    pthread_mutex_t lock;
    int is_over;
    int messages;
    int on_host;
    /* The one other thread: the worker. */
    pthread_t worker;
} trace;

static void note_thread(void *user_data, uint32_t level, const char *message) {
    trace *heard = (trace *)user_data;
    (void)level;
    (void)message;
    CHECK(pthread_mutex_lock(&heard->lock) == 0);
    CHECK(!heard->is_over);
    if (pthread_equal(pthread_self(), heard->host)) {
        heard->on_host++;
    } else {
        CHECK(heard->messages == heard->on_host || pthread_equal(pthread_self(), heard->worker));
        heard->worker = pthread_self();
    }
    heard->messages++;
    CHECK(pthread_mutex_unlock(&heard->lock) == 0);
}

/* Two engines at once, broken off at any moment from loading to stepping. Each log hears its own worker
 * and no other library thread, and nothing once the destroy has returned. */
static void callbacks_come_from_the_engines_own_worker_until_destroy(const char *models, int times) {
    uint64_t random = 5;
    int i, which, messages = 0;
    for (i = 0; i < times; i++) {
        ddpm_engine *engines[2] = {NULL, NULL};
        trace heard[2];
        for (which = 0; which < 2; which++) {
            ddpm_engine_desc desc = DDPM_ENGINE_DESC_INIT;
            memset(&heard[which], 0, sizeof heard[which]);
            heard[which].host = pthread_self();
            CHECK(pthread_mutex_init(&heard[which].lock, NULL) == 0);
            desc.model_path = path_in(models, i % 2 == 0 ? "slow.onnx" : "endless.onnx");
            desc.provider = DDPM_PROVIDER_CPU;
            desc.log = note_thread;
            desc.log_user_data = &heard[which];
            desc.log_level = DDPM_LOG_DEBUG;
            CHECK_OK(ddpm_engine_create(&desc, &engines[which]));
        }
        pause_us(draw(&random, 2) * draw(&random, 20000));
        for (which = 0; which < 2; which++) {
            ddpm_stream_desc desc = DDPM_STREAM_DESC_INIT;
            ddpm_stream *stream = NULL;
            if (i % 4 < 2) {
                CHECK_OK(ddpm_engine_wait(engines[which], DDPM_WAIT_FOREVER));
            }
            if (ddpm_stream_create(engines[which], &desc, &stream) == DDPM_OK) {
                CHECK_OK(ddpm_step(stream));
                CHECK_OK(ddpm_stream_destroy(stream));
            }
            CHECK_OK(ddpm_engine_destroy(engines[which]));
            CHECK(pthread_mutex_lock(&heard[which].lock) == 0);
            heard[which].is_over = 1;
            CHECK(pthread_mutex_unlock(&heard[which].lock) == 0);
        }
        /* For what would come late. */
        pause_us(draw(&random, 2000));
        for (which = 0; which < 2; which++) {
            messages += heard[which].messages;
            CHECK(heard[which].messages > heard[which].on_host || i % 4 >= 2);
            CHECK(pthread_mutex_destroy(&heard[which].lock) == 0);
        }
        CHECK(heard[0].messages == heard[0].on_host || heard[1].messages == heard[1].on_host ||
              !pthread_equal(heard[0].worker, heard[1].worker));
    }
    CHECK(messages > 0);
}

/* Second argument: how often engines are broken off. */
/* What one engine hears names its own model and never the other's. */
typedef struct owner {
    const char *own, *other;
    int named;
} owner;

static void check_owner(void *user_data, uint32_t level, const char *message) {
    owner *heard = (owner *)user_data;
    (void)level;
    CHECK(strstr(message, heard->other) == NULL);
    heard->named += strstr(message, heard->own) != NULL;
}

static void each_engine_has_its_own_log(const char *models) {
    owner logs[2] = {{"/lin.onnx", "/needs_width_8.onnx", 0}, {"/needs_width_8.onnx", "/lin.onnx", 0}};
    ddpm_engine *engines[2];
    int i;
    for (i = 0; i < 2; i++) {
        ddpm_engine_desc desc = DDPM_ENGINE_DESC_INIT;
        desc.model_path = path_in(models, logs[i].own + 1);
        desc.width = i == 1 ? 9 : 0;
        desc.height = i == 1 ? 8 : 0;
        desc.log = check_owner;
        desc.log_user_data = &logs[i];
        desc.log_level = DDPM_LOG_DEBUG;
        CHECK_OK(ddpm_engine_create(&desc, &engines[i]));
    }
    CHECK_OK(ddpm_engine_wait(engines[0], DDPM_WAIT_FOREVER));
    /* Its first run fails, of which the runtime tells. */
    CHECK_RESULT(ddpm_engine_wait(engines[1], DDPM_WAIT_FOREVER), DDPM_ERROR_INFERENCE);
    CHECK_OK(ddpm_engine_destroy(engines[1]));
    CHECK_OK(ddpm_engine_destroy(engines[0]));
    CHECK(logs[0].named > 0);
}

int main(int argc, char **argv) {
    ddpm_engine_desc desc = DDPM_ENGINE_DESC_INIT;
    ddpm_engine *idle;
    ddpm_engine *engine = NULL;
    seen log = {NULL, 0, 0};
    int messages = 0;
    CHECK(argc > 2);

    /* A live engine that the callback of another one tries to destroy. */
    idle = load_engine(argv[1], "lin.onnx");
    log.engine = idle;
    desc.model_path = path_in(argv[1], "lin.onnx");
    desc.log = log_message;
    desc.log_user_data = &log;
    desc.log_level = DDPM_LOG_DEBUG;
    CHECK_OK(ddpm_engine_create(&desc, &engine));
    CHECK_OK(ddpm_engine_wait(engine, DDPM_WAIT_FOREVER));
    CHECK_OK(ddpm_engine_destroy(engine));
    CHECK(log.messages > 0 && log.refused == log.messages);
    CHECK_OK(ddpm_engine_wait(idle, 0));
    CHECK_OK(ddpm_engine_destroy(idle));

    /* On the CPU, as asked: nothing that warns, but what was chosen. */
    desc.provider = DDPM_PROVIDER_CPU;
    desc.log = count;
    desc.log_user_data = &messages;
    desc.log_level = DDPM_LOG_WARNING;
    CHECK_OK(ddpm_engine_create(&desc, &engine));
    CHECK_OK(ddpm_engine_wait(engine, DDPM_WAIT_FOREVER));
    CHECK_OK(ddpm_engine_destroy(engine));
    CHECK(messages == 0);
    desc.log_level = DDPM_LOG_INFO;
    CHECK_OK(ddpm_engine_create(&desc, &engine));
    CHECK_OK(ddpm_engine_wait(engine, DDPM_WAIT_FOREVER));
    CHECK_OK(ddpm_engine_destroy(engine));
    CHECK(messages > 0);
    callbacks_come_from_the_engines_own_worker_until_destroy(argv[1], atoi(argv[2]));
    each_engine_has_its_own_log(argv[1]);
    return 0;
}
