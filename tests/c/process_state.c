/* What belongs to the process is the host's before, during and after: signals, locale, floating-point
 * state, environment, standard streams, files in the user's folders. And its floating-point state does not
 * change the pictures. Second argument: an empty folder. */
#define _POSIX_C_SOURCE 200809L

#include <dirent.h>
#include <fcntl.h>
#include <fenv.h>
#include <locale.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

enum { SIGNALS = 32, PIXELS = 8 * 8 * 4 };

extern char **environ;

static void reveal(ddpm_engine *engine, unsigned char *pixels) {
    ddpm_stream *stream = make_stream(engine, 5, 1);
    finish(stream);
    CHECK_OK(ddpm_stream_copy_frame(stream, pixels, PIXELS, 0, NULL));
    CHECK_OK(ddpm_stream_destroy(stream));
}

/* Loads of all kinds, good and bad; the pictures are the same every time. */
static void use_the_library(const char *models, const char *scratch, const unsigned char *expected) {
    ddpm_engine_desc desc = DDPM_ENGINE_DESC_INIT;
    ddpm_engine *engine = NULL;
    unsigned char pixels[PIXELS];
    int i;
    engine = load_engine(models, "oracle.onnx");
    reveal(engine, pixels);
    CHECK(memcmp(pixels, expected, PIXELS) == 0);
    CHECK_OK(ddpm_engine_destroy(engine));
    desc.model_path = path_in(models, "oracle.onnx");
    desc.cache_path = path_in(scratch, "graphs");
    desc.thread_priority = DDPM_PRIORITY_LOW;
    desc.threads = 2;
    for (i = 0; i < 2; i++) {
        CHECK_OK(ddpm_engine_create(&desc, &engine));
        CHECK_OK(ddpm_engine_wait(engine, DDPM_WAIT_FOREVER));
        reveal(engine, pixels);
        CHECK(memcmp(pixels, expected, PIXELS) == 0);
        CHECK_OK(ddpm_engine_destroy(engine));
    }
    desc.cache_path = "/dev/null/none";
    for (i = 0; i < 4; i++) {
        static const char *const bad[] = {"opset_99.onnx", "external.onnx.data", "needs_width_8.onnx", "missing.onnx"};
        desc.model_path = path_in(models, bad[i]);
        desc.height = i == 2 ? 8 : 0;
        desc.width = i == 2 ? 9 : 0;
        CHECK_OK(ddpm_engine_create(&desc, &engine));
        CHECK(ddpm_engine_wait(engine, DDPM_WAIT_FOREVER) < 0);
        CHECK_OK(ddpm_engine_destroy(engine));
    }
    desc.provider = DDPM_PROVIDER_CUDA;
    desc.height = desc.width = 0;
    desc.model_path = path_in(models, "lin.onnx");
    CHECK_OK(ddpm_engine_create(&desc, &engine));
    CHECK(ddpm_engine_wait(engine, DDPM_WAIT_FOREVER) <= 0);
    CHECK_OK(ddpm_engine_destroy(engine));
    engine = load_engine(models, "overflow.onnx");
    {
        ddpm_stream *stream = make_stream(engine, 3, 1);
        ddpm_result result;
        while ((result = ddpm_step(stream)) >= 0) {
            (void)ddpm_stream_wait(stream, DDPM_WAIT_FOREVER);
        }
        CHECK(result == DDPM_ERROR_NON_FINITE);
        CHECK_OK(ddpm_stream_destroy(stream));
    }
    CHECK_OK(ddpm_engine_destroy(engine));
    CHECK_OK(ddpm_engine_destroy(start_engine(models, "endless_load.onnx")));
}

static int entries(const char *path) {
    DIR *folder = opendir(path);
    int count = 0;
    CHECK(folder != NULL);
    while (readdir(folder) != NULL) {
        count++;
    }
    closedir(folder);
    return count - 2; /* . and .. */
}

/* The environment in one string, and its hash. */
static unsigned long environment(void) {
    unsigned long hash = 5381;
    char **variable;
    const char *at;
    for (variable = environ; *variable != NULL; variable++) {
        for (at = *variable; *at != '\0'; at++) {
            hash = hash * 33 + (unsigned char)*at;
        }
        hash = hash * 33 + 1;
    }
    return hash;
}

int main(int argc, char **argv) {
    struct sigaction before[SIGNALS];
    char locale[256];
    char home[4096];
    sigset_t mask, mask_after;
    int rounding, number, out, streams[2];
    unsigned long variables;
    struct stat file;
    unsigned char expected[PIXELS];
    ddpm_engine *engine;
#if defined(__SSE__)
    unsigned control;
#endif
    CHECK(argc > 3);
    strcpy(home, path_in(argv[2], "home"));
    CHECK(mkdir(home, 0700) == 0);
    CHECK(setenv("HOME", home, 1) == 0 && setenv("XDG_CACHE_HOME", home, 1) == 0 && setenv("TMPDIR", home, 1) == 0);
    CHECK(setenv("DDPM_ONNXRUNTIME", argv[3], 1) == 0 && unsetenv("ORT_DISABLE_TELEMETRY") == 0);
    variables = environment();
    strcpy(locale, setlocale(LC_ALL, NULL));
    CHECK(sigprocmask(SIG_SETMASK, NULL, &mask) == 0);
    for (number = 1; number < SIGNALS; number++) {
        CHECK(sigaction(number, NULL, &before[number]) == 0);
    }
    fflush(NULL);
    streams[0] = dup(1);
    streams[1] = dup(2);
    out = creat(path_in(argv[2], "written"), 0600);
    CHECK(streams[0] > 2 && streams[1] > 2 && out > 2 && dup2(out, 1) == 1 && dup2(out, 2) == 2);

    engine = load_engine(argv[1], "oracle.onnx");
    reveal(engine, expected);
    CHECK_OK(ddpm_engine_destroy(engine));
    /* Not what is usual, so that setting the usual would show. */
    CHECK(fesetround(FE_UPWARD) == 0);
    rounding = fegetround();
#if defined(__SSE__)
    /* Small numbers to zero, at both ends; and the first sum that is rounded ends the program. */
    _mm_setcsr((_mm_getcsr() & 0xFFC0u & ~0x1000u) | 0x8040u);
    control = _mm_getcsr() & 0xFFC0u;
#endif
    use_the_library(argv[1], argv[2], expected);
    CHECK(fegetround() == rounding);
#if defined(__SSE__)
    CHECK((_mm_getcsr() & 0xFFC0u) == control);
#endif

    CHECK(fstat(out, &file) == 0);
    CHECK(dup2(streams[0], 1) == 1 && dup2(streams[1], 2) == 2);
    if (file.st_size != 0) {
        fprintf(stderr, "%ld bytes on the standard streams, in %s\n", (long)file.st_size, path_in(argv[2], "written"));
        return 1;
    }
    CHECK(entries(home) == 0);
    CHECK(environment() == variables);
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
