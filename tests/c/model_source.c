/* Where a model may come from: a file, memory that is copied or stays, callbacks; with external data, and with
 * other weights. What a host serves badly is an error that says so. Second argument: an empty folder. */
#define _POSIX_C_SOURCE 200809L

#include <pthread.h>
#include <sys/stat.h>

#include "check.h"

enum { PIXELS = 8 * 8 * 4, MAX_FILES = 4 };

typedef struct file {
    const char *name;
    unsigned char *bytes;
    uint64_t size;
} file;

/* What the host serves, and how badly. */
typedef struct archive {
    file files[MAX_FILES];
    int count;
    /* What is given for the size in place of the truth, unless 0. */
    uint64_t size;
    /* What reading and opening return in place of doing it, unless 0. */
    int64_t read_returns;
    int32_t open_returns;
    /* Counted. */
    int opened, closed, on_main_thread;
    pthread_t main_thread;
    ddpm_engine *engine;
} archive;

static int32_t open_file(void *user_data, const char *name, void **opened, uint64_t *size) {
    archive *served = (archive *)user_data;
    int i;
    served->on_main_thread += pthread_equal(pthread_self(), served->main_thread) != 0;
    if (served->open_returns != 0) {
        return served->open_returns;
    }
    if (served->engine != NULL) {
        CHECK_ERROR(ddpm_engine_wait(served->engine, 0), DDPM_ERROR_UNSUPPORTED, "file callback");
    }
    for (i = 0; i < served->count; i++) {
        if (strcmp(served->files[i].name, name) == 0) {
            served->opened++;
            *opened = &served->files[i];
            *size = served->size != 0 ? served->size : served->files[i].size;
            return 0;
        }
    }
    return -2;
}

/* A hundred bytes at a time. */
static int64_t read_file(void *user_data, void *opened, uint64_t offset, void *destination, uint64_t size) {
    const archive *served = (const archive *)user_data;
    const file *from = (const file *)opened;
    uint64_t length = offset < from->size ? from->size - offset : 0;
    if (served->read_returns != 0) {
        return served->read_returns;
    }
    length = length < size ? length : size;
    length = length < 100 ? length : 100;
    memcpy(destination, from->bytes + offset, (size_t)length);
    return (int64_t)length;
}

static void close_file(void *user_data, void *opened) {
    archive *served = (archive *)user_data;
    CHECK(opened != NULL);
    served->closed++;
}

static file read_whole(const char *name, const char *path) {
    file whole = {name, NULL, 0};
    FILE *stream = fopen(path, "rb");
    CHECK(stream != NULL && fseek(stream, 0, SEEK_END) == 0);
    whole.size = (uint64_t)ftell(stream);
    rewind(stream);
    whole.bytes = (unsigned char *)malloc((size_t)whole.size);
    CHECK(whole.bytes != NULL && fread(whole.bytes, 1, (size_t)whole.size, stream) == whole.size);
    CHECK(fclose(stream) == 0);
    return whole;
}

/* A safetensors file with 192 values for the `half` of external.onnx. */
static file weights_of(const char *name, float value) {
    static const char header[] = "{\"half\":{\"dtype\":\"F32\",\"shape\":[1,3,8,8],\"data_offsets\":[0,768]}}";
    file made = {name, NULL, 8 + sizeof header - 1 + 768};
    const uint64_t length = sizeof header - 1;
    size_t i;
    made.bytes = (unsigned char *)malloc((size_t)made.size);
    CHECK(made.bytes != NULL);
    for (i = 0; i < 8; i++) {
        made.bytes[i] = (unsigned char)(length >> (8 * i));
    }
    memcpy(made.bytes + 8, header, sizeof header - 1);
    for (i = 0; i < 192; i++) {
        memcpy(made.bytes + 8 + length + 4 * i, &value, 4);
    }
    return made;
}

/* The last picture of a short run. */
static void picture(ddpm_engine *engine, unsigned char *pixels) {
    ddpm_stream *stream = make_stream(engine, 3, 1);
    finish(stream);
    CHECK_OK(ddpm_stream_copy_frame(stream, pixels, PIXELS, 0, NULL));
    CHECK_OK(ddpm_stream_destroy(stream));
    CHECK_OK(ddpm_engine_destroy(engine));
}

static ddpm_engine *load(const ddpm_engine_desc *desc) {
    ddpm_engine *engine = NULL;
    CHECK_OK(ddpm_engine_create(desc, &engine));
    CHECK_OK(ddpm_engine_wait(engine, DDPM_WAIT_FOREVER));
    return engine;
}

static void refused(const ddpm_engine_desc *desc, ddpm_result code, const char *first, const char *second) {
    ddpm_engine *engine = NULL;
    CHECK_OK(ddpm_engine_create(desc, &engine));
    CHECK_ERROR(ddpm_engine_wait(engine, DDPM_WAIT_FOREVER), code, first);
    CHECK_ERROR(ddpm_engine_wait(engine, 0), code, second);
    CHECK_OK(ddpm_engine_destroy(engine));
}

static void not_created(const ddpm_engine_desc *desc, const char *expected) {
    ddpm_engine *engine = NULL;
    CHECK_ERROR(ddpm_engine_create(desc, &engine), DDPM_ERROR_INVALID_ARGUMENT, expected);
    CHECK(engine == NULL);
}

