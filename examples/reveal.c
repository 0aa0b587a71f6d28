/* A host with a 60 Hz frame loop and work of its own, in which a picture appears.
 *
 * Each frame copies the newest picture if there is one, asks for one reverse step, or for those that a
 * duration makes due, and does about 4 ms of other work. It never waits for the library. At the end it writes the reveal as a contact
 * sheet and an animation, and prints how long the host's work took with and without the engine. */
#include <ddpm.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/film.h"
#include "common/frame_clock.h"

#define FRAME_MS (1000.0 / 60.0)
#define WORK_MS 4.0
#define QUIET_FRAMES 120

static const char usage[] =
    "usage: reveal MODEL [options]\n"
    "  --steps N            reverse steps from noise to picture (50)\n"
    "  --seed N             the picture's number (7)\n"
    "  --sampler NAME       ddim, dpmpp-2m, unipc, ... (the model's own); an unknown name lists them all\n"
    "  --preview NAME       what frames show: sample (the noisy picture) or prediction (sample)\n"
    "  --even               timesteps by what one sees, so that each step shows about as much\n"
    "  --duration SECONDS   the time it takes on any machine, in place of a step a frame\n"
    "  --easing NAME        with a duration: linear, ease-in, ease-out or ease-in-out (linear)\n"
    "  --provider NAME      auto, cpu or cuda (auto)\n"
    "  --threads N          CPU threads that run the model (the cores less one)\n"
    "  --width N, --height N   picture size, for a model that leaves it open\n"
    "  --out DIR            where the pictures go (out)\n"
    "  --scale N            each pixel is drawn N by N (8)\n";

typedef struct settings {
    ddpm_engine_desc engine;
    ddpm_stream_desc stream;
    /* With a duration of 0 there is a step a frame. */
    ddpm_playback_desc playback;
    const char *out;
    uint32_t scale;
} settings;

static void fail(const char *what) {
    fprintf(stderr, "reveal: %s\n", what);
    exit(1);
}

static ddpm_result check(ddpm_result result) {
    if (result < 0) {
        fail(ddpm_last_error());
    }
    return result;
}

static void check_written(int error, const char *path) {
    if (error != 0) {
        fprintf(stderr, "reveal: %s: %s\n", path, strerror(error));
        exit(1);
    }
}

static uint64_t number(const char *option, const char *text, uint64_t most) {
    char *end = NULL;
    unsigned long long value;
    errno = 0;
    value = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || value > most) {
        fprintf(stderr, "reveal: %s: found \"%s\", expected a whole number up to %llu\n", option, text, (unsigned long long)most);
        exit(2);
    }
    return value;
}

static double seconds(const char *option, const char *text) {
    char *end = NULL;
    const double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value > 0.0)) {
        fprintf(stderr, "reveal: %s: found \"%s\", expected seconds above 0\n", option, text);
        exit(2);
    }
    return value;
}

/* The place of `text` in a list of names ended by NULL. */
static uint32_t choice(const char *option, const char *text, const char *const *names) {
    uint32_t i;
    for (i = 0; names[i] != NULL; i++) {
        if (strcmp(names[i], text) == 0) {
            return i;
        }
    }
    fprintf(stderr, "reveal: %s: found \"%s\", expected", option, text);
    for (i = 0; names[i] != NULL; i++) {
        fprintf(stderr, "%s %s", i == 0 ? "" : " or", names[i]);
    }
    fprintf(stderr, "\n");
    exit(2);
}

static settings parse(int argc, char **argv) {
    static const char *const previews[] = {"prediction", "sample", NULL};
    static const char *const providers[] = {"auto", "cpu", "cuda", NULL};
    static const char *const easings[] = {"linear", "ease-in", "ease-out", "ease-in-out", NULL};
    static const ddpm_engine_desc engine = DDPM_ENGINE_DESC_INIT;
    static const ddpm_stream_desc stream = DDPM_STREAM_DESC_INIT;
    static const ddpm_playback_desc playback = DDPM_PLAYBACK_DESC_INIT;
    settings options = {engine, stream, playback, "out", 8};
    int i;
    options.stream.seed = 7;
    options.stream.preview = DDPM_PREVIEW_SAMPLE;
    for (i = 1; i < argc; i++) {
        const char *name = argv[i];
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (name[0] != '-' && options.engine.model_path == NULL) {
            options.engine.model_path = name;
            continue;
        }
        if (strcmp(name, "--even") == 0) {
            options.stream.director = 1;
            continue;
        }
        if (value == NULL) {
            fprintf(stderr, "%s", usage);
            exit(2);
        }
        if (strcmp(name, "--steps") == 0) {
            options.stream.steps = (uint32_t)number(name, value, UINT32_MAX);
        } else if (strcmp(name, "--seed") == 0) {
            options.stream.seed = number(name, value, UINT64_MAX);
        } else if (strcmp(name, "--sampler") == 0) {
            if (ddpm_sampler_from_name(value, &options.stream.sampler, &options.stream.solver_order) < 0) {
                fprintf(stderr, "reveal: --sampler: %s\n", ddpm_last_error());
                exit(2);
            }
        } else if (strcmp(name, "--preview") == 0) {
            options.stream.preview = DDPM_PREVIEW_PREDICTION + choice(name, value, previews);
        } else if (strcmp(name, "--duration") == 0) {
            options.playback.duration = seconds(name, value);
        } else if (strcmp(name, "--easing") == 0) {
            options.playback.easing = DDPM_EASING_LINEAR + choice(name, value, easings);
        } else if (strcmp(name, "--provider") == 0) {
            options.engine.provider = DDPM_PROVIDER_AUTO + choice(name, value, providers);
        } else if (strcmp(name, "--threads") == 0) {
            options.engine.threads = (uint32_t)number(name, value, UINT32_MAX);
        } else if (strcmp(name, "--width") == 0) {
            options.engine.width = (uint32_t)number(name, value, UINT32_MAX);
        } else if (strcmp(name, "--height") == 0) {
            options.engine.height = (uint32_t)number(name, value, UINT32_MAX);
        } else if (strcmp(name, "--out") == 0) {
            options.out = value;
        } else if (strcmp(name, "--scale") == 0) {
            options.scale = (uint32_t)number(name, value, 64);
        } else {
            fprintf(stderr, "reveal: unknown option %s\n%s", name, usage);
            exit(2);
        }
        i++;
    }
    if (options.engine.model_path == NULL || options.scale == 0) {
        fprintf(stderr, "%s", usage);
        exit(2);
    }
    return options;
}

