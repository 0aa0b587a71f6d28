/* A host that loads the library as a plug-in, RTLD_LOCAL, asks for CUDA and prints what it is told, as the
 * tool prints it. The driver's stand-in must not have been called on this thread, the first. Arguments: the
 * library as an absolute path, a model. For tests/cuda/no_gpu.sh. */
#include <ddpm.h>
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

/* The function's address; C has no cast from a pointer to data to one to a function. */
static void find(void *where, const char *name, void *function, size_t size) {
    void *found = dlsym(where, name);
    memcpy(function, &found, size);
}

int main(int argc, char **argv) {
    ddpm_result (*create)(const ddpm_engine_desc *, ddpm_engine **);
    ddpm_result (*wait)(ddpm_engine *, uint32_t);
    ddpm_result (*destroy)(ddpm_engine *);
    const char *(*last_error)(void);
    ddpm_engine_desc desc = DDPM_ENGINE_DESC_INIT;
    ddpm_engine *engine = NULL;
    ddpm_result result;
    void *library, *driver;
    int (*calls)(int);
    if (argc < 3 || (library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL)) == NULL) {
        fprintf(stderr, "plugin_host: %s\n", argc < 3 ? "LIBRARY MODEL" : dlerror());
        return 2;
    }
    find(library, "ddpm_engine_create", &create, sizeof create);
    find(library, "ddpm_engine_wait", &wait, sizeof wait);
    find(library, "ddpm_engine_destroy", &destroy, sizeof destroy);
    find(library, "ddpm_last_error", &last_error, sizeof last_error);
    desc.model_path = argv[2];
    desc.provider = DDPM_PROVIDER_CUDA;
    if (create(&desc, &engine) < 0) {
        fprintf(stderr, "ddpm: error: %s\n", last_error());
        return 2;
    }
    result = wait(engine, DDPM_WAIT_FOREVER);
    if (result < 0) {
        fprintf(stderr, "ddpm: error: %s\n", last_error());
    }
    destroy(engine);
    driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
    if (driver != NULL) {
        find(driver, "stand_in_calls", &calls, sizeof calls);
        fprintf(stderr, "calls of the driver: %s, on the host's thread: %d\n", calls(0) > 0 ? "some" : "none", calls(1));
    }
    return result == DDPM_ERROR_PROVIDER ? 4 : 2;
}