int main(int argc, char **argv) {
    const ddpm_engine_desc fresh = DDPM_ENGINE_DESC_INIT;
    ddpm_engine_desc desc = DDPM_ENGINE_DESC_INIT;
    unsigned char expected[PIXELS], pixels[PIXELS], other[PIXELS];
    archive served = {0};
    file model, style;
    FILE *stream;
    int i;
    CHECK(argc > 2);
    served.main_thread = pthread_self();
    model = read_whole("pack/m.onnx", path_in(argv[1], "external.onnx"));
    style = weights_of("styles/quarter", 0.25f);
    served.files[0] = model;
    served.files[1] = read_whole("pack/external.onnx.data", path_in(argv[1], "external.onnx.data"));
    served.files[2] = style;
    served.count = 3;
    desc.provider = DDPM_PROVIDER_CPU;
    desc.model_path = path_in(argv[1], "external.onnx");
    picture(load(&desc), expected);

    /* Callbacks. */
    desc.model_path = "pack/m.onnx";
    desc.open_file = open_file;
    desc.read_file = read_file;
    desc.close_file = close_file;
    desc.files_user_data = &served;
    picture(load(&desc), pixels);
    CHECK(memcmp(pixels, expected, PIXELS) == 0);
    CHECK(served.opened == 2 && served.closed == 2 && served.on_main_thread == 0);
    desc.weights_path = "styles/quarter";
    picture(load(&desc), other);
    CHECK(memcmp(other, expected, PIXELS) != 0);
    CHECK(served.opened == 5 && served.closed == 5);
    desc.weights_path = "styles/none";
    refused(&desc, DDPM_ERROR_IO, "styles/none: open_file returned -2", "expected 0");
    desc.weights_path = NULL;
    desc.close_file = NULL;
    picture(load(&desc), pixels);
    CHECK(served.opened == 9 && served.closed == 7);
    desc.close_file = close_file;

    /* Served badly. */
    served.open_returns = 77;
    refused(&desc, DDPM_ERROR_IO, "pack/m.onnx: open_file returned 77", "pack/m.onnx");
    served.open_returns = 0;
    served.read_returns = -5;
    refused(&desc, DDPM_ERROR_IO, "pack/m.onnx: read_file returned -5 for", "at 0, expected 1 to");
    served.read_returns = INT64_MAX;
    refused(&desc, DDPM_ERROR_IO, "read_file returned 9223372036854775807", "pack/m.onnx");
    served.read_returns = 0;
    served.size = model.size + 1;
    refused(&desc, DDPM_ERROR_IO, "pack/m.onnx: ended after", "bytes");
    served.size = UINT64_MAX;
    refused(&desc, DDPM_ERROR_OUT_OF_MEMORY, "pack/m.onnx", "18446744073709551615 bytes could not be had");
    served.size = 0;
    served.count = 1;
    refused(&desc, DDPM_ERROR_IO, "pack/external.onnx.data: open_file returned -2", "-2");
    served.count = 3;
    desc.read_file = NULL;
    not_created(&desc, "desc.read_file: found NULL with desc.open_file");
    desc.open_file = NULL;
    desc.read_file = read_file;
    not_created(&desc, "desc.open_file: found NULL with desc.read_file");

    /* A callback cannot call back in. Which engine it asks is all the same. */
    served.engine = start_engine(argv[1], "lin.onnx");
    desc.open_file = open_file;
    picture(load(&desc), pixels);
    CHECK_OK(ddpm_engine_destroy(served.engine));

    /* Memory, and a folder for the rest. */
    desc = fresh;
    desc.provider = DDPM_PROVIDER_CPU;
    desc.model_data = model.bytes;
    desc.model_size = model.size;
    refused(&desc, DDPM_ERROR_MODEL, "\"external.onnx.data\"", "external_data_path");
    desc.external_data_path = argv[1];
    picture(load(&desc), pixels);
    CHECK(memcmp(pixels, expected, PIXELS) == 0);
    desc.external_data_path = path_in(argv[1], "nowhere");
    refused(&desc, DDPM_ERROR_MODEL, "\"external.onnx.data\"", "No such file");
    desc.external_data_path = argv[1];
    desc.model_data_stays = 2;
    not_created(&desc, "desc.model_data_stays: found 2, expected 0 or 1");
    desc.model_data_stays = 1;
    {
        ddpm_engine *engine = load(&desc);
        /* It may go now. */
        memset(model.bytes, 0xFF, (size_t)model.size);
        picture(engine, pixels);
    }
    CHECK(memcmp(pixels, expected, PIXELS) == 0);
    desc.model_data = NULL;
    desc.model_path = path_in(argv[1], "external.onnx");
    not_created(&desc, "desc.model_data_stays: found 1, expected 0 without");
    desc.model_data_stays = 0;
    not_created(&desc, "desc.external_data_path: found");
    desc.external_data_path = NULL;

    /* Other weights, from a file. */
    CHECK(mkdir(argv[2], 0700) == 0);
    desc.weights_path = path_in(argv[2], "quarter.safetensors");
    refused(&desc, DDPM_ERROR_IO, "quarter.safetensors", "No such file");
    stream = fopen(desc.weights_path, "wb");
    CHECK(stream != NULL && fwrite(style.bytes, 1, (size_t)style.size, stream) == style.size && fclose(stream) == 0);
    picture(load(&desc), pixels);
    CHECK(memcmp(pixels, other, PIXELS) == 0);
    desc.model_path = path_in(argv[1], "lin.onnx");
    refused(&desc, DDPM_ERROR_MODEL, "tensor \"half\": found shape [1, 3, 8, 8], expected [] as", "lin.onnx");
    desc.weights_path = "\xff";
    not_created(&desc, "desc.weights_path");
    for (i = 0; i < served.count; i++) {
        free(served.files[i].bytes);
    }
    return 0;
}
