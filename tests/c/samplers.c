/* Everything a sampler can do, from C: numbers and names, start images, timesteps, classes, noise. */
#include <math.h>

#include "check.h"

enum { WIDTH = 8, HEIGHT = 8, PIXELS = WIDTH * HEIGHT, ROW = WIDTH * 4, SIZE = ROW * HEIGHT };

static ddpm_stream_status status_of(ddpm_stream *stream) {
    ddpm_stream_status status = DDPM_STREAM_STATUS_INIT;
    CHECK_OK(ddpm_stream_get_status(stream, &status));
    return status;
}

static ddpm_stream *stream_of(ddpm_engine *engine, const ddpm_stream_desc *desc) {
    ddpm_stream *stream = NULL;
    CHECK_OK(ddpm_stream_create(engine, desc, &stream));
    return stream;
}

/* The last frame of a stream made from `desc`; gives the steps it took. */
static uint32_t reveal(ddpm_engine *engine, const ddpm_stream_desc *desc, unsigned char *pixels) {
    ddpm_stream *stream = stream_of(engine, desc);
    uint32_t steps = status_of(stream).steps;
    finish(stream);
    CHECK(status_of(stream).state == DDPM_STREAM_DONE);
    CHECK_OK(ddpm_stream_copy_frame(stream, pixels, SIZE, 0, NULL));
    CHECK_OK(ddpm_stream_destroy(stream));
    return steps;
}

static void refused(ddpm_engine *engine, const ddpm_stream_desc *desc, const char *text) {
    ddpm_stream *stream = NULL;
    CHECK_ERROR(ddpm_stream_create(engine, desc, &stream), DDPM_ERROR_INVALID_ARGUMENT, text);
    CHECK(stream == NULL);
}

/* Pixels that are no ramp, a different value in every channel. */
static void paint(unsigned char *pixels) {
    int i;
    for (i = 0; i < SIZE; i++) {
        pixels[i] = (unsigned char)(i % 4 == 3 ? 255 : 3 + 37 * i % 251);
    }
}

/* The picture that the oracle model knows: ramps from edge to edge. */
static int is_known_picture(const unsigned char *pixels) {
    int y, x, channel;
    for (y = 0; y < HEIGHT; y++) {
        for (x = 0; x < WIDTH; x++) {
            const double v = y / 3.5 - 1, u = x / 3.5 - 1;
            const double known[3] = {u / 4, v / 2, (u + v) * 3 / 8};
            for (channel = 0; channel < 3; channel++) {
                /* Rounding may fall either way where the chain of floats lands near a half. */
                if (fabs(pixels[y * ROW + x * 4 + channel] - (127.5 * known[channel] + 127.5)) > 1.5) {
                    return 0;
                }
            }
        }
    }
    return 1;
}

static void every_sampler_ends_in_the_known_picture(ddpm_engine *engine) {
    uint32_t number;
    for (number = 1; ddpm_sampler_name(number) != NULL; number++) {
        ddpm_stream_desc desc = DDPM_STREAM_DESC_INIT;
        unsigned char pixels[SIZE];
        uint32_t found = 0, order = 99;
        CHECK_OK(ddpm_sampler_from_name(ddpm_sampler_name(number), &found, &order));
        CHECK(found == number && order == 0);
        if (number == DDPM_SAMPLER_DDIM_INVERSE) {
            desc.sampler = number;
            refused(engine, &desc, "desc.image: found none, but ddim-inverse starts from one");
            continue;
        }
        desc.sampler = number;
        desc.steps = 12;
        CHECK(reveal(engine, &desc, pixels) >= 12);
        if (!is_known_picture(pixels)) {
            fprintf(stderr, "%s does not end in the picture\n", ddpm_sampler_name(number));
            exit(1);
        }
    }
    CHECK(number > DDPM_SAMPLER_TCD);
    CHECK(ddpm_sampler_name(DDPM_SAMPLER_DEFAULT) == NULL && ddpm_sampler_name(UINT32_MAX) == NULL);
    CHECK(strcmp(ddpm_sampler_name(DDPM_SAMPLER_DPMPP), "dpmpp") == 0);
}

