/* Frames in every format, copied and acquired: an acquired frame is the copied one, and stays. */
#include <math.h>
#include <stddef.h>

#include "check.h"

enum { WIDTH = 8, HEIGHT = 8, PIXELS = WIDTH * HEIGHT, LARGEST = PIXELS * 16 };

static const struct {
    uint32_t format;
    uint32_t pixel;
} FORMATS[] = {{DDPM_FRAME_RGBA8, 4}, {DDPM_FRAME_RGBA32F, 16}, {DDPM_FRAME_PLANAR_F32, 4}};

static ddpm_stream *stream_of(ddpm_engine *engine, uint32_t format, uint32_t steps) {
    ddpm_stream_desc desc = DDPM_STREAM_DESC_INIT;
    ddpm_stream *stream = NULL;
    desc.frame_format = format;
    desc.steps = steps;
    desc.seed = 7;
    /* Values beyond -1..1 too. */
    desc.preview = DDPM_PREVIEW_SAMPLE;
    CHECK_OK(ddpm_stream_create(engine, &desc, &stream));
    return stream;
}

static void step_once(ddpm_stream *stream) {
    CHECK_OK(ddpm_step(stream));
    CHECK_OK(ddpm_stream_wait(stream, DDPM_WAIT_FOREVER));
}

static uint32_t rows_of(uint32_t format, uint32_t channels) {
    return format == DDPM_FRAME_PLANAR_F32 ? channels * HEIGHT : HEIGHT;
}

/* Copies to rows with gaps, an odd distance apart and from an odd address on, and closes the gaps. */
static void copy_with_gaps(ddpm_stream *stream, uint32_t row, uint32_t rows, unsigned char *tight) {
    static unsigned char wide[4 * HEIGHT * (WIDTH * 16 + 5) + 1];
    const uint32_t stride = row + 5;
    /* The last row needs no gap behind it. */
    const uint64_t size = (uint64_t)stride * (rows - 1) + row;
    uint32_t y, x;
    memset(wide, 0xCD, sizeof wide);
    CHECK_ERROR(ddpm_stream_copy_frame(stream, wide + 1, size - 1, stride, NULL), DDPM_ERROR_INVALID_ARGUMENT, "frame buffer");
    CHECK_ERROR(ddpm_stream_copy_frame(stream, wide + 1, size, row - 1, NULL), DDPM_ERROR_INVALID_ARGUMENT, "row_stride");
    CHECK_ERROR(ddpm_stream_copy_frame(stream, wide + 1, size, UINT64_MAX / 2, NULL), DDPM_ERROR_INVALID_ARGUMENT, "frame buffer");
    CHECK(wide[1] == 0xCD);
    CHECK_OK(ddpm_stream_copy_frame(stream, wide + 1, size, stride, NULL));
    CHECK(wide[0] == 0xCD && wide[size + 1] == 0xCD);
    for (y = 0; y < rows; y++) {
        const unsigned char *line = wide + 1 + y * stride;
        memcpy(tight + y * row, line, row);
        for (x = row; x < stride && y + 1 < rows; x++) {
            CHECK(line[x] == 0xCD);
        }
    }
}

/* One picture, three ways: `planar` has the values that the other two come from. */
static void formats_agree(const unsigned char *bytes, const float *rgba, const float *planar, uint32_t channels) {
    uint32_t i, c, outside = 0;
    for (i = 0; i < PIXELS; i++) {
        for (c = 0; c < 4; c++) {
            const int has_value = c < 3 || channels == 4;
            const float value = has_value ? planar[(channels == 1 ? 0 : c) * PIXELS + i] : 1.0f;
            const float held = value < -1.0f ? -1.0f : value > 1.0f ? 1.0f : value;
            CHECK(rgba[i * 4 + c] == (value + 1.0f) / 2.0f);
            CHECK(bytes[i * 4 + c] == (unsigned char)floorf(held * 127.5f + (held == 1.0f ? 127.5f : 128.0f)));
            outside += held != value;
        }
    }
    CHECK(outside > 0);
}

