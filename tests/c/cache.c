/* Optimised graphs kept on disk: the second load says so and gives the same pictures; a folder that
 * cannot be written, or not enough, is no error. Second argument: an empty folder. Third: a file. */
#define _POSIX_C_SOURCE 200809L

#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "check.h"

/* What a load says of the cache, and the last picture of a short run. */
static uint32_t load(const ddpm_engine_desc *desc, char *fingerprint, unsigned char *pixels, size_t size) {
    ddpm_engine_info info = DDPM_ENGINE_INFO_INIT;
    ddpm_engine *engine = NULL;
    ddpm_stream *stream;
    CHECK_OK(ddpm_engine_create(desc, &engine));
    CHECK_OK(ddpm_engine_wait(engine, DDPM_WAIT_FOREVER));
    CHECK_OK(ddpm_engine_get_info(engine, &info));
    CHECK(strlen(info.fingerprint) == 32);
    strcpy(fingerprint, info.fingerprint);
    CHECK((strcmp(info.cache_reason, "") != 0) == (info.cache == DDPM_CACHE_UNUSED));
    stream = make_stream(engine, 3, 1);
    finish(stream);
    CHECK_OK(ddpm_stream_copy_frame(stream, pixels, size, 0, NULL));
    CHECK_OK(ddpm_stream_destroy(stream));
    CHECK_OK(ddpm_engine_destroy(engine));
    return info.cache;
}

/* A limit on the size of files, below that of the graph, stands for a full disk. The limit is the last thing
 * this program does with files. */
static void disk_may_be_full(ddpm_engine_desc *desc, const char *folder, const unsigned char *expected) {
    const struct rlimit limit = {4096, 4096};
    unsigned char pixels[8 * 8 * 4];
    char fingerprint[33];
    CHECK(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    desc->cache_path = path_in(folder, "full");
    CHECK(load(desc, fingerprint, pixels, sizeof pixels) == DDPM_CACHE_UNUSED);
    CHECK(memcmp(pixels, expected, sizeof pixels) == 0);
    /* Nothing is left there. */
    CHECK(rmdir(desc->cache_path) == 0);
}

int main(int argc, char **argv) {
    ddpm_engine_desc desc = DDPM_ENGINE_DESC_INIT;
    ddpm_engine *engine = NULL;
    unsigned char pixels[8 * 8 * 4], expected[8 * 8 * 4];
    char fingerprint[33], first[33];
    CHECK(argc > 3);
    desc.model_path = path_in(argv[1], "oracle.onnx");
    desc.provider = DDPM_PROVIDER_CPU;
    CHECK(load(&desc, first, expected, sizeof expected) == DDPM_CACHE_OFF);
    desc.cache_path = argv[2];
    CHECK(load(&desc, fingerprint, pixels, sizeof pixels) == DDPM_CACHE_WRITTEN);
    CHECK(strcmp(fingerprint, first) == 0 && memcmp(pixels, expected, sizeof pixels) == 0);
    desc.threads = 2;
    CHECK(load(&desc, fingerprint, pixels, sizeof pixels) == DDPM_CACHE_HIT);
    CHECK(strcmp(fingerprint, first) == 0 && memcmp(pixels, expected, sizeof pixels) == 0);
    desc.cache_path = argv[3];
    CHECK(load(&desc, fingerprint, pixels, sizeof pixels) == DDPM_CACHE_UNUSED);
    CHECK(memcmp(pixels, expected, sizeof pixels) == 0);
    disk_may_be_full(&desc, argv[2], expected);
    desc.cache_path = "\xff";
    CHECK_ERROR(ddpm_engine_create(&desc, &engine), DDPM_ERROR_INVALID_ARGUMENT, "desc.cache_path");
    return 0;
}