static void names_stand_for_a_sampler_and_an_order(void) {
    uint32_t sampler = 77, order = 77;
    CHECK_OK(ddpm_sampler_from_name("dpmpp-3m", &sampler, &order));
    CHECK(sampler == DDPM_SAMPLER_DPMPP && order == 3);
    CHECK_OK(ddpm_sampler_from_name("plms", &sampler, NULL));
    CHECK(sampler == DDPM_SAMPLER_PNDM);
    CHECK_ERROR(ddpm_sampler_from_name("best", &sampler, &order), DDPM_ERROR_INVALID_ARGUMENT, "sampler: found \"best\"");
    CHECK(strstr(ddpm_last_error(), "dpmpp-2m") != NULL);
    CHECK_ERROR(ddpm_sampler_from_name(NULL, &sampler, &order), DDPM_ERROR_INVALID_ARGUMENT, "name: found NULL");
    CHECK_ERROR(ddpm_sampler_from_name("ddim", NULL, &order), DDPM_ERROR_INVALID_ARGUMENT, "sampler: found NULL");
    CHECK_ERROR(ddpm_sampler_from_name("dd\xFFm", &sampler, &order), DDPM_ERROR_INVALID_ARGUMENT, "UTF-8 from byte 2");
    CHECK(sampler == DDPM_SAMPLER_PNDM && order == 3);
}

/* Zeros are what the model says of itself, and saying the same by hand is the same picture. */
static void zero_is_the_models_own(ddpm_engine *engine) {
    ddpm_engine_info info = DDPM_ENGINE_INFO_INIT;
    ddpm_stream_desc plain = DDPM_STREAM_DESC_INIT;
    ddpm_stream_desc spelt = DDPM_STREAM_DESC_INIT;
    unsigned char pixels[SIZE], same[SIZE];
    CHECK_OK(ddpm_engine_get_info(engine, &info));
    CHECK(info.sampler == DDPM_SAMPLER_DDPM && info.steps == 50 && info.gives_variance == 0);
    CHECK(info.takes_class_label == 0 && info.class_count == 0 && info.has_null_label == 0);
    spelt.sampler = info.sampler;
    spelt.steps = info.steps;
    spelt.spacing = DDPM_SPACING_TRAILING;
    spelt.clip = DDPM_CLIP_RANGE;
    spelt.clip_range = 1;
    spelt.variance_type = DDPM_VARIANCE_FIXED_SMALL;
    spelt.preview = DDPM_PREVIEW_PREDICTION;
    spelt.sigmas = DDPM_SIGMAS_TIMESTEPS;
    spelt.final_alpha = DDPM_FINAL_ALPHA_ONE;
    spelt.lower_order_final = DDPM_SWITCH_ON;
    spelt.euler_at_final = DDPM_SWITCH_OFF;
    spelt.original_steps = 50;
    spelt.strength = 1;
    spelt.guidance = 1;
    CHECK(reveal(engine, &plain, pixels) == 50 && reveal(engine, &spelt, same) == 50);
    CHECK(memcmp(pixels, same, SIZE) == 0);
}