static void a_view_is_the_copied_frame(const char *models, const char *name, uint32_t channels) {
    ddpm_engine *engine = load_engine(models, name);
    static float found[3][LARGEST / 4];
    static unsigned char padded[LARGEST];
    size_t i;
    for (i = 0; i < 3; i++) {
        const uint32_t row = WIDTH * FORMATS[i].pixel, rows = rows_of(FORMATS[i].format, channels);
        ddpm_stream *copied = stream_of(engine, FORMATS[i].format, 3);
        ddpm_stream *viewed = stream_of(engine, FORMATS[i].format, 3);
        ddpm_stream *spaced = stream_of(engine, FORMATS[i].format, 3);
        ddpm_frame_info info = DDPM_FRAME_INFO_INIT;
        ddpm_frame_view view = DDPM_FRAME_VIEW_INIT;
        CHECK_RESULT(ddpm_stream_acquire_frame(viewed, &view), DDPM_NO_NEW_FRAME);
        CHECK(view.pixels == NULL);
        step_once(copied);
        step_once(viewed);
        step_once(spaced);
        CHECK_OK(ddpm_stream_copy_frame(copied, found[i], row * rows, 0, &info));
        CHECK_OK(ddpm_stream_acquire_frame(viewed, &view));
        CHECK(view.struct_size == sizeof view && view.size == row * rows && view.row_stride == row);
        CHECK((uintptr_t)view.pixels % 64 == 0);
        CHECK(memcmp(view.pixels, found[i], row * rows) == 0);
        CHECK(view.width == WIDTH && view.height == HEIGHT && view.step == 1 && view.steps == 3);
        CHECK(info.width == WIDTH && info.height == HEIGHT && info.step == 1 && info.steps == 3);
        CHECK(view.generation == 1 && info.generation == 1);
        copy_with_gaps(spaced, row, rows, padded);
        CHECK(memcmp(padded, found[i], row * rows) == 0);
        CHECK_OK(ddpm_stream_release_frame(viewed));
        CHECK_RESULT(ddpm_stream_acquire_frame(viewed, &view), DDPM_NO_NEW_FRAME);
        CHECK_OK(ddpm_stream_destroy(copied));
        CHECK_OK(ddpm_stream_destroy(viewed));
        CHECK_OK(ddpm_stream_destroy(spaced));
    }
    formats_agree((const unsigned char *)found[0], found[1], found[2], channels);
    CHECK_OK(ddpm_engine_destroy(engine));
}

static void an_acquired_frame_stays_whatever_happens(const char *models) {
    ddpm_engine *engine = load_engine(models, "lin.onnx");
    ddpm_stream *stream = stream_of(engine, DDPM_FRAME_RGBA32F, 60);
    ddpm_stream_status status = DDPM_STREAM_STATUS_INIT;
    ddpm_frame_view view = DDPM_FRAME_VIEW_INIT, other = DDPM_FRAME_VIEW_INIT;
    static unsigned char before[LARGEST], copy[LARGEST];
    int i;
    step_once(stream);
    CHECK_OK(ddpm_stream_acquire_frame(stream, &view));
    memcpy(before, view.pixels, LARGEST);
    memset(copy, 0xCD, sizeof copy);
    for (i = 0; i < 50; i++) {
        step_once(stream);
        CHECK_RESULT(ddpm_stream_acquire_frame(stream, &other), DDPM_BUSY);
        CHECK_RESULT(ddpm_stream_copy_frame(stream, copy, sizeof copy, 0, NULL), DDPM_BUSY);
        CHECK(memcmp(view.pixels, before, LARGEST) == 0);
    }
    CHECK(other.pixels == NULL && other.generation == 0 && copy[0] == 0xCD);
    CHECK_OK(ddpm_stream_reset(stream, 8));
    step_once(stream);
    CHECK_OK(ddpm_step(stream));
    CHECK_OK(ddpm_stream_cancel(stream));
    CHECK(memcmp(view.pixels, before, LARGEST) == 0);
    CHECK_OK(ddpm_stream_release_frame(stream));
    /* BUSY took nothing away: the newest frame is there, and only it. */
    CHECK_OK(ddpm_stream_acquire_frame(stream, &view));
    CHECK_OK(ddpm_stream_get_status(stream, &status));
    CHECK(view.step == 1 && view.generation == 52 && status.generation == 52);
    CHECK(memcmp(view.pixels, before, LARGEST) != 0);
    memcpy(before, view.pixels, LARGEST);
    CHECK_OK(ddpm_engine_destroy(engine));
    CHECK(memcmp(view.pixels, before, LARGEST) == 0);
    /* Held to the end: the destroy releases it. */
    CHECK_OK(ddpm_stream_destroy(stream));
}

