// A host with a 60 Hz frame loop and work of its own, in which a picture appears.
//
// Each frame copies the newest picture if there is one, asks for one reverse step, or for those that a
// duration makes due, and does about 4 ms of other work. It never waits for the library. At the end it writes the reveal as a contact
// sheet and an animation, and prints how long the host's work took with and without the engine.
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ddpm.hpp>
#include <initializer_list>
#include <string>
#include <vector>

#include "common/film.h"
#include "common/frame_clock.h"

namespace {

constexpr double frame_ms = 1000.0 / 60.0;
constexpr double work_ms = 4.0;
constexpr std::size_t quiet_frames = 120;
constexpr std::size_t most_frames = 200000;

constexpr char usage[] =
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

struct settings {
    ddpm::engine_desc engine;
    ddpm::stream_desc stream;
    // With a duration of 0 there is a step a frame.
    ddpm::playback_desc playback;
    std::string out = "out";
    std::uint32_t scale = 8;
};

[[noreturn]] void fail(const std::string& what, int code = 1) {
    std::fprintf(stderr, "reveal: %s\n", what.c_str());
    std::exit(code);
}

// The value, or the end of the program with the error's text.
template <class T>
T check(ddpm::result<T> result, int code = 1) {
    if (!result) {
        fail(result.error().message, code);
    }
    return std::move(result).value();
}

void check_written(int error, const std::string& path) {
    if (error != 0) {
        fail(path + ": " + std::strerror(error));
    }
}

std::uint64_t number(const std::string& option, const std::string& text, std::uint64_t most) {
    char* end = nullptr;
    errno = 0;
    const unsigned long long value = std::strtoull(text.c_str(), &end, 10);
    if (text.empty() || text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || value > most) {
        fail(option + ": found \"" + text + "\", expected a whole number up to " + std::to_string(most), 2);
    }
    return value;
}

std::uint32_t number32(const std::string& option, const std::string& text, std::uint32_t most = UINT32_MAX) {
    return static_cast<std::uint32_t>(number(option, text, most));
}

double seconds(const std::string& option, const std::string& text) {
    char* end = nullptr;
    const double value = std::strtod(text.c_str(), &end);
    if (text.empty() || *end != '\0' || !(value > 0.0)) {
        fail(option + ": found \"" + text + "\", expected seconds above 0", 2);
    }
    return value;
}

// The place of `text` in a list of names.
std::uint32_t choice(const std::string& option, const std::string& text, std::initializer_list<const char*> names) {
    std::uint32_t place = 0;
    std::string expected;
    for (const char* name : names) {
        if (text == name) {
            return place;
        }
        expected += (place == 0 ? " " : " or ") + std::string(name);
        place++;
    }
    fail(option + ": found \"" + text + "\", expected" + expected, 2);
}

settings parse(int argc, char** argv) {
    settings options;
    options.stream.seed = 7;
    options.stream.preview = DDPM_PREVIEW_SAMPLE;
    for (int i = 1; i < argc; i++) {
        const std::string name = argv[i];
        if (name[0] != '-' && options.engine.model_path == nullptr) {
            options.engine.model_path = argv[i];
            continue;
        }
        if (name == "--even") {
            options.stream.director = 1;
            continue;
        }
        if (++i == argc) {
            fail(std::string("no value for ") + name + "\n" + usage, 2);
        }
        const std::string value = argv[i];
        if (name == "--steps") {
            options.stream.steps = number32(name, value);
        } else if (name == "--seed") {
            options.stream.seed = number(name, value, UINT64_MAX);
        } else if (name == "--sampler") {
            const ddpm::sampler sampler = check(ddpm::sampler_from_name(value), 2);
            options.stream.sampler = sampler.number;
            options.stream.solver_order = sampler.order;
        } else if (name == "--preview") {
            options.stream.preview = DDPM_PREVIEW_PREDICTION + choice(name, value, {"prediction", "sample"});
        } else if (name == "--duration") {
            options.playback.duration = seconds(name, value);
        } else if (name == "--easing") {
            options.playback.easing =
                DDPM_EASING_LINEAR + choice(name, value, {"linear", "ease-in", "ease-out", "ease-in-out"});
        } else if (name == "--provider") {
            options.engine.provider = DDPM_PROVIDER_AUTO + choice(name, value, {"auto", "cpu", "cuda"});
        } else if (name == "--threads") {
            options.engine.threads = number32(name, value);
        } else if (name == "--width") {
            options.engine.width = number32(name, value);
        } else if (name == "--height") {
            options.engine.height = number32(name, value);
        } else if (name == "--out") {
            options.out = value;
        } else if (name == "--scale") {
            options.scale = number32(name, value, 64);
        } else {
            fail("unknown option " + name + "\n" + usage, 2);
        }
    }
    if (options.engine.model_path == nullptr || options.scale == 0) {
        fail(std::string("a model and a scale above 0 are needed\n") + usage, 2);
    }
    return options;
}

void take_frame(ddpm::stream& stream, film* reel) {
    std::uint8_t* pixels = film_next(reel);
    const std::size_t size = std::size_t{reel->width} * reel->height * 4;
    if (pixels != nullptr && check(stream.copy_frame(pixels, size))) {
        film_keep(reel);
    }
}

// The frame loop. With a stream it goes on until the picture is finished, else for so many frames.
std::vector<double> run_frames(ddpm::stream* stream, bool plays, film* reel, std::uint64_t work, std::size_t most) {
    std::vector<double> times_ms;
    times_ms.reserve(most);
    double next = clock_ms();
    double before = next;
    auto stepped = ddpm::step_outcome::accepted;
    while (times_ms.size() < most && stepped != ddpm::step_outcome::done) {
        const double start = clock_ms();
        if (stream != nullptr) {
            // The picture first: the step may be so quick that its picture takes the place of this.
            take_frame(*stream, reel);
            const std::chrono::duration<double, std::milli> passed(start - before);
            stepped = check(plays ? stream->tick(passed) : stream->step());
        }
        before = start;
        host_work(work);
        times_ms.push_back(clock_ms() - start);
        next += frame_ms;
        clock_sleep_until(next);
    }
    if (stream != nullptr) {
        take_frame(*stream, reel);
    }
    return times_ms;
}

void reveal(const settings& options, film* reel) {
    const auto engine = check(ddpm::engine::create(options.engine));
    check(engine.wait());
    const auto info = check(engine.info());
    auto stream = check(ddpm::stream::create(engine, options.stream));
    const auto status = check(stream.status());
    reel->width = info.width;
    reel->height = info.height;
    if (film_reserve(reel, status.steps + 1) != 0) {
        fail("out of memory for the frames");
    }
    std::printf("%s: %u x %u pixels, %u steps on %s, ONNX Runtime %s\n", options.engine.model_path, info.width,
                info.height, status.steps, info.provider == DDPM_PROVIDER_CUDA ? "CUDA" : "the CPU",
                info.runtime_version);
    if (info.fallback_reason[0] != '\0') {
        std::printf("the CPU, because %s\n", info.fallback_reason);
    }

    const std::uint64_t work = host_work_rounds(work_ms);
    auto idle = run_frames(nullptr, false, reel, work, quiet_frames);
    print_frame_times("engine idle    ", idle.data(), idle.size());
    const bool plays = options.playback.duration > 0.0;
    if (plays) {
        const auto played = stream.play(options.playback);
        if (!played) {
            fail(played.error().message);
        }
    }
    auto stepping = run_frames(&stream, plays, reel, work, most_frames);
    print_frame_times("engine stepping", stepping.data(), stepping.size());
}

}  // namespace

int main(int argc, char** argv) {
    const settings options = parse(argc, argv);
    film reel = {};
    reveal(options, &reel);

    const std::string sheet = options.out + "/reveal-sheet.png";
    const std::string animation = options.out + "/reveal.png";
    check_written(make_folder(options.out.c_str()), options.out);
    check_written(film_write_sheet(&reel, sheet.c_str(), options.scale), sheet);
    check_written(film_write_animation(&reel, animation.c_str(), options.scale), animation);
    std::printf("wrote %s (%u frames of the reveal) and %s (the reveal as an APNG)\n", sheet.c_str(), reel.count,
                animation.c_str());
    film_free(&reel);
    return 0;
}
