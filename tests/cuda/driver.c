/* A stand-in for NVIDIA's driver, libcuda.so.1, for machines without one: it has as many devices as the
 * variable STAND_IN_DEVICES says, serves the CUDA of STAND_IN_VERSION (13000 is 13.0), and answers cuInit
 * with STAND_IN_INIT. It runs nothing: what asks for more gets "not supported". For tests/cuda/no_gpu.sh. */
#include <stdlib.h>
#include <string.h>

enum { NO_DEVICE = 100, INVALID_DEVICE = 101, NOT_SUPPORTED = 801, DRIVER_MISMATCH = 803 };

static int setting(const char *name, int otherwise) {
    const char *value = getenv(name);
    return value != NULL ? atoi(value) : otherwise;
}

int cuInit(unsigned flags);
int cuDriverGetVersion(int *version);
int cuDeviceGetCount(int *count);
int cuDeviceGet(int *device, int ordinal);
int cuDeviceGetName(char *name, int length, int device);
int cuDeviceTotalMem_v2(size_t *bytes, int device);
int cuGetErrorName(int error, const char **name);
int cuTensorMapEncodeTiled(void);

int cuInit(unsigned flags) {
    (void)flags;
    return setting("STAND_IN_INIT", 0);
}

int cuDriverGetVersion(int *version) {
    *version = setting("STAND_IN_VERSION", 13000);
    return 0;
}

int cuDeviceGetCount(int *count) {
    *count = setting("STAND_IN_DEVICES", 1);
    return 0;
}

int cuDeviceGet(int *device, int ordinal) {
    *device = ordinal;
    return ordinal < setting("STAND_IN_DEVICES", 1) ? 0 : INVALID_DEVICE;
}

int cuDeviceGetName(char *name, int length, int device) {
    (void)device;
    strncpy(name, "Stand-in", (size_t)length);
    return 0;
}

int cuDeviceTotalMem_v2(size_t *bytes, int device) {
    (void)device;
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