static void a_frame_overtaken_by_a_reset_is_not_acquired(const char *models) {
    ddpm_engine *engine = load_engine(models, "lin.onnx");
    ddpm_stream *stream = stream_of(engine, DDPM_FRAME_RGBA8, 3);
    ddpm_frame_view view = DDPM_FRAME_VIEW_INIT;
    step_once(stream);
    CHECK_OK(ddpm_stream_reset(stream, 7));
    CHECK_RESULT(ddpm_stream_acquire_frame(stream, &view), DDPM_NO_NEW_FRAME);
    step_once(stream);
    CHECK_OK(ddpm_stream_acquire_frame(stream, &view));
    CHECK(view.step == 1 && view.generation == 2);
    CHECK_OK(ddpm_stream_destroy(stream));
    CHECK_OK(ddpm_engine_destroy(engine));
}

static void misuse_is_an_error(const char *models) {
    ddpm_engine *engine = load_engine(models, "lin.onnx");
    ddpm_stream *stream = stream_of(engine, DDPM_FRAME_RGBA8, 3), *refused = NULL;
    ddpm_stream_desc desc = DDPM_STREAM_DESC_INIT;
    ddpm_frame_view view = DDPM_FRAME_VIEW_INIT;
    desc.frame_format = 3;
    CHECK_ERROR(ddpm_stream_create(engine, &desc, &refused), DDPM_ERROR_INVALID_ARGUMENT,
                "desc.frame_format: found 3, expected one of DDPM_FRAME_RGBA8 (0)");
    CHECK_ERROR(ddpm_stream_acquire_frame(NULL, &view), DDPM_ERROR_INVALID_ARGUMENT, "stream: found NULL");
    CHECK_ERROR(ddpm_stream_release_frame(NULL), DDPM_ERROR_INVALID_ARGUMENT, "stream: found NULL");
    CHECK_ERROR(ddpm_stream_release_frame(stream), DDPM_ERROR_INVALID_ARGUMENT, "no acquired frame");
    step_once(stream);
    CHECK_ERROR(ddpm_stream_acquire_frame(stream, NULL), DDPM_ERROR_INVALID_ARGUMENT, "view: found NULL");
    view.struct_size = 0;
    CHECK_ERROR(ddpm_stream_acquire_frame(stream, &view), DDPM_ERROR_INVALID_ARGUMENT, "view: struct_size is 0");
    CHECK_ERROR(ddpm_stream_release_frame(stream), DDPM_ERROR_INVALID_ARGUMENT, "no acquired frame");
    /* Nothing behind the size that the caller says is written. */
    view.struct_size = (uint32_t)offsetof(ddpm_frame_view, size);
    view.size = 99;
    CHECK_OK(ddpm_stream_acquire_frame(stream, &view));
    CHECK(view.pixels != NULL && view.size == 99 && view.row_stride == 0);
    CHECK_OK(ddpm_stream_release_frame(stream));
    CHECK_ERROR(ddpm_stream_release_frame(stream), DDPM_ERROR_INVALID_ARGUMENT, "no acquired frame");
    CHECK_OK(ddpm_stream_destroy(stream));
    CHECK_OK(ddpm_engine_destroy(engine));
}

int main(int argc, char **argv) {
    CHECK(argc > 1);
    a_view_is_the_copied_frame(argv[1], "gray.onnx", 1);
    a_view_is_the_copied_frame(argv[1], "lin.onnx", 3);
    a_view_is_the_copied_frame(argv[1], "rgba.onnx", 4);
    an_acquired_frame_stays_whatever_happens(argv[1]);
    a_frame_overtaken_by_a_reset_is_not_acquired(argv[1]);
    misuse_is_an_error(argv[1]);
    return 0;
}
