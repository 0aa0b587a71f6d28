/* What cannot be loaded is an error that names the file and what is wrong with it, again and again,
 * and the library still works afterwards. Second argument: a runtime library that is good. Third: a
 * text file. Fourth: a library that is not ONNX Runtime. */
#include "check.h"

static void expect_failure(const ddpm_engine_desc *desc, ddpm_result code, const char *first, const char *second) {
    int again;
    for (again = 0; again < 2; again++) {
        ddpm_engine_info info = DDPM_ENGINE_INFO_INIT;
        ddpm_engine_status status = DDPM_ENGINE_STATUS_INIT;
        ddpm_stream_desc stream_desc = DDPM_STREAM_DESC_INIT;
        ddpm_stream *stream = NULL;
        ddpm_engine *engine = NULL;
        CHECK_OK(ddpm_engine_create(desc, &engine));
        CHECK_ERROR(ddpm_engine_wait(engine, DDPM_WAIT_FOREVER), code, first);
        CHECK_ERROR(ddpm_engine_wait(engine, 0), code, second);
        CHECK_OK(ddpm_engine_get_status(engine, &status));
        CHECK(status.state == DDPM_ENGINE_FAILED && status.stage < DDPM_LOAD_DONE && status.progress < 1);
        CHECK_ERROR(ddpm_engine_get_info(engine, &info), code, first);
        CHECK_ERROR(ddpm_stream_create(engine, &stream_desc, &stream), code, first);
        CHECK(stream == NULL && info.width == 0);
        CHECK_OK(ddpm_engine_destroy(engine));
    }
}

int main(int argc, char **argv) {
    static const char garbage[] = "this is not a model";
    ddpm_engine_desc desc = DDPM_ENGINE_DESC_INIT;
    ddpm_engine *engine = NULL;
    CHECK(argc > 4);
    desc.provider = DDPM_PROVIDER_CPU;

    desc.model_path = path_in(argv[1], "lin.onnx");
    desc.runtime_path = "/nowhere/libonnxruntime.so";
    expect_failure(&desc, DDPM_ERROR_RUNTIME_LIBRARY, "/nowhere/libonnxruntime.so", "No such file");
    desc.runtime_path = argv[3];
    expect_failure(&desc, DDPM_ERROR_RUNTIME_LIBRARY, argv[3], "not a library");
    desc.runtime_path = argv[4];
    expect_failure(&desc, DDPM_ERROR_RUNTIME_LIBRARY, argv[4], "OrtGetApiBase");

    desc.runtime_path = argv[2];
    desc.model_path = "/nowhere/model.onnx";
    expect_failure(&desc, DDPM_ERROR_IO, "/nowhere/model.onnx", "No such file");
    desc.model_path = argv[3];
    expect_failure(&desc, DDPM_ERROR_MODEL, argv[3], argv[3]);
    desc.model_path = path_in(argv[1], "two_channels.onnx");
    expect_failure(&desc, DDPM_ERROR_MODEL, "two_channels.onnx", "channels");
    desc.model_path = path_in(argv[1], "wrong_channels.onnx");
    expect_failure(&desc, DDPM_ERROR_MODEL, "wrong_channels.onnx", "1");
    desc.model_path = path_in(argv[1], "missing_variance.onnx");
    expect_failure(&desc, DDPM_ERROR_MODEL, "missing_variance.onnx", "learned_range");
    desc.model_path = path_in(argv[1], "extra_input.onnx");
    expect_failure(&desc, DDPM_ERROR_MODEL, "extra_input.onnx", "context");
    desc.model_path = path_in(argv[1], "version_2.onnx");
    expect_failure(&desc, DDPM_ERROR_UNSUPPORTED, "version_2.onnx", "ddpm.version");
    desc.model_path = path_in(argv[1], "lin.onnx");
    desc.width = 9;
    expect_failure(&desc, DDPM_ERROR_MODEL, "width: found 9", "8");
    desc.model_path = path_in(argv[1], "open_size.onnx");
    desc.width = desc.height = 0x7FFFFFFF;
    expect_failure(&desc, DDPM_ERROR_INVALID_ARGUMENT, "2147483647", "2147483647");
    desc.width = desc.height = 0;
    desc.model_path = path_in(argv[1], "lin.onnx");
    desc.threads = UINT32_MAX;
    expect_failure(&desc, DDPM_ERROR_INVALID_ARGUMENT, "threads: found 4294967295", "expected");
    desc.threads = 0;
    desc.provider = DDPM_PROVIDER_CUDA;
    expect_failure(&desc, DDPM_ERROR_PROVIDER, "CUDA", "CUDA");
    desc.provider = DDPM_PROVIDER_CPU;
    desc.model_path = NULL;
    desc.model_data = garbage;
    desc.model_size = sizeof garbage;
    expect_failure(&desc, DDPM_ERROR_MODEL, "20 bytes in memory", "");

    desc.model_data = NULL;
    desc.model_size = 0;
    desc.model_path = path_in(argv[1], "lin.onnx");
    CHECK_OK(ddpm_engine_create(&desc, &engine));
    CHECK_OK(ddpm_engine_wait(engine, DDPM_WAIT_FOREVER));
    CHECK_OK(ddpm_engine_destroy(engine));
    return 0;
}
