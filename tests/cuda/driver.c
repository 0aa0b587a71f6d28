/* A stand-in for NVIDIA's driver, libcuda.so.1, for machines without one: it has as many devices as the
 * variable STAND_IN_DEVICES says, serves the CUDA of STAND_IN_VERSION (13000 is 13.0), and answers cuInit
 * with STAND_IN_INIT. It runs nothing: what asks for more gets "not supported". It counts its calls, and those
 * that the process's first thread made. For tests/cuda/no_gpu.sh. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { NO_DEVICE = 100, INVALID_DEVICE = 101, NOT_SUPPORTED = 801, DRIVER_MISMATCH = 803 };

static int calls, calls_of_first_thread;

static void count(void) {
    __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
    if (syscall(SYS_gettid) == getpid()) {
        __atomic_add_fetch(&calls_of_first_thread, 1, __ATOMIC_SEQ_CST);
    }
}

/* How many calls there were, all or the first thread's. */
int stand_in_calls(int of_first_thread);

int stand_in_calls(int of_first_thread) {
    return __atomic_load_n(of_first_thread ? &calls_of_first_thread : &calls, __ATOMIC_SEQ_CST);
}

static int setting(const char *name, int otherwise) {
    const char *value = getenv(name);
    return value != NULL ? atoi(value) : otherwise;
}

int cuInit(unsigned flags);
int cuDriverGetVersion(int *version);
int cuDeviceGetCount(int *found);
int cuDeviceGet(int *device, int ordinal);
int cuDeviceGetName(char *name, int length, int device);
int cuDeviceTotalMem_v2(size_t *bytes, int device);
int cuGetErrorName(int error, const char **name);
int cuTensorMapEncodeTiled(void);

int cuInit(unsigned flags) {
    (void)flags;
    count();
    return setting("STAND_IN_INIT", 0);
}

int cuDriverGetVersion(int *version) {
    count();
    *version = setting("STAND_IN_VERSION", 13000);
    return 0;
}

int cuDeviceGetCount(int *found) {
    count();
    *found = setting("STAND_IN_DEVICES", 1);
    return 0;
}

int cuDeviceGet(int *device, int ordinal) {
    count();
    *device = ordinal;
    return ordinal < setting("STAND_IN_DEVICES", 1) ? 0 : INVALID_DEVICE;
}

int cuDeviceGetName(char *name, int length, int device) {
    (void)device;
    count();
    strncpy(name, "Stand-in", (size_t)length);
    return 0;
}

int cuDeviceTotalMem_v2(size_t *bytes, int device) {
    (void)device;
    count();
    *bytes = (size_t)1 << 30;
    return 0;
}

int cuGetErrorName(int error, const char **name) {
    *name = error == NO_DEVICE         ? "CUDA_ERROR_NO_DEVICE"
            : error == DRIVER_MISMATCH ? "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"
                                       : "CUDA_ERROR_NOT_SUPPORTED";
    return 0;
}

/* The provider is linked against it. */
int cuTensorMapEncodeTiled(void) { return NOT_SUPPORTED; }