/* Each setting alone makes another picture than the sampler without it and than all the others. */
static void every_setting_is_taken(ddpm_engine *engine) {
    enum { SETTINGS = 19 };
    static unsigned char pixels[SETTINGS][SIZE];
    static const uint32_t list[] = {950, 700, 333, 40};
    int setting, other;
    for (setting = 0; setting < SETTINGS; setting++) {
        ddpm_stream_desc desc = DDPM_STREAM_DESC_INIT;
        uint32_t steps = 7;
        desc.sampler = DDPM_SAMPLER_DPMPP;
        desc.steps = steps;
        /* The prediction does not show where the last step goes to. */
        desc.preview = DDPM_PREVIEW_SAMPLE;
        switch (setting) {
            case 0: break;
            case 1: desc.solver_order = 1; break;
            case 2: desc.solver_order = 3; break;
            case 3: desc.solver_type = DDPM_SOLVER_HEUN; break;
            case 4: desc.sigmas = DDPM_SIGMAS_KARRAS; break;
            case 5: desc.sigmas = DDPM_SIGMAS_EXPONENTIAL; break;
            case 6: desc.final_alpha = DDPM_FINAL_ALPHA_FIRST; break;
            case 7: desc.spacing = DDPM_SPACING_LEADING; break;
            case 8: desc.spacing = DDPM_SPACING_LEADING; desc.steps_offset = 30; break;
            case 9: desc.timesteps = list; desc.timestep_count = 4; desc.steps = 0; steps = 4; break;
            case 10: desc.clip = DDPM_CLIP_DYNAMIC; break;
            case 11: desc.clip = DDPM_CLIP_DYNAMIC; desc.dynamic_ratio = 0.5f; desc.dynamic_max = 4; break;
            case 12: desc.clip = DDPM_CLIP_OFF; break;
            case 13: desc.solver_order = 3; desc.lower_order_final = DDPM_SWITCH_OFF; break;
            case 14: desc.sampler = DDPM_SAMPLER_DDIM; desc.clipped_epsilon = DDPM_SWITCH_ON; break;
            case 15: desc.sampler = DDPM_SAMPLER_UNIPC; desc.solver_type = DDPM_SOLVER_BH1; break;
            case 16: desc.sampler = DDPM_SAMPLER_UNIPC; desc.solver_type = DDPM_SOLVER_BH2; break;
            case 17: desc.sampler = DDPM_SAMPLER_LCM; break;
            default: desc.sampler = DDPM_SAMPLER_LCM; desc.original_steps = 20; break;
        }
        CHECK(reveal(engine, &desc, pixels[setting]) == steps);
        for (other = 0; other < setting; other++) {
            /* Dynamic thresholding with a largest s of 1 is clipping to 1; DPM-Solver++ of order 1 is DDIM
             * with the noise taken from the clipped picture. */
            int is_same_rule = (setting == 10 && other == 0) || (setting == 14 && other == 1);
            if (!is_same_rule && memcmp(pixels[other], pixels[setting], SIZE) == 0) {
                fprintf(stderr, "settings %d and %d give the same picture\n", other, setting);
                exit(1);
            }
        }
    }
    /* The last of 15 or more steps has order 1 only if asked for. */
    for (setting = 0; setting < 2; setting++) {
        ddpm_stream_desc desc = DDPM_STREAM_DESC_INIT;
        desc.sampler = DDPM_SAMPLER_DPMPP;
        desc.steps = 16;
        desc.final_alpha = DDPM_FINAL_ALPHA_FIRST;
        desc.preview = DDPM_PREVIEW_SAMPLE;
        desc.euler_at_final = setting == 0 ? DDPM_SWITCH_OFF : DDPM_SWITCH_ON;
        reveal(engine, &desc, pixels[setting]);
    }
    CHECK(memcmp(pixels[0], pixels[1], SIZE) != 0);
}

static void strength_is_the_share_of_the_steps(ddpm_engine *engine) {
    static const struct {
        float strength;
        uint32_t steps, taken;
    } cases[] = {{0.04f, 20, 0}, {0.29f, 100, 29}, {0.29f, 1000, 290}, {0.5f, 9, 4}, {1, 20, 20}};
    ddpm_stream_desc desc = DDPM_STREAM_DESC_INIT;
    unsigned char image[SIZE], pixels[SIZE];
    size_t i;
    paint(image);
    desc.image = image;
    desc.image_size = sizeof image;
    desc.sampler = DDPM_SAMPLER_DDIM;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        desc.steps = cases[i].steps;
        desc.strength = cases[i].strength;
        CHECK(reveal(engine, &desc, pixels) == cases[i].taken);
        CHECK(cases[i].taken == 0 ? memcmp(pixels, image, SIZE) == 0 : is_known_picture(pixels));
    }
    desc.strength = 1.01f;
    refused(engine, &desc, "desc.strength: found 1.01, expected 0 to 1");
    desc.strength = -0.5f;
    refused(engine, &desc, "desc.strength: found -0.5");
    desc.strength = (float)NAN;
    refused(engine, &desc, "desc.strength: found NaN");
    desc.image = NULL;
    desc.image_size = 0;
    desc.strength = 0.5f;
    refused(engine, &desc, "desc.strength: found 0.5 without an image");
}

