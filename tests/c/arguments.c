/* Every wrong argument is an error that names it, and no output is touched. */
#include "check.h"

static void engine_arguments(const char *models) {
    ddpm_engine_desc desc = DDPM_ENGINE_DESC_INIT;
    ddpm_engine *untouched = (ddpm_engine *)(void *)&desc;
    ddpm_engine *engine = untouched;
    desc.model_path = path_in(models, "lin.onnx");

    CHECK_ERROR(ddpm_engine_create(NULL, &engine), DDPM_ERROR_INVALID_ARGUMENT, "desc: found NULL");
    CHECK_ERROR(ddpm_engine_create(&desc, NULL), DDPM_ERROR_INVALID_ARGUMENT, "engine: found NULL");
    desc.provider = 77;
    CHECK_ERROR(ddpm_engine_create(&desc, &engine), DDPM_ERROR_INVALID_ARGUMENT, "desc.provider: found 77");
    CHECK(strstr(ddpm_last_error(), "DDPM_PROVIDER_CUDA (2)") != NULL);
    desc.provider = DDPM_PROVIDER_CPU;
    desc.log_level = 9;
    CHECK_ERROR(ddpm_engine_create(&desc, &engine), DDPM_ERROR_INVALID_ARGUMENT, "desc.log_level: found 9");
    desc.log_level = DDPM_LOG_DEFAULT;
    desc.prediction_type = 5;
    CHECK_ERROR(ddpm_engine_create(&desc, &engine), DDPM_ERROR_INVALID_ARGUMENT, "desc.prediction_type: found 5");
    desc.prediction_type = DDPM_PREDICTION_DEFAULT;
    desc.max_batch = 257;
    CHECK_ERROR(ddpm_engine_create(&desc, &engine), DDPM_ERROR_INVALID_ARGUMENT, "desc.max_batch: found 257");
    desc.max_batch = 0;
    desc.model_data = &desc;
    CHECK_ERROR(ddpm_engine_create(&desc, &engine), DDPM_ERROR_INVALID_ARGUMENT, "desc.model_path: found with");
    desc.model_path = NULL;
    CHECK_ERROR(ddpm_engine_create(&desc, &engine), DDPM_ERROR_INVALID_ARGUMENT, "desc.model_size: found 0");
    desc.model_size = UINT64_MAX;
    CHECK_ERROR(ddpm_engine_create(&desc, &engine), DDPM_ERROR_INVALID_ARGUMENT, "desc.model_size");
    desc.model_data = NULL;
    CHECK_ERROR(ddpm_engine_create(&desc, &engine), DDPM_ERROR_INVALID_ARGUMENT, "desc.model_path: found NULL");
    desc.model_path = "caf\xE9.onnx";
    CHECK_ERROR(ddpm_engine_create(&desc, &engine), DDPM_ERROR_INVALID_ARGUMENT, "desc.model_path");
    CHECK(strstr(ddpm_last_error(), "UTF-8 from byte 3") != NULL);
    desc.model_path = "a.onnx";
    desc.runtime_path = "\xFF.so";
    CHECK_ERROR(ddpm_engine_create(&desc, &engine), DDPM_ERROR_INVALID_ARGUMENT, "desc.runtime_path");
    CHECK(engine == untouched);

    CHECK_ERROR(ddpm_engine_wait(NULL, 0), DDPM_ERROR_INVALID_ARGUMENT, "engine: found NULL");
    CHECK_ERROR(ddpm_engine_destroy(NULL), DDPM_ERROR_INVALID_ARGUMENT, "engine: found NULL");
}

#define CHECK_CUDA(field, value, text)                                                             \
    do {                                                                                           \
        ddpm_cuda_desc cuda = DDPM_CUDA_DESC_INIT;                                                 \
        cuda.field = value;                                                                        \
        desc.cuda = &cuda;                                                                         \
        CHECK_ERROR(ddpm_engine_create(&desc, &engine), DDPM_ERROR_INVALID_ARGUMENT, text);        \
        desc.cuda = NULL;                                                                          \
    } while (0)