static void take_frame(ddpm_stream *stream, film *reel) {
    uint8_t *pixels = film_next(reel);
    size_t size = (size_t)reel->width * reel->height * 4;
    if (pixels != NULL && check(ddpm_stream_copy_frame(stream, pixels, size, 0, NULL)) == DDPM_OK) {
        film_keep(reel);
    }
}

/* The frame loop. With a stream it goes on until the picture is finished, else for so many frames.
 * Returns the number of frames; `times_ms` has room for `most`. */
static size_t run_frames(ddpm_stream *stream, int plays, film *reel, uint64_t work, double *times_ms, size_t most) {
    double next = clock_ms();
    double before = next;
    size_t frames = 0;
    ddpm_result stepped = DDPM_OK;
    while (frames < most && stepped != DDPM_DONE) {
        double start = clock_ms();
        if (stream != NULL) {
            /* The picture first: the step may be so quick that its picture takes the place of this. */
            take_frame(stream, reel);
            stepped = check(plays ? ddpm_stream_tick(stream, (start - before) / 1000.0) : ddpm_step(stream));
        }
        before = start;
        host_work(work);
        times_ms[frames++] = clock_ms() - start;
        next += FRAME_MS;
        clock_sleep_until(next);
    }
    if (stream != NULL) {
        take_frame(stream, reel);
    }
    return frames;
}

int main(int argc, char **argv) {
    settings options = parse(argc, argv);
    const int plays = options.playback.duration > 0.0;
    ddpm_engine_info info = DDPM_ENGINE_INFO_INIT;
    ddpm_stream_status status = DDPM_STREAM_STATUS_INIT;
    ddpm_engine *engine = NULL;
    ddpm_stream *stream = NULL;
    film reel = {0, 0, 0, 0, NULL};
    const size_t most_frames = 200000;
    double *times_ms = (double *)malloc(most_frames * sizeof(double));
    char sheet[4096], animation[4096];
    uint64_t work;
    size_t frames;

    if (times_ms == NULL || strlen(options.out) > 4000) {
        fail("out of memory, or the name of the folder is too long");
    }
    check(ddpm_engine_create(&options.engine, &engine));
    check(ddpm_engine_wait(engine, DDPM_WAIT_FOREVER));
    check(ddpm_engine_get_info(engine, &info));
    check(ddpm_stream_create(engine, &options.stream, &stream));
    check(ddpm_stream_get_status(stream, &status));
    reel.width = info.width;
    reel.height = info.height;
    if (film_reserve(&reel, status.steps + 1) != 0) {
        fail("out of memory for the frames");
    }
    printf("%s: %u x %u pixels, %u steps on %s, ONNX Runtime %s\n", options.engine.model_path, info.width, info.height,
           status.steps, info.provider == DDPM_PROVIDER_CUDA ? "CUDA" : "the CPU", info.runtime_version);
    if (info.fallback_reason[0] != '\0') {
        printf("the CPU, because %s\n", info.fallback_reason);
    }

    work = host_work_rounds(WORK_MS);
    frames = run_frames(NULL, 0, &reel, work, times_ms, QUIET_FRAMES);
    print_frame_times("engine idle    ", times_ms, frames);
    if (plays) {
        check(ddpm_stream_play(stream, &options.playback));
    }
    frames = run_frames(stream, plays, &reel, work, times_ms, most_frames);
    print_frame_times("engine stepping", times_ms, frames);

    check(ddpm_stream_destroy(stream));
    check(ddpm_engine_destroy(engine));

    sprintf(sheet, "%s/reveal-sheet.png", options.out);
    sprintf(animation, "%s/reveal.png", options.out);
    check_written(make_folder(options.out), options.out);
    check_written(film_write_sheet(&reel, sheet, options.scale), sheet);
    check_written(film_write_animation(&reel, animation, options.scale), animation);
    printf("wrote %s (%u frames of the reveal) and %s (the reveal as an APNG)\n", sheet, reel.count, animation);
    film_free(&reel);
    free(times_ms);
    return 0;
}