static void a_stream_without_steps_is_its_image(ddpm_engine *engine) {
    ddpm_stream_desc desc = DDPM_STREAM_DESC_INIT;
    ddpm_frame_info info = DDPM_FRAME_INFO_INIT;
    ddpm_stream *stream;
    unsigned char wide[HEIGHT][ROW + 12], pixels[SIZE], image[SIZE];
    uint64_t generation;
    int y;
    paint(image);
    memset(wide, 0xCD, sizeof wide);
    for (y = 0; y < HEIGHT; y++) {
        memcpy(wide[y], image + y * ROW, ROW);
    }
    desc.image = wide;
    desc.image_row_stride = sizeof wide[0];
    desc.image_size = sizeof wide - 12;
    stream = stream_of(engine, &desc);
    /* The image was copied: it may change, or go. */
    memset(wide, 0, sizeof wide);
    for (generation = 1; generation <= 2; generation++) {
        CHECK(status_of(stream).state == DDPM_STREAM_DONE && status_of(stream).steps == 0);
        CHECK(status_of(stream).generation == generation);
        CHECK_RESULT(ddpm_step(stream), DDPM_DONE);
        CHECK_OK(ddpm_stream_copy_frame(stream, pixels, SIZE, 0, &info));
        CHECK(info.step == 0 && info.steps == 0 && info.generation == generation);
        CHECK(memcmp(pixels, image, SIZE) == 0);
        CHECK_OK(ddpm_stream_reset(stream, 4));
    }
    CHECK_OK(ddpm_stream_destroy(stream));
}

static void images_of_both_formats_are_the_same(ddpm_engine *engine) {
    ddpm_stream_desc desc = DDPM_STREAM_DESC_INIT;
    unsigned char image[SIZE], bytes[SIZE], floats[SIZE];
    float planar[3 * PIXELS];
    int i;
    paint(image);
    for (i = 0; i < 3 * PIXELS; i++) {
        planar[i] = (float)image[i % PIXELS * 4 + i / PIXELS] / 127.5f - 1.0f;
    }
    desc.sampler = DDPM_SAMPLER_DPMPP_SDE;
    desc.steps = 10;
    desc.strength = 0.5f;
    desc.image = image;
    desc.image_size = sizeof image;
    CHECK(reveal(engine, &desc, bytes) == 5);
    desc.image_size = sizeof image - 1;
    refused(engine, &desc, "desc.image_size: found 255 bytes, expected 256");
    desc.image_row_stride = ROW - 1;
    refused(engine, &desc, "desc.image_row_stride: found 31 bytes, expected at least 32");
    desc.image_row_stride = UINT64_MAX;
    refused(engine, &desc, "desc.image_row_stride: found 18446744073709551615");
    desc.image_row_stride = 0;
    desc.image_size = UINT64_MAX;
    refused(engine, &desc, "desc.image_size: found 18446744073709551615");

    desc.image = planar;
    desc.image_size = sizeof planar;
    desc.image_format = DDPM_IMAGE_PLANAR_F32;
    CHECK(reveal(engine, &desc, floats) == 5);
    CHECK(memcmp(bytes, floats, SIZE) == 0);
    desc.image_row_stride = ROW;
    refused(engine, &desc, "desc.image_row_stride: found 32, expected 0 with DDPM_IMAGE_PLANAR_F32");
    desc.image_row_stride = 0;
    desc.image_size = sizeof planar + 4;
    refused(engine, &desc, "desc.image_size: found 772 bytes, expected 768");
    desc.image_size = sizeof planar;
    planar[7] = (float)INFINITY;
    refused(engine, &desc, "desc.image: found a value that is not finite");
    desc.image = NULL;
    refused(engine, &desc, "desc.image_size: found 768, expected 0 as desc.image is NULL");
}

static void the_inverse_goes_from_the_picture_up_to_noise(ddpm_engine *engine) {
    ddpm_stream_desc desc = DDPM_STREAM_DESC_INIT;
    ddpm_stream *stream;
    unsigned char image[SIZE], pixels[SIZE];
    paint(image);
    desc.sampler = DDPM_SAMPLER_DDIM_INVERSE;
    desc.steps = 20;
    desc.image = image;
    desc.image_size = sizeof image;
    desc.preview = DDPM_PREVIEW_SAMPLE;
    stream = stream_of(engine, &desc);
    CHECK(status_of(stream).steps == 20);
    /* From the clean end up. */
    CHECK(status_of(stream).timestep < 50);
    finish(stream);
    CHECK(status_of(stream).timestep > 949);
    CHECK_OK(ddpm_stream_copy_frame(stream, pixels, SIZE, 0, NULL));
    CHECK(memcmp(pixels, image, SIZE) != 0);
    CHECK_OK(ddpm_stream_destroy(stream));
}