/* What says how a provider runs the model is checked whether that provider is asked for or not. */
static void provider_arguments(const char *models) {
    ddpm_engine_desc desc = DDPM_ENGINE_DESC_INIT;
    ddpm_cuda_desc both = DDPM_CUDA_DESC_INIT;
    ddpm_provider_option option = {NULL, "value"};
    ddpm_engine *engine = NULL;
    desc.model_path = path_in(models, "lin.onnx");
    desc.provider = DDPM_PROVIDER_CPU;

    CHECK_CUDA(struct_size, 3, "desc.cuda: struct_size is 3");
    CHECK_CUDA(device, 64, "desc.cuda.device: found 64, expected 0 to 63");
    CHECK_CUDA(memory_limit, 1, "desc.cuda.memory_limit: found 1 bytes");
    CHECK_CUDA(conv_search, 3, "desc.cuda.conv_search: found 3");
    CHECK_CUDA(tf32, 2, "desc.cuda.tf32: found 2");
    CHECK_CUDA(prefer_nhwc, 2, "desc.cuda.prefer_nhwc: found 2");
    CHECK_CUDA(stream, 3, "desc.cuda.stream: found 3");
    CHECK_CUDA(library_path, "", "desc.cuda.library_path: found an empty path");
    CHECK_CUDA(library_path, "\xFF", "desc.cuda.library_path");
    both.host_stream = &both;
    both.stream = DDPM_CUDA_STREAM_HIGH;
    desc.cuda = &both;
    CHECK_ERROR(ddpm_engine_create(&desc, &engine), DDPM_ERROR_INVALID_ARGUMENT, "desc.cuda.stream: found 1, expected 0");
    desc.cuda = NULL;

    desc.provider_option_count = 1;
    CHECK_ERROR(ddpm_engine_create(&desc, &engine), DDPM_ERROR_INVALID_ARGUMENT, "desc.provider_options: found NULL");
    desc.provider_options = &option;
    CHECK_ERROR(ddpm_engine_create(&desc, &engine), DDPM_ERROR_INVALID_ARGUMENT, "desc.provider_options: key: found NULL");
    desc.provider_option_count = 1025;
    CHECK_ERROR(ddpm_engine_create(&desc, &engine), DDPM_ERROR_INVALID_ARGUMENT, "desc.provider_option_count: found 1025");
    CHECK(engine == NULL);

    /* A library that is none of the provider's is named when the model is loaded. */
    option.key = "key";
    desc.provider_option_count = 1;
    desc.provider = DDPM_PROVIDER_WEBGPU;
    desc.provider_library_path = path_in(models, "lin.onnx");
    CHECK_OK(ddpm_engine_create(&desc, &engine));
    CHECK_ERROR(ddpm_engine_wait(engine, DDPM_WAIT_FOREVER), DDPM_ERROR_PROVIDER, "lin.onnx: not a provider library");
    CHECK_OK(ddpm_engine_destroy(engine));
}

/* A struct_size that no compiler gives is refused; the bytes behind an honest one are not read. */
static void struct_sizes(const char *models) {
    struct {
        ddpm_engine_desc desc;
        unsigned char newer[64];
    } caller;
    const ddpm_engine_desc fresh = DDPM_ENGINE_DESC_INIT;
    const uint32_t known = (uint32_t)sizeof(ddpm_engine_desc);
    const uint32_t wrong[] = {0, 1, known + 1, 4104, 0xCDCDCDCDu};
    ddpm_engine *engine = NULL;
    size_t i;

    for (i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char expected[64];
        memset(&caller, 0xCD, sizeof caller);
        caller.desc.struct_size = wrong[i];
        sprintf(expected, "desc: struct_size is %lu, expected", (unsigned long)wrong[i]);
        CHECK_ERROR(ddpm_engine_create(&caller.desc, &engine), DDPM_ERROR_INVALID_ARGUMENT, expected);
        CHECK(strstr(ddpm_last_error(), "DDPM_ENGINE_DESC_INIT") != NULL);
    }

    /* A newer caller: refused while a field unknown here is set, accepted when none is. */
    memset(&caller, 0xCD, sizeof caller);
    caller.desc = fresh;
    caller.desc.model_path = path_in(models, "lin.onnx");
    caller.desc.struct_size = (uint32_t)sizeof caller;
    CHECK_ERROR(ddpm_engine_create(&caller.desc, &engine), DDPM_ERROR_INVALID_ARGUMENT, "is 0xcd");
    memset(caller.newer, 0, sizeof caller.newer);
    CHECK_OK(ddpm_engine_create(&caller.desc, &engine));
    CHECK_OK(ddpm_engine_destroy(engine));

    /* An older caller, whose struct ended behind model_path. */
    memset(&caller, 0xCD, sizeof caller);
    caller.desc.struct_size = 16;
    caller.desc.provider = DDPM_PROVIDER_CPU;
    caller.desc.model_path = path_in(models, "lin.onnx");
    CHECK_OK(ddpm_engine_create(&caller.desc, &engine));
    CHECK_OK(ddpm_engine_wait(engine, DDPM_WAIT_FOREVER));
    CHECK_OK(ddpm_engine_destroy(engine));
}

