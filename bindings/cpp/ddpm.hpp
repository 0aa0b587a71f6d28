// libddpm for C++17: the C API of ddpm.h with owners in place of handles. Header only.
//
// By default nothing here throws: what can fail returns ddpm::result<T>, which holds the value or a
// ddpm::error (code and message). Define DDPM_EXCEPTIONS before the include to get the value itself
// and a thrown ddpm::exception instead.
//
//     ddpm::engine_desc desc;                       // struct_size is set, the rest is default
//     desc.model_path = "portraits.onnx";
//     auto engine = ddpm::engine::create(desc);     // result<engine>
//     if (!engine) return fail(engine.error());
//
// Costs, thread rules and blocking are those of the C functions, see ddpm.h. Objects are movable and
// not copyable; a moved-from object may only be assigned to or destroyed. Destroying an engine waits
// for the model run in progress; streams may be destroyed before or after their engine.

#ifndef DDPM_HPP
#define DDPM_HPP

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "ddpm.h"

#ifdef DDPM_EXCEPTIONS
#include <stdexcept>
#else
#include <cassert>
#endif

namespace ddpm {

// What went wrong: one of DDPM_ERROR_*, and the text that names the thing.
struct error {
    ddpm_result code = DDPM_OK;
    std::string message;
};

// What `stream::step` and `stream::tick` answer.
enum class step_outcome : std::int32_t {
    accepted = DDPM_OK,    // the worker runs the step; of a tick: the picture is under way
    busy = DDPM_BUSY,      // the last step still runs; this call asked for nothing
    done = DDPM_DONE,      // no step is left
    paused = DDPM_PAUSED,  // the stream is paused; this call asked for nothing
};

// The C structs, initialised. Everything after struct_size is zero, which means default.
struct engine_desc : ddpm_engine_desc {
    engine_desc() noexcept : ddpm_engine_desc DDPM_ENGINE_DESC_INIT {}
};
struct cuda_desc : ddpm_cuda_desc {
    cuda_desc() noexcept : ddpm_cuda_desc DDPM_CUDA_DESC_INIT {}
};
struct stream_desc : ddpm_stream_desc {
    stream_desc() noexcept : ddpm_stream_desc DDPM_STREAM_DESC_INIT {}
};
struct playback_desc : ddpm_playback_desc {
    playback_desc() noexcept : ddpm_playback_desc DDPM_PLAYBACK_DESC_INIT {}
};
struct branch_desc : ddpm_branch_desc {
    branch_desc() noexcept : ddpm_branch_desc DDPM_BRANCH_DESC_INIT {}
};

// The two modes are different types, so that a program may hold translation units of both.
#ifdef DDPM_EXCEPTIONS
inline namespace throwing {

class exception : public std::runtime_error {
public:
    explicit exception(const error& error) : std::runtime_error(error.message), code_(error.code) {}
    ddpm_result code() const noexcept { return code_; }

private:
    ddpm_result code_;
};

template <class T>
using result = T;

#else
inline namespace returning {

// A value or an error. Test it before you take the value: `value()` of an error is a bug of the
// caller, caught by an assertion.
template <class T>
class [[nodiscard]] result {
public:
    result(T value) : content_(std::in_place_index<0>, std::move(value)) {}
    result(ddpm::error error) : content_(std::in_place_index<1>, std::move(error)) {}

    bool ok() const noexcept { return content_.index() == 0; }
    explicit operator bool() const noexcept { return ok(); }

    T& value() & noexcept {
        assert(ok());
        return *std::get_if<0>(&content_);
    }
    const T& value() const& noexcept {
        assert(ok());
        return *std::get_if<0>(&content_);
    }
    T&& value() && noexcept {
        assert(ok());
        return std::move(*std::get_if<0>(&content_));
    }
    T& operator*() & noexcept { return value(); }
    const T& operator*() const& noexcept { return value(); }
    T* operator->() noexcept { return &value(); }
    const T* operator->() const noexcept { return &value(); }

    const ddpm::error& error() const noexcept {
        assert(!ok());
        return *std::get_if<1>(&content_);
    }

private:
    std::variant<T, ddpm::error> content_;
};

template <>
class [[nodiscard]] result<void> {
public:
    result() noexcept = default;
    result(ddpm::error error) : error_(std::move(error)) {}

    bool ok() const noexcept { return !error_.has_value(); }
    explicit operator bool() const noexcept { return ok(); }
    const ddpm::error& error() const noexcept {
        assert(!ok());
        return *error_;
    }

private:
    std::optional<ddpm::error> error_;
};

#endif

namespace detail {

// BUSY comes here only for a frame that is acquired, and has no message in C.
inline error last_error(ddpm_result code) {
    return error{code, code == DDPM_BUSY ? "a frame is acquired and not released" : ddpm_last_error()};
}

#ifdef DDPM_EXCEPTIONS
template <class T>
[[noreturn]] T fail(ddpm_result code) {
    throw exception(last_error(code));
}
#else
template <class T>
result<T> fail(ddpm_result code) {
    return last_error(code);
}
#endif

// What a call came to that gives nothing back.
inline result<void> finish(ddpm_result code) {
    if (code < 0) {
        return fail<void>(code);
    }
    return result<void>();
}

// Milliseconds as the C functions take them: none waits for ever, negative does not wait, and what
// is too long to count is the longest wait that ends.
inline std::uint32_t milliseconds(std::optional<std::chrono::milliseconds> timeout) noexcept {
    if (!timeout) {
        return DDPM_WAIT_FOREVER;
    }
    const auto count = timeout->count();
    if (count < 0) {
        return 0;
    }
    constexpr std::uint32_t longest = DDPM_WAIT_FOREVER - 1;
    return count < longest ? static_cast<std::uint32_t>(count) : longest;
}

// Owns a C handle.
template <class Handle, ddpm_result (*Destroy)(Handle*)>
class owner {
public:
    explicit owner(Handle* handle) noexcept : handle_(handle) {}
    owner(owner&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    owner& operator=(owner&& other) noexcept {
        if (this != &other) {
            destroy();
            handle_ = std::exchange(other.handle_, nullptr);
        }
        return *this;
    }
    ~owner() { destroy(); }

    Handle* get() const noexcept { return handle_; }

private:
    void destroy() noexcept {
        if (handle_ != nullptr) {
            Destroy(handle_);
        }
    }

    Handle* handle_;
};

}  // namespace detail

// A sampler's number and the order that its name stands for: what ddpm_stream_desc takes as `sampler` and
// `solver_order`. Order 0 is the sampler's own.
struct sampler {
    std::uint32_t number = DDPM_SAMPLER_DEFAULT;
    std::uint32_t order = 0;
};

// The sampler with this name, "dpmpp" or "dpmpp-3m" say. The error lists the names there are.
inline result<sampler> sampler_from_name(const std::string& name) {
    sampler found;
    const ddpm_result code = ddpm_sampler_from_name(name.c_str(), &found.number, &found.order);
    if (code < 0) {
        return detail::fail<sampler>(code);
    }
    return found;
}

// A model and the worker thread that runs it.
class engine {
public:
    // Returns at once; the worker loads. See ddpm_engine_create.
    static result<engine> create(const ddpm_engine_desc& desc) {
        ddpm_engine* handle = nullptr;
        const ddpm_result code = ddpm_engine_create(&desc, &handle);
        if (code < 0) {
            return detail::fail<engine>(code);
        }
        return engine(handle);
    }

    // True when the model is loaded, false when the time was over first. No timeout waits for ever.
    result<bool> wait(std::optional<std::chrono::milliseconds> timeout = std::nullopt) const {
        const ddpm_result code = ddpm_engine_wait(native(), detail::milliseconds(timeout));
        if (code < 0) {
            return detail::fail<bool>(code);
        }
        return code == DDPM_OK;
    }

    // How far the load is: one of DDPM_ENGINE_*, its stage and its progress. For every frame.
    result<ddpm_engine_status> status() const {
        ddpm_engine_status status = DDPM_ENGINE_STATUS_INIT;
        const ddpm_result code = ddpm_engine_get_status(native(), &status);
        if (code < 0) {
            return detail::fail<ddpm_engine_status>(code);
        }
        return status;
    }

    // Provider, picture size, versions; its strings live as long as the engine.
    result<ddpm_engine_info> info() const {
        ddpm_engine_info info = DDPM_ENGINE_INFO_INIT;
        const ddpm_result code = ddpm_engine_get_info(native(), &info);
        if (code < 0) {
            return detail::fail<ddpm_engine_info>(code);
        }
        return info;
    }

    // The name of the class with this label; it lives as long as the engine.
    result<const char*> class_name(std::int64_t label) const {
        const char* name = nullptr;
        const ddpm_result code = ddpm_engine_get_class_name(native(), label, &name);
        if (code < 0) {
            return detail::fail<const char*>(code);
        }
        return name;
    }

    // x_t of the model's forward process from `count` values of x_0 and of noise; `out` may be one of them.
    result<void> add_noise(const float* x0, const float* noise, std::uint64_t count, std::uint32_t timestep,
                           float* out) const {
        return detail::finish(ddpm_engine_add_noise(native(), x0, noise, count, timestep, out));
    }

    ddpm_engine* native() const noexcept { return handle_.get(); }

private:
    explicit engine(ddpm_engine* handle) noexcept : handle_(handle) {}

    detail::owner<ddpm_engine, ddpm_engine_destroy> handle_;
};

// A frame that stays as it is until the view goes, which must be before its stream does. Movable.
class frame_view {
public:
    // The pixels in the stream's frame_format, rows without gaps.
    const void* data() const noexcept { return view_.pixels; }
    std::uint64_t size() const noexcept { return view_.size; }
    std::uint64_t row_stride() const noexcept { return view_.row_stride; }
    // Which frame it is.
    const ddpm_frame_view& info() const noexcept { return view_; }

private:
    friend class stream;
    frame_view(ddpm_stream* stream, const ddpm_frame_view& view) noexcept : acquired_(stream), view_(view) {}

    detail::owner<ddpm_stream, ddpm_stream_release_frame> acquired_;
    ddpm_frame_view view_;
};

// One picture that is being revealed.
class stream {
public:
    static result<stream> create(const engine& engine, const ddpm_stream_desc& desc) {
        ddpm_stream* handle = nullptr;
        const ddpm_result code = ddpm_stream_create(engine.native(), &desc, &handle);
        if (code < 0) {
            return detail::fail<stream>(code);
        }
        return stream(handle);
    }

    // A saved run, as it stood. Of `desc` only what says how it is served and shown may be set.
    static result<stream> load(const engine& engine, const void* data, std::uint64_t size,
                               const ddpm_stream_desc& desc = stream_desc()) {
        ddpm_stream* handle = nullptr;
        const ddpm_result code = ddpm_stream_load(engine.native(), data, size, &desc, &handle);
        if (code < 0) {
            return detail::fail<stream>(code);
        }
        return stream(handle);
    }

    // Asks for one reverse step. Never blocks.
    result<step_outcome> step() {
        const ddpm_result code = ddpm_step(native());
        if (code < 0) {
            return detail::fail<step_outcome>(code);
        }
        return static_cast<step_outcome>(code);
    }

    // What is left of the picture is to take a time; from now on `tick` asks for the steps, once a frame.
    result<void> play(const ddpm_playback_desc& desc) { return detail::finish(ddpm_stream_play(native(), &desc)); }

    // Lets the time since the last tick pass, and asks for the steps that are due. Never blocks.
    result<step_outcome> tick(std::chrono::duration<double> time) {
        const ddpm_result code = ddpm_stream_tick(native(), time.count());
        if (code < 0) {
            return detail::fail<step_outcome>(code);
        }
        return static_cast<step_outcome>(code);
    }

    result<void> pause() { return detail::finish(ddpm_stream_pause(native())); }
    result<void> resume() { return detail::finish(ddpm_stream_resume(native())); }

    // Goes to a step of the run, back or forth; `wait` waits until it is there.
    result<void> seek(std::uint32_t step) { return detail::finish(ddpm_stream_seek(native(), step)); }

    // Another stream: this run up to a step, another picture after it.
    result<stream> branch(const ddpm_branch_desc& desc) const {
        ddpm_stream* handle = nullptr;
        const ddpm_result code = ddpm_stream_branch(native(), &desc, &handle);
        if (code < 0) {
            return detail::fail<stream>(code);
        }
        return stream(handle);
    }

    // The run as it stands, for `load`. For tools.
    result<std::vector<unsigned char>> save() const {
        std::vector<unsigned char> bytes;
        for (;;) {
            std::uint64_t size = 0;
            ddpm_result code = ddpm_stream_save(native(), nullptr, 0, &size);
            if (code >= 0) {
                bytes.resize(static_cast<std::size_t>(size));
                code = ddpm_stream_save(native(), bytes.data(), size, &size);
                if (code == DDPM_ERROR_INVALID_ARGUMENT) {
                    continue;  // A step was finished in between, and the run has grown.
                }
            }
            if (code < 0) {
                return detail::fail<std::vector<unsigned char>>(code);
            }
            bytes.resize(static_cast<std::size_t>(size));
            return bytes;
        }
    }

    result<ddpm_stream_status> status() const {
        ddpm_stream_status status = DDPM_STREAM_STATUS_INIT;
        const ddpm_result code = ddpm_stream_get_status(native(), &status);
        if (code < 0) {
            return detail::fail<ddpm_stream_status>(code);
        }
        return status;
    }

    // Copies the newest frame in the stream's frame_format; nothing when there is no newer one. Stride 0: no
    // gaps. While a frame is acquired that is an error, DDPM_BUSY.
    result<std::optional<ddpm_frame_info>> copy_frame(void* dst, std::uint64_t dst_size, std::uint64_t row_stride = 0) {
        ddpm_frame_info info = DDPM_FRAME_INFO_INIT;
        const ddpm_result code = ddpm_stream_copy_frame(native(), dst, dst_size, row_stride, &info);
        if (code < 0 || code == DDPM_BUSY) {
            return detail::fail<std::optional<ddpm_frame_info>>(code);
        }
        return code == DDPM_OK ? std::optional<ddpm_frame_info>(info) : std::nullopt;
    }

    // Takes the newest frame without a copy; nothing when there is no newer one. While a frame is acquired
    // that is an error, DDPM_BUSY.
    result<std::optional<frame_view>> acquire_frame() {
        ddpm_frame_view view = DDPM_FRAME_VIEW_INIT;
        const ddpm_result code = ddpm_stream_acquire_frame(native(), &view);
        if (code < 0 || code == DDPM_BUSY) {
            return detail::fail<std::optional<frame_view>>(code);
        }
        std::optional<frame_view> frame;
        if (code == DDPM_OK) {
            frame = frame_view(native(), view);
        }
        return frame;
    }

    // True when no step runs, false when the time was over first. No timeout waits for ever.
    result<bool> wait(std::optional<std::chrono::milliseconds> timeout = std::nullopt) const {
        const ddpm_result code = ddpm_stream_wait(native(), detail::milliseconds(timeout));
        if (code < 0) {
            return detail::fail<bool>(code);
        }
        return code == DDPM_OK;
    }

    result<void> reset(std::uint64_t seed) { return detail::finish(ddpm_stream_reset(native(), seed)); }
    result<void> cancel() { return detail::finish(ddpm_stream_cancel(native())); }

    ddpm_stream* native() const noexcept { return handle_.get(); }

private:
    explicit stream(ddpm_stream* handle) noexcept : handle_(handle) {}

    detail::owner<ddpm_stream, ddpm_stream_destroy> handle_;
};

}  // namespace throwing or returning
}  // namespace ddpm

#endif  // DDPM_HPP