static void timesteps_are_visited_as_given(ddpm_engine *engine) {
    static const uint32_t good[] = {999, 700, 699, 0}, twice[] = {500, 500}, rising[] = {1, 2}, high[] = {1000};
    static const uint32_t last[] = {4294967295u};
    const struct {
        const uint32_t *list;
        uint64_t count;
        const char *text;
    } bad[] = {
        {twice, 2, "desc.timesteps[1]: found 500 after 500"},
        {rising, 2, "desc.timesteps[1]: found 2 after 1"},
        {high, 1, "desc.timesteps[0]: found 1000, expected 0 to 999"},
        {last, 1, "desc.timesteps[0]: found 4294967295"},
        {good, 0, "desc.timesteps: found none"},
        {NULL, 3, "desc.timestep_count: found 3, expected 0 as desc.timesteps is NULL"},
        {good, UINT64_MAX, "desc.timestep_count: found 18446744073709551615"},
        {good, (uint64_t)1 << 40, "desc.timestep_count: found 1099511627776, expected at most 1000"},
    };
    ddpm_stream_desc desc = DDPM_STREAM_DESC_INIT;
    ddpm_stream *stream;
    size_t i;
    desc.sampler = DDPM_SAMPLER_DDIM;
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        desc.timesteps = bad[i].list;
        desc.timestep_count = bad[i].count;
        refused(engine, &desc, bad[i].text);
    }
    desc.timesteps = good;
    desc.timestep_count = 4;
    stream = stream_of(engine, &desc);
    CHECK(status_of(stream).steps == 4);
    for (i = 0; i < 4; i++) {
        CHECK(status_of(stream).timestep == good[i]);
        CHECK_OK(ddpm_step(stream));
        CHECK_OK(ddpm_stream_wait(stream, DDPM_WAIT_FOREVER));
    }
    CHECK_OK(ddpm_stream_destroy(stream));
    desc.steps = 4;
    refused(engine, &desc, "desc.steps: found 4, expected 0 as desc.timesteps is set");
}

static void noise_is_added_by_the_models_schedule(ddpm_engine *engine) {
    /* More than a block of the library's, and not a whole number of them. */
    enum { COUNT = 1000 };
    float x0[COUNT], noise[COUNT], out[COUNT], in_place[COUNT];
    double alpha_bar = 1;
    int t, i;
    for (i = 0; i < COUNT; i++) {
        x0[i] = (float)i / 500 - 1;
        noise[i] = (float)(i * 37 % 101) / 50 - 1;
    }
    for (t = 0; t < 1000; t++) {
        /* The DDPM paper's: linear betas from 1e-4 to 0.02. */
        alpha_bar *= 1 - (1e-4 + (0.02 - 1e-4) * t / 999);
        if (t % 333 != 0) {
            continue;
        }
        CHECK_OK(ddpm_engine_add_noise(engine, x0, noise, COUNT, (uint32_t)t, out));
        for (i = 0; i < COUNT; i++) {
            /* The sum is of floats up to 1.5. */
            CHECK(fabs(out[i] - (sqrt(alpha_bar) * x0[i] + sqrt(1 - alpha_bar) * noise[i])) < 5e-7);
        }
        memcpy(in_place, x0, sizeof x0);
        CHECK_OK(ddpm_engine_add_noise(engine, in_place, noise, COUNT, (uint32_t)t, in_place));
        CHECK(memcmp(in_place, out, sizeof out) == 0);
        memcpy(in_place, noise, sizeof noise);
        CHECK_OK(ddpm_engine_add_noise(engine, x0, in_place, COUNT, (uint32_t)t, in_place));
        CHECK(memcmp(in_place, out, sizeof out) == 0);
    }
    CHECK_OK(ddpm_engine_add_noise(engine, x0, noise, 0, 0, out));
    CHECK_ERROR(ddpm_engine_add_noise(engine, x0, noise, COUNT, 1000, out), DDPM_ERROR_INVALID_ARGUMENT,
                "timestep: found 1000, expected 0 to 999");
    CHECK_ERROR(ddpm_engine_add_noise(engine, x0, noise, UINT64_MAX, 0, out), DDPM_ERROR_INVALID_ARGUMENT, "count: found");
    CHECK_ERROR(ddpm_engine_add_noise(NULL, x0, noise, COUNT, 0, out), DDPM_ERROR_INVALID_ARGUMENT, "engine: found NULL");
    CHECK_ERROR(ddpm_engine_add_noise(engine, NULL, noise, COUNT, 0, out), DDPM_ERROR_INVALID_ARGUMENT, "x0: found NULL");
    CHECK_ERROR(ddpm_engine_add_noise(engine, x0, NULL, COUNT, 0, out), DDPM_ERROR_INVALID_ARGUMENT, "noise: found NULL");
    CHECK_ERROR(ddpm_engine_add_noise(engine, x0, noise, COUNT, 0, NULL), DDPM_ERROR_INVALID_ARGUMENT, "out: found NULL");
    CHECK(memcmp(in_place, out, sizeof out) == 0);
}