static void status_arguments(ddpm_engine *engine) {
    ddpm_engine_status status = DDPM_ENGINE_STATUS_INIT;
    CHECK_ERROR(ddpm_engine_get_status(NULL, &status), DDPM_ERROR_INVALID_ARGUMENT, "engine: found NULL");
    CHECK_ERROR(ddpm_engine_get_status(engine, NULL), DDPM_ERROR_INVALID_ARGUMENT, "status: found NULL");
    status.struct_size = 0;
    CHECK_ERROR(ddpm_engine_get_status(engine, &status), DDPM_ERROR_INVALID_ARGUMENT, "status: struct_size is 0");
    status.struct_size = (uint32_t)sizeof status;
    CHECK_OK(ddpm_engine_get_status(engine, &status));
    CHECK(status.state == DDPM_ENGINE_READY && status.stage == DDPM_LOAD_DONE && status.progress == 1);
}

static void info_arguments(ddpm_engine *engine) {
    struct {
        ddpm_engine_info info;
        unsigned char behind[16];
    } caller;
    ddpm_engine_info info = DDPM_ENGINE_INFO_INIT;
    size_t i;

    CHECK_ERROR(ddpm_engine_get_info(NULL, &info), DDPM_ERROR_INVALID_ARGUMENT, "engine: found NULL");
    CHECK_ERROR(ddpm_engine_get_info(engine, NULL), DDPM_ERROR_INVALID_ARGUMENT, "info: found NULL");
    info.struct_size = 0;
    CHECK_ERROR(ddpm_engine_get_info(engine, &info), DDPM_ERROR_INVALID_ARGUMENT, "info: struct_size is 0");
    CHECK(info.width == 0);

    /* An older caller's struct is filled no further than it reaches; a newer one's no further than
     * this library knows. */
    memset(&caller, 0xCD, sizeof caller);
    caller.info.struct_size = 16;
    CHECK_OK(ddpm_engine_get_info(engine, &caller.info));
    CHECK(caller.info.struct_size == 16 && caller.info.height == 8 && caller.info.width == 0xCDCDCDCDu);
    memset(&caller, 0xCD, sizeof caller);
    caller.info.struct_size = (uint32_t)sizeof caller;
    CHECK_OK(ddpm_engine_get_info(engine, &caller.info));
    CHECK(caller.info.width == 8 && caller.info.channels == 3 && caller.info.color == DDPM_COLOR_RGB);
    CHECK(caller.info.provider == DDPM_PROVIDER_CPU && caller.info.num_train_timesteps == 1000);
    CHECK(caller.info.prediction_type == DDPM_PREDICTION_EPSILON && caller.info.threads >= 1);
    CHECK(strcmp(caller.info.fallback_reason, "") == 0 && caller.info.runtime_path[0] != '\0');
    CHECK(strncmp(caller.info.runtime_version, "1.", 2) == 0);
    CHECK(strcmp(caller.info.device_name, "") == 0 && caller.info.device_memory == 0 && caller.info.free_device_memory == 0);
    for (i = 0; i < sizeof caller.behind; i++) {
        CHECK(caller.behind[i] == 0xCD);
    }
}

#define CHECK_FIELD(field, value, text)                                                            \
    do {                                                                                           \
        ddpm_stream_desc desc = DDPM_STREAM_DESC_INIT;                                             \
        desc.field = value;                                                                        \
        CHECK_ERROR(ddpm_stream_create(engine, &desc, &stream), DDPM_ERROR_INVALID_ARGUMENT, text); \
        CHECK(stream == NULL);                                                                     \
    } while (0)

