/* Signals, locale and floating-point state of the process are the host's before and after. */
#define _POSIX_C_SOURCE 200809L

#include <fenv.h>
#include <locale.h>
#include <signal.h>

#include "check.h"

enum { SIGNALS = 32 };

int main(int argc, char **argv) {
    struct sigaction before[SIGNALS];
    char locale[256];
    sigset_t mask, mask_after;
    int rounding, number;
    ddpm_engine *engine;
    ddpm_stream *stream;
    unsigned char pixels[8 * 8 * 4];
    CHECK(argc > 1);
    /* Not what is usual, so that setting the usual would show. */
    CHECK(fesetround(FE_UPWARD) == 0);
    rounding = fegetround();
    strcpy(locale, setlocale(LC_ALL, NULL));
    CHECK(sigprocmask(SIG_SETMASK, NULL, &mask) == 0);
    for (number = 1; number < SIGNALS; number++) {
        CHECK(sigaction(number, NULL, &before[number]) == 0);
    }

    engine = load_engine(argv[1], "lin.onnx");
    stream = make_stream(engine, 3, 1);
    finish(stream);
    CHECK_OK(ddpm_stream_copy_frame(stream, pixels, sizeof pixels, 0, NULL));
    CHECK_OK(ddpm_stream_destroy(stream));
    CHECK_OK(ddpm_engine_destroy(engine));

    CHECK(fegetround() == rounding);
    CHECK(strcmp(locale, setlocale(LC_ALL, NULL)) == 0);
    CHECK(sigprocmask(SIG_SETMASK, NULL, &mask_after) == 0);
    for (number = 1; number < SIGNALS; number++) {
        struct sigaction after;
        CHECK(sigaction(number, NULL, &after) == 0);
        CHECK(after.sa_handler == before[number].sa_handler && after.sa_flags == before[number].sa_flags);
        CHECK(sigismember(&mask, number) == sigismember(&mask_after, number));
    }
    return 0;
}