static void a_model_without_classes_refuses_them(ddpm_engine *engine) {
    ddpm_stream_desc desc = DDPM_STREAM_DESC_INIT;
    const char *name = "untouched";
    desc.has_class_label = 1;
    refused(engine, &desc, "desc.class_label: found 0, but the model has no classes");
    desc.has_class_label = 2;
    refused(engine, &desc, "desc.has_class_label: found 2, expected 0 or 1");
    desc.has_class_label = 0;
    desc.class_label = 3;
    refused(engine, &desc, "desc.class_label: found 3, expected 0 unless desc.has_class_label is 1");
    desc.class_label = 0;
    desc.guidance = 2;
    refused(engine, &desc, "desc.guidance: found 2, but the model has no classes");
    desc.guidance = (float)NAN;
    refused(engine, &desc, "desc.guidance: found NaN");
    desc.guidance = 0;
    desc.variance_type = DDPM_VARIANCE_LEARNED_RANGE;
    refused(engine, &desc, "desc.variance_type: found learned_range");
    CHECK_ERROR(ddpm_engine_get_class_name(engine, 0, &name), DDPM_ERROR_INVALID_ARGUMENT,
                "label: found 0, but the model names no classes");
    CHECK_ERROR(ddpm_engine_get_class_name(NULL, 0, &name), DDPM_ERROR_INVALID_ARGUMENT, "engine: found NULL");
    CHECK_ERROR(ddpm_engine_get_class_name(engine, 0, NULL), DDPM_ERROR_INVALID_ARGUMENT, "name: found NULL");
    CHECK(strcmp(name, "untouched") == 0);
}

static void classes_make_pictures_of_their_own(ddpm_engine *engine) {
    static const char *const names[] = {"cat", "dog", "owl"};
    enum { PICTURES = 6 };
    unsigned char pixels[PICTURES][SIZE];
    ddpm_engine_info info = DDPM_ENGINE_INFO_INIT;
    ddpm_stream_desc desc = DDPM_STREAM_DESC_INIT;
    const char *name = NULL;
    int64_t label;
    int picture, other;
    CHECK_OK(ddpm_engine_get_info(engine, &info));
    CHECK(info.takes_class_label == 1 && info.class_count == 3 && info.has_null_label == 1);
    for (label = 0; label < 3; label++) {
        CHECK_OK(ddpm_engine_get_class_name(engine, label, &name));
        CHECK(strcmp(name, names[label]) == 0);
    }
    CHECK_ERROR(ddpm_engine_get_class_name(engine, 3, &name), DDPM_ERROR_INVALID_ARGUMENT, "label: found 3, expected 0 to 2");
    CHECK_ERROR(ddpm_engine_get_class_name(engine, -1, &name), DDPM_ERROR_INVALID_ARGUMENT, "label: found -1");
    CHECK(strcmp(name, "owl") == 0);

    desc.sampler = DDPM_SAMPLER_DPMPP;
    desc.steps = 6;
    /* The three classes, none, and two scales of guidance. */
    for (picture = 0; picture < PICTURES; picture++) {
        desc.has_class_label = picture != 3;
        desc.class_label = picture < 3 ? picture : picture > 3;
        desc.guidance = picture < 4 ? 0 : (float)(picture - 2);
        CHECK(reveal(engine, &desc, pixels[picture]) == 6);
        for (other = 0; other < picture; other++) {
            CHECK(memcmp(pixels[other], pixels[picture], SIZE) != 0);
        }
    }
    desc.guidance = 1;
    CHECK(reveal(engine, &desc, pixels[0]) == 6);
    CHECK(memcmp(pixels[0], pixels[1], SIZE) == 0);
    desc.class_label = 4;
    refused(engine, &desc, "desc.class_label: found 4, expected 0 to 2");
    desc.class_label = -1;
    refused(engine, &desc, "desc.class_label: found -1, expected 0 to 2");
    desc.class_label = desc.has_class_label = 0;
    desc.guidance = 2;
    refused(engine, &desc, "desc.guidance: found 2 without a class");
}

