/* A host with an ONNX Runtime of its own, another file of the same name, global to the process, which
 * it opens before or after ours. Arguments after the models: our runtime, the host's, when. */
#define _POSIX_C_SOURCE 200809L

#include <dlfcn.h>

#include "check.h"

static void *open_own(const char *path) {
    void *own = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    if (own == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    CHECK(dlsym(own, "OrtGetApiBase") != NULL);
    return own;
}

int main(int argc, char **argv) {
    ddpm_engine_desc desc = DDPM_ENGINE_DESC_INIT;
    ddpm_engine_info info = DDPM_ENGINE_INFO_INIT;
    ddpm_engine *engine = NULL;
    ddpm_stream *stream;
    void *own = NULL;
    CHECK(argc > 4);
    if (strcmp(argv[4], "before") == 0) {
        own = open_own(argv[3]);
    }
    desc.model_path = path_in(argv[1], "lin.onnx");
    desc.runtime_path = argv[2];
    CHECK_OK(ddpm_engine_create(&desc, &engine));
    CHECK_OK(ddpm_engine_wait(engine, DDPM_WAIT_FOREVER));
    CHECK_OK(ddpm_engine_get_info(engine, &info));
    CHECK(strcmp(info.runtime_path, argv[2]) == 0);
    stream = make_stream(engine, 3, 1);
    CHECK_OK(ddpm_step(stream));
    if (own == NULL) {
        own = open_own(argv[3]);
    }
    CHECK(dlclose(own) == 0);
    CHECK_OK(ddpm_stream_wait(stream, DDPM_WAIT_FOREVER));
    finish(stream);
    CHECK_OK(ddpm_stream_destroy(stream));
    CHECK_OK(ddpm_engine_destroy(engine));
    return 0;
}
