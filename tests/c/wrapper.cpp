// ddpm.hpp: owners move, errors are values or exceptions as asked, and nothing is destroyed twice.
#include <chrono>
#include <ddpm.hpp>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "check.h"

static_assert(!std::is_copy_constructible_v<ddpm::engine> && !std::is_copy_assignable_v<ddpm::engine>);
static_assert(std::is_nothrow_move_constructible_v<ddpm::stream> && std::is_nothrow_move_assignable_v<ddpm::stream>);

#ifdef DDPM_EXCEPTIONS

static void errors_are_thrown() {
    try {
        ddpm::engine_desc desc;
        ddpm::engine::create(desc);
        CHECK(!"create without a model did not throw");
    } catch (const ddpm::exception& error) {
        CHECK(error.code() == DDPM_ERROR_INVALID_ARGUMENT);
        CHECK(std::string(error.what()).find("desc.model_path") != std::string::npos);
    }
}

int main(int, char** argv) {
    errors_are_thrown();
    const std::string model = path_in(argv[1], "lin.onnx");
    ddpm::engine_desc desc;
    desc.model_path = model.c_str();
    auto engine = ddpm::engine::create(desc);
    CHECK(engine.wait());
    auto stream = ddpm::stream::create(engine, ddpm::stream_desc());
    CHECK(stream.step() == ddpm::step_outcome::accepted);
    CHECK(stream.wait());
    CHECK(stream.acquire_frame()->info().step == 1);
    CHECK(!stream.save().empty());
    stream.seek(1);
    stream.cancel();
    CHECK(stream.status().state == DDPM_STREAM_CANCELLED);
    return 0;
}

#else

int main(int, char** argv) {
    using namespace std::chrono_literals;
    const std::string model = path_in(argv[1], "lin.onnx");
    ddpm::engine_desc desc;

    auto refused = ddpm::engine::create(desc);
    CHECK(!refused && refused.error().code == DDPM_ERROR_INVALID_ARGUMENT);
    CHECK(refused.error().message.find("desc.model_path") != std::string::npos);

    desc.model_path = model.c_str();
    auto made = ddpm::engine::create(desc);
    CHECK(made.ok());
    ddpm::engine engine = std::move(made).value();
    CHECK(engine.wait().value());
    CHECK(engine.wait(0ms).value() && engine.wait(-1ms).value() && engine.wait(std::chrono::hours(10000)).value());
    CHECK(engine.info()->width == 8);
    CHECK(engine.status()->state == DDPM_ENGINE_READY);
    CHECK(engine.class_name(0).error().code == DDPM_ERROR_INVALID_ARGUMENT);
    float mixed[2] = {0.5f, -1.0f};
    const float noise[2] = {0.0f, 0.0f};
    CHECK(engine.add_noise(mixed, noise, 2, 0, mixed).ok() && mixed[0] < 0.5f && mixed[0] > 0.49f);
    CHECK(!engine.add_noise(mixed, noise, 2, 1000, mixed).ok());
    CHECK(ddpm::sampler_from_name("unipc-3")->order == 3);
    CHECK(!ddpm::sampler_from_name("best").ok());

    ddpm::stream_desc options;
    options.sampler = DDPM_SAMPLER_DPMPP;
    options.steps = 2;
    ddpm::stream stream = std::move(ddpm::stream::create(engine, options)).value();
    ddpm::stream other = std::move(ddpm::stream::create(engine, options)).value();
    std::vector<unsigned char> pixels(8 * 8 * 4);
    CHECK(!stream.copy_frame(pixels.data(), pixels.size()).value().has_value());
    while (stream.step().value() != ddpm::step_outcome::done) {
        CHECK(stream.wait().value());
    }
    const auto frame = stream.copy_frame(pixels.data(), pixels.size()).value();
    CHECK(frame.has_value() && frame->step == 2);
    CHECK(!stream.copy_frame(pixels.data(), 1).ok());
    CHECK(!stream.acquire_frame().value().has_value());
    CHECK(stream.reset(4).ok() && stream.step().ok() && stream.wait().value());
    {
        auto acquired = stream.acquire_frame();
        CHECK(acquired.ok() && acquired->has_value());
        // Moved on, it is still the one frame, and two are not to be had.
        const ddpm::frame_view view = std::move(**acquired);
        CHECK(view.info().step == 1 && view.info().pixels == view.data());
        CHECK(view.size() == pixels.size() && view.row_stride() == 32);
        CHECK(stream.acquire_frame().error().code == DDPM_BUSY);
        CHECK(stream.copy_frame(pixels.data(), pixels.size()).error().message.find("acquired") != std::string::npos);
    }
    CHECK(!stream.acquire_frame().value().has_value());
    CHECK(stream.reset(4).ok() && stream.cancel().ok());

    // A run that is played, paused, left for another one, and written down.
    CHECK(stream.tick(1s).error().message.find("does not play") != std::string::npos);
    ddpm::playback_desc playback;
    CHECK(stream.play(playback).error().message.find("desc.duration") != std::string::npos);
    playback.duration = 1000.0;
    CHECK(stream.reset(4).ok() && stream.play(playback).ok() && stream.pause().ok());
    CHECK(stream.tick(500s).value() == ddpm::step_outcome::paused && stream.status()->is_paused == 1);
    CHECK(stream.resume().ok() && stream.tick(500s).value() == ddpm::step_outcome::accepted);
    CHECK(stream.wait().value() && stream.status()->step == 1);
    ddpm::branch_desc leave;
    leave.step = 1;
    leave.seed = 9;
    CHECK(stream.branch(leave).error().message.find("desc.variation") != std::string::npos);
    leave.variation = 0.5f;
    CHECK(stream.branch(leave)->wait().value());
    const auto saved = stream.save().value();
    auto loaded = ddpm::stream::load(engine, saved.data(), saved.size());
    CHECK(loaded.ok() && loaded->status()->step == 1);
    CHECK(!ddpm::stream::load(engine, saved.data(), saved.size() - 1).ok());
    CHECK(loaded->seek(2).ok() && loaded->wait().value() && loaded->step().value() == ddpm::step_outcome::done);

    // Assignment ends the stream that was there; the engine may go before its streams.
    ddpm_stream* const handle = stream.native();
    other = std::move(stream);
    CHECK(other.native() == handle && stream.native() == nullptr);
    engine = std::move(ddpm::engine::create(desc)).value();
    CHECK(other.step().error().code == DDPM_ERROR_ENGINE_CLOSED);
    return 0;
}

#endif