static void a_model_without_a_label_for_none_needs_a_class(ddpm_engine *engine) {
    ddpm_engine_info info = DDPM_ENGINE_INFO_INIT;
    ddpm_stream_desc desc = DDPM_STREAM_DESC_INIT;
    unsigned char pixels[SIZE];
    CHECK_OK(ddpm_engine_get_info(engine, &info));
    CHECK(info.takes_class_label == 1 && info.class_count == 3 && info.has_null_label == 0);
    refused(engine, &desc, "desc.class_label: found none, but the model needs one");
    desc.has_class_label = 1;
    desc.class_label = 2;
    desc.steps = 3;
    CHECK(reveal(engine, &desc, pixels) == 3);
    desc.guidance = 2;
    refused(engine, &desc, "desc.guidance: found 2, but the model has no label for no class");
}

static void a_learned_variance_is_used(ddpm_engine *engine) {
    static const uint32_t types[] = {DDPM_VARIANCE_FIXED_SMALL, DDPM_VARIANCE_FIXED_LARGE, DDPM_VARIANCE_LEARNED,
                                     DDPM_VARIANCE_LEARNED_RANGE};
    unsigned char pixels[4][SIZE];
    ddpm_engine_info info = DDPM_ENGINE_INFO_INIT;
    int i, other;
    CHECK_OK(ddpm_engine_get_info(engine, &info));
    CHECK(info.gives_variance == 1 && info.channels == 3);
    for (i = 0; i < 4; i++) {
        ddpm_stream_desc desc = DDPM_STREAM_DESC_INIT;
        desc.sampler = DDPM_SAMPLER_DDPM;
        desc.steps = 6;
        desc.variance_type = types[i];
        CHECK(reveal(engine, &desc, pixels[i]) == 6);
        for (other = 0; other < i; other++) {
            CHECK(memcmp(pixels[other], pixels[i], SIZE) != 0);
        }
    }
}

int main(int argc, char **argv) {
    ddpm_engine *engine;
    CHECK(argc > 1);
    names_stand_for_a_sampler_and_an_order();
    engine = load_engine(argv[1], "oracle.onnx");
    every_sampler_ends_in_the_known_picture(engine);
    strength_is_the_share_of_the_steps(engine);
    a_stream_without_steps_is_its_image(engine);
    timesteps_are_visited_as_given(engine);
    CHECK_OK(ddpm_engine_destroy(engine));
    engine = load_engine(argv[1], "lin.onnx");
    zero_is_the_models_own(engine);
    every_setting_is_taken(engine);
    images_of_both_formats_are_the_same(engine);
    the_inverse_goes_from_the_picture_up_to_noise(engine);
    noise_is_added_by_the_models_schedule(engine);
    a_model_without_classes_refuses_them(engine);
    CHECK_OK(ddpm_engine_destroy(engine));
    engine = load_engine(argv[1], "class_labels.onnx");
    classes_make_pictures_of_their_own(engine);
    CHECK_OK(ddpm_engine_destroy(engine));
    engine = load_engine(argv[1], "class_labels_no_null.onnx");
    a_model_without_a_label_for_none_needs_a_class(engine);
    CHECK_OK(ddpm_engine_destroy(engine));
    engine = load_engine(argv[1], "learned_range.onnx");
    a_learned_variance_is_used(engine);
    CHECK_OK(ddpm_engine_destroy(engine));
    return 0;
}
