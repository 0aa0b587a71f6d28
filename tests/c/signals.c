/* What is done on each signal, which are held back, the stack for them, and the working directory are the
 * host's before and after. */
#define _DEFAULT_SOURCE

#include <signal.h>
#include <unistd.h>

#include "check.h"

#ifdef SIGRTMAX
#define LAST_SIGNAL SIGRTMAX
#else
#define LAST_SIGNAL 31
#endif
enum { SIGNALS = 128 };

static void on_signal(int number) { (void)number; }

static int same_mask(const sigset_t *a, const sigset_t *b) {
    int number;
    for (number = 1; number <= LAST_SIGNAL; number++) {
        if (sigismember(a, number) != sigismember(b, number)) {
            return 0;
        }
    }
    return 1;
}

static void use_the_library(const char *models) {
    ddpm_engine *engine = load_engine(models, "lin.onnx");
    ddpm_stream *stream = make_stream(engine, 3, 1);
    unsigned char pixels[8 * 8 * 4];
    finish(stream);
    CHECK_OK(ddpm_stream_copy_frame(stream, pixels, sizeof pixels, 0, NULL));
    CHECK_RESULT(ddpm_step(NULL), DDPM_ERROR_INVALID_ARGUMENT);
    CHECK_OK(ddpm_stream_destroy(stream));
    CHECK_OK(ddpm_engine_destroy(engine));
    engine = start_engine(models, "ir_version_99.onnx");
    CHECK(ddpm_engine_wait(engine, DDPM_WAIT_FOREVER) < 0);
    CHECK_OK(ddpm_engine_destroy(engine));
}

int main(int argc, char **argv) {
    static struct sigaction before[SIGNALS];
    struct sigaction own;
    stack_t stack, stack_after;
    char folder[4096], folder_after[4096];
    sigset_t mask, mask_after;
    int number;
    CHECK(argc > 1);
    CHECK(LAST_SIGNAL < SIGNALS);
    /* Not what is usual, so that setting the usual would show. */
    memset(&own, 0, sizeof own);
    own.sa_handler = on_signal;
    own.sa_flags = SA_RESTART;
    CHECK(sigemptyset(&own.sa_mask) == 0 && sigaddset(&own.sa_mask, SIGUSR2) == 0);
    CHECK(sigaction(SIGUSR1, &own, NULL) == 0 && sigaction(SIGSEGV, &own, NULL) == 0 && sigaction(SIGABRT, &own, NULL) == 0);
    CHECK(sigemptyset(&mask) == 0 && sigaddset(&mask, SIGUSR2) == 0 && sigprocmask(SIG_SETMASK, &mask, NULL) == 0);
    CHECK(getcwd(folder, sizeof folder) != NULL);
    CHECK(sigprocmask(SIG_SETMASK, NULL, &mask) == 0);
    CHECK(sigaltstack(NULL, &stack) == 0);
    for (number = 1; number <= LAST_SIGNAL; number++) {
        /* The C library keeps some to itself, and refuses. */
        if (sigaction(number, NULL, &before[number]) != 0) {
            before[number].sa_flags = -1;
        }
    }

    use_the_library(argv[1]);

    CHECK(getcwd(folder_after, sizeof folder_after) != NULL && strcmp(folder, folder_after) == 0);
    CHECK(sigprocmask(SIG_SETMASK, NULL, &mask_after) == 0 && same_mask(&mask, &mask_after));
    CHECK(sigaltstack(NULL, &stack_after) == 0);
    CHECK(stack.ss_flags == stack_after.ss_flags && stack.ss_sp == stack_after.ss_sp);
    for (number = 1; number <= LAST_SIGNAL; number++) {
        struct sigaction after;
        if (before[number].sa_flags != -1) {
            CHECK(sigaction(number, NULL, &after) == 0);
            CHECK(after.sa_handler == before[number].sa_handler && after.sa_flags == before[number].sa_flags);
            CHECK(same_mask(&after.sa_mask, &before[number].sa_mask));
        }
    }
    return 0;
}