static void stream_descriptors(ddpm_engine *engine) {
    ddpm_stream_desc good = DDPM_STREAM_DESC_INIT;
    ddpm_stream *stream = NULL;

    CHECK_ERROR(ddpm_stream_create(NULL, &good, &stream), DDPM_ERROR_INVALID_ARGUMENT, "engine: found NULL");
    CHECK_ERROR(ddpm_stream_create(engine, NULL, &stream), DDPM_ERROR_INVALID_ARGUMENT, "desc: found NULL");
    CHECK_ERROR(ddpm_stream_create(engine, &good, NULL), DDPM_ERROR_INVALID_ARGUMENT, "stream: found NULL");
    CHECK_FIELD(struct_size, 0, "desc: struct_size is 0");
    CHECK_FIELD(sampler, 999, "desc.sampler: found 999, expected one of DDPM_SAMPLER_DEFAULT (0), ddpm (1)");
    CHECK_FIELD(sampler, UINT32_MAX, "desc.sampler: found 4294967295");
    CHECK_FIELD(spacing, 4, "desc.spacing: found 4");
    CHECK_FIELD(clip, 4, "desc.clip: found 4");
    CHECK_FIELD(variance_type, 5, "desc.variance_type: found 5");
    CHECK_FIELD(preview, 3, "desc.preview: found 3");
    CHECK_FIELD(solver_type, 5, "desc.solver_type: found 5");
    CHECK_FIELD(sigmas, 4, "desc.sigmas: found 4");
    CHECK_FIELD(final_alpha, 3, "desc.final_alpha: found 3");
    CHECK_FIELD(clipped_epsilon, 3, "desc.clipped_epsilon: found 3, expected one of DDPM_SWITCH_DEFAULT (0)");
    CHECK_FIELD(lower_order_final, 3, "desc.lower_order_final: found 3");
    CHECK_FIELD(euler_at_final, 3, "desc.euler_at_final: found 3");
    CHECK_FIELD(fractional_timesteps, 3, "desc.fractional_timesteps: found 3");
    CHECK_FIELD(image_format, 2, "desc.image_format: found 2, expected one of DDPM_IMAGE_RGBA8 (0)");
    CHECK_FIELD(steps, 1001, "desc.steps: found 1001, expected 1 to 1000");
    CHECK_FIELD(steps, UINT32_MAX, "desc.steps: found 4294967295");
    CHECK_FIELD(eta, 0.5f, "desc.eta: found 0.5, but ddpm has none");
    CHECK_FIELD(solver_order, 2, "desc.solver_order: found 2, but ddpm has none");
    CHECK_FIELD(solver_type, DDPM_SOLVER_BH2, "desc.solver_type: found bh2, but ddpm has none");
    CHECK_FIELD(clipped_epsilon, DDPM_SWITCH_ON, "desc.clipped_epsilon: found true, but ddpm has none");
    CHECK_FIELD(clip_range, 1.0f, "desc.clip_range: found 1, expected 0 unless desc.clip is DDPM_CLIP_RANGE");
    CHECK_FIELD(dynamic_ratio, 0.9f, "desc.dynamic_ratio: found 0.9, expected 0 unless desc.clip is DDPM_CLIP_DYNAMIC");
    CHECK_FIELD(dynamic_max, 2, "desc.dynamic_max: found 2");
    CHECK_FIELD(image_row_stride, 32, "desc.image_row_stride: found 32, expected 0 as desc.image is NULL");
    good.clip = DDPM_CLIP_RANGE;
    CHECK_ERROR(ddpm_stream_create(engine, &good, &stream), DDPM_ERROR_INVALID_ARGUMENT, "desc.clip_range: found 0");
    good.clip = DDPM_CLIP_DYNAMIC;
    good.dynamic_ratio = 1.5f;
    CHECK_ERROR(ddpm_stream_create(engine, &good, &stream), DDPM_ERROR_INVALID_ARGUMENT, "desc.dynamic_ratio: found 1.5");
    good.dynamic_ratio = 0;
    good.dynamic_max = 0.5f;
    CHECK_ERROR(ddpm_stream_create(engine, &good, &stream), DDPM_ERROR_INVALID_ARGUMENT, "desc.dynamic_max: found 0.5");
    good.clip = DDPM_CLIP_DEFAULT;
    good.dynamic_max = 0;
    good.sampler = DDPM_SAMPLER_DPMPP;
    good.solver_order = 4;
    CHECK_ERROR(ddpm_stream_create(engine, &good, &stream), DDPM_ERROR_INVALID_ARGUMENT,
                "desc.solver_order: found 4 with dpmpp, expected 1 to 3");

    /* An older caller's struct, which ended behind `preview`: what lies behind it is not read. */
    memset(&good, 0xCD, sizeof good);
    memset(&good, 0, 48);
    good.struct_size = 48;
    good.steps = 3;
    CHECK_OK(ddpm_stream_create(engine, &good, &stream));
    CHECK_OK(ddpm_stream_destroy(stream));
}

