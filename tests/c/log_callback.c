/* The log callback gets the messages, and calls back into the library are refused, not obeyed. */
#include "check.h"

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

int main(int argc, char **argv) {
    ddpm_engine_desc desc = DDPM_ENGINE_DESC_INIT;
    ddpm_engine *idle;
    ddpm_engine *engine = NULL;
    seen log = {NULL, 0, 0};
    int messages = 0;
    CHECK(argc > 1);

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
    return 0;
}