static void stream_arguments(ddpm_stream *stream) {
    ddpm_stream_status status = DDPM_STREAM_STATUS_INIT;
    ddpm_frame_info info = DDPM_FRAME_INFO_INIT;
    unsigned char pixels[8 * 8 * 4];
    size_t i;

    CHECK_ERROR(ddpm_step(NULL), DDPM_ERROR_INVALID_ARGUMENT, "ddpm_step: stream: found NULL");
    CHECK_ERROR(ddpm_stream_get_status(NULL, &status), DDPM_ERROR_INVALID_ARGUMENT, "stream: found NULL");
    CHECK_ERROR(ddpm_stream_get_status(stream, NULL), DDPM_ERROR_INVALID_ARGUMENT, "status: found NULL");
    CHECK_ERROR(ddpm_stream_wait(NULL, 0), DDPM_ERROR_INVALID_ARGUMENT, "stream: found NULL");
    CHECK_ERROR(ddpm_stream_reset(NULL, 0), DDPM_ERROR_INVALID_ARGUMENT, "stream: found NULL");
    CHECK_ERROR(ddpm_stream_cancel(NULL), DDPM_ERROR_INVALID_ARGUMENT, "stream: found NULL");
    CHECK_ERROR(ddpm_stream_destroy(NULL), DDPM_ERROR_INVALID_ARGUMENT, "stream: found NULL");
    CHECK_ERROR(ddpm_stream_copy_frame(NULL, pixels, sizeof pixels, 0, NULL), DDPM_ERROR_INVALID_ARGUMENT,
                "stream: found NULL");
    CHECK_ERROR(ddpm_stream_copy_frame(stream, NULL, sizeof pixels, 0, NULL), DDPM_ERROR_INVALID_ARGUMENT, "dst: found NULL");

    finish(stream);
    memset(pixels, 0xCD, sizeof pixels);
    status.struct_size = 4;
    CHECK_ERROR(ddpm_stream_get_status(stream, &status), DDPM_ERROR_INVALID_ARGUMENT, "status: struct_size is 4");
    info.struct_size = 0;
    CHECK_ERROR(ddpm_stream_copy_frame(stream, pixels, sizeof pixels, 0, &info), DDPM_ERROR_INVALID_ARGUMENT,
                "info: struct_size is 0");
    info.struct_size = (uint32_t)sizeof info;
    CHECK_ERROR(ddpm_stream_copy_frame(stream, pixels, sizeof pixels - 1, 0, &info), DDPM_ERROR_INVALID_ARGUMENT, "255");
    CHECK_ERROR(ddpm_stream_copy_frame(stream, pixels, sizeof pixels, 31, &info), DDPM_ERROR_INVALID_ARGUMENT, "31");
    CHECK_ERROR(ddpm_stream_copy_frame(stream, pixels, sizeof pixels, UINT64_MAX, &info), DDPM_ERROR_INVALID_ARGUMENT,
                "row_stride");
    CHECK_ERROR(ddpm_stream_copy_frame(stream, pixels, UINT64_MAX, 0, &info), DDPM_ERROR_INVALID_ARGUMENT, "dst_size");
    CHECK(info.width == 0 && status.steps == 0);
    for (i = 0; i < sizeof pixels; i++) {
        CHECK(pixels[i] == 0xCD);
    }
    /* None of the refused calls took the frame away. */
    CHECK_OK(ddpm_stream_copy_frame(stream, pixels, sizeof pixels, 0, &info));
}

int main(int argc, char **argv) {
    ddpm_engine *engine;
    ddpm_stream *stream;
    CHECK(argc > 1);
    CHECK(strcmp(ddpm_last_error(), "") == 0);
    CHECK(ddpm_abi_version() == DDPM_ABI_VERSION);
    CHECK(strcmp(ddpm_result_name(DDPM_ERROR_NON_FINITE), "DDPM_ERROR_NON_FINITE") == 0);
    CHECK(strcmp(ddpm_result_name(12345), "unknown ddpm_result") == 0);
    engine_arguments(argv[1]);
    provider_arguments(argv[1]);
    struct_sizes(argv[1]);
    engine = load_engine(argv[1], "lin.onnx");
    status_arguments(engine);
    info_arguments(engine);
    stream_descriptors(engine);
    stream = make_stream(engine, 3, 1);
    stream_arguments(stream);
    CHECK_OK(ddpm_stream_destroy(stream));
    CHECK_OK(ddpm_engine_destroy(engine));
    return 0;
}
