/*
libddpm: a picture appears by reverse diffusion, one step per rendered frame.

This file is generated from src/ffi; `make header` writes it.

OVERVIEW

An engine loads a model (an ONNX file that removes noise) and owns one worker thread. A stream is one
picture that is being revealed: it starts as noise, and each ddpm_step makes it a little less noisy.
The host copies the newest picture when there is one and calls ddpm_step, once a frame, in this order
if it wants to show them all. The model runs in the worker, so a frame never waits for it: when a step
takes longer than a frame, ddpm_step says DDPM_BUSY and the host draws what it has.

    ddpm_engine_create -> ddpm_engine_wait -> ddpm_stream_create
        each frame: ddpm_stream_copy_frame, ddpm_step
    ddpm_stream_destroy, ddpm_engine_destroy

GLOSSARY

    step         one reverse step, one run of the model: less noise, more picture
    timestep     the noise level given to the model, from T - 1 (noise) down to 0 (clean)
    sample       the noisy picture itself, x_t
    prediction   what the model takes the clean picture to be, x_0; what frames show by default
    sampler      the rule that makes the next sample from this one and the model's output
    seed         the picture's number: same model, sampler, steps and seed, same picture
    provider     what runs the model: the CPU, or CUDA
    generation   the number of a published frame; a greater one is newer

EXAMPLE

    ddpm_engine_desc engine_desc = DDPM_ENGINE_DESC_INIT;
    ddpm_stream_desc stream_desc = DDPM_STREAM_DESC_INIT;
    ddpm_engine *engine = NULL;
    ddpm_stream *stream = NULL;

    engine_desc.model_path = "portraits.onnx";
    stream_desc.seed = 7;
    if (ddpm_engine_create(&engine_desc, &engine) < 0 ||
        ddpm_engine_wait(engine, DDPM_WAIT_FOREVER) < 0 ||
        ddpm_stream_create(engine, &stream_desc, &stream) < 0) {
        fprintf(stderr, "%s\n", ddpm_last_error());
    }

    // each frame:
    if (ddpm_stream_copy_frame(stream, pixels, sizeof pixels, 0, NULL) == DDPM_OK) {
        // upload the pixels
    }
    ddpm_result stepped = ddpm_step(stream);                  // OK, BUSY, DONE, or < 0

    ddpm_stream_destroy(stream);
    ddpm_engine_destroy(engine);

RESULTS AND ERRORS

Every function that can fail returns a ddpm_result: below zero is an error, whose message
ddpm_last_error gives to the thread that made the call. Outputs are written on success only. NULL for
a pointer, an unknown value or a struct that is not initialised is an error, never a crash. What went
wrong in the worker comes back from the next call on the engine or stream it belongs to.

STRUCTS

Structs begin with struct_size. Initialise them with their DDPM_..._INIT macro, which sets it as your
compiler sees it; every other field then starts at zero, which means default. An older library refuses
a newer caller's struct only if fields it does not know are not zero; a newer library takes an older
caller's struct as it is.

THREADS

Any function may be called from any thread, several at once, also on the same handle, with one
exception: a destroy is the last call on its handle. Engine and streams may be destroyed in either
order. The log callback, the only one there is, may be called from the worker and must not call back
into the library; everything else is learnt by asking. The library installs no signal handlers, sets
no locale and no floating-point mode, and leaves no static destructors behind. After the engines and
streams are destroyed the library may be unloaded; where a thread that has called it still lives, the
system may keep it in memory until that thread ends, and ONNX Runtime stays loaded.

COST

    call                                          blocks                  allocates
    ddpm_step, get_status, reset, cancel          no                      no
    ddpm_stream_copy_frame                        no (copies pixels)      no
    ddpm_engine_create                            no                      yes, starts a thread
    ddpm_engine_get_info                          no                      on the first call
    ddpm_stream_create                            no                      all the stream will use
    ddpm_stream_destroy                           no                      no
    ddpm_engine_wait, ddpm_stream_wait            up to the timeout       no
    ddpm_engine_destroy                           until the worker ends   no
    any call that returns an error                as above                the message
*/


#ifndef DDPM_H
#define DDPM_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32) && defined(DDPM_DLL)
#define DDPM_API __declspec(dllimport)
#else
#define DDPM_API
#endif

/* NULL for the initialisers, in the spelling that each language's warnings accept. */
#ifdef __cplusplus
#define DDPM_NULL nullptr
#else
#define DDPM_NULL NULL
#endif

/* Initialisers: struct_size as your compiler sees it, and zero, which is the default, for the rest. */
#define DDPM_ENGINE_DESC_INIT                                                                      \
    { sizeof(ddpm_engine_desc), 0, DDPM_NULL, DDPM_NULL, 0, DDPM_NULL, 0, 0, 0, 0, DDPM_NULL,      \
      DDPM_NULL, 0, 0 }
#define DDPM_ENGINE_INFO_INIT                                                                      \
    { sizeof(ddpm_engine_info), 0, 0, 0, 0, 0, 0, 0, 0, 0, DDPM_NULL, DDPM_NULL, DDPM_NULL }
#define DDPM_STREAM_DESC_INIT                                                                      \
    { sizeof(ddpm_stream_desc), 0, 0, 0, 0, 0.0f, 0.0f, 0, 0, 0, 0 }
#define DDPM_STREAM_STATUS_INIT                                                                    \
    { sizeof(ddpm_stream_status), 0, 0, 0, 0, 0.0 }
#define DDPM_FRAME_INFO_INIT                                                                       \
    { sizeof(ddpm_frame_info), 0, 0, 0, 0, 0, 0 }

// Done as asked.
#define DDPM_OK 0

// `ddpm_step`: the last step still runs, so this call asked for nothing. Try again next frame.
#define DDPM_BUSY 1

// `ddpm_step`: there is no step left. The picture is finished, or the run was cancelled.
#define DDPM_DONE 2

// `ddpm_stream_copy_frame`: nothing newer than the last frame copied. The destination is untouched.
#define DDPM_NO_NEW_FRAME 3

// A wait reached its timeout.
#define DDPM_TIMEOUT 4

// A value is out of range, a pointer is NULL, or a value does not fit the model.
#define DDPM_ERROR_INVALID_ARGUMENT -1

// Memory could not be had.
#define DDPM_ERROR_OUT_OF_MEMORY -2

// The ONNX Runtime library was not found, is not one, or has the wrong version.
#define DDPM_ERROR_RUNTIME_LIBRARY -3

// The model cannot be read, or is not one that this library can run.
#define DDPM_ERROR_MODEL -4

// A known feature that this version does not have, or a call that is not allowed here.
#define DDPM_ERROR_UNSUPPORTED -5

// The execution provider asked for could not be used.
#define DDPM_ERROR_PROVIDER -6

// ONNX Runtime failed while it ran the model.
#define DDPM_ERROR_INFERENCE -7

// The model produced NaN or infinity.
#define DDPM_ERROR_NON_FINITE -8

// The engine still loads its model. Not a failure: ask again later.
#define DDPM_ERROR_ENGINE_LOADING -9

// The stream's engine was destroyed.
#define DDPM_ERROR_ENGINE_CLOSED -10

// A file could not be read.
#define DDPM_ERROR_IO -11

// A fault of this library. Please report it with the message.
#define DDPM_ERROR_INTERNAL -12

// The version of this header's ABI. It grows when a caller compiled against an older header would
// break; new functions, and new fields at the end of a struct, do not change it.
#define DDPM_ABI_VERSION 1

// `log_level`: the library's choice; warnings and errors in this version.
#define DDPM_LOG_DEFAULT 0

// What failed.
#define DDPM_LOG_ERROR 1

// Also what was not as asked, but has a substitute (the CPU for the GPU).
#define DDPM_LOG_WARNING 2

// Also what was chosen: the library file, the provider, defaults taken for the model.
#define DDPM_LOG_INFO 3

// Also details for a bug report.
#define DDPM_LOG_DEBUG 4

// `provider`: CUDA where it can be used, the CPU elsewhere; which one it was, and why, is in
// `ddpm_engine_info` and in the log.
#define DDPM_PROVIDER_AUTO 0

// The CPU.
#define DDPM_PROVIDER_CPU 1

// CUDA, or an error where it cannot be used.
#define DDPM_PROVIDER_CUDA 2

// `prediction_type`: what the model's metadata says.
#define DDPM_PREDICTION_DEFAULT 0

// The output is the noise.
#define DDPM_PREDICTION_EPSILON 1

// The output is the clean sample.
#define DDPM_PREDICTION_SAMPLE 2

// The output is the velocity.
#define DDPM_PREDICTION_V 3

// The output is the mean of the reverse step.
#define DDPM_PREDICTION_MEAN 4

// `color`: one channel.
#define DDPM_COLOR_GRAY 1

// Three channels.
#define DDPM_COLOR_RGB 2

// Four channels; alpha is not premultiplied.
#define DDPM_COLOR_RGBA 3

// A timeout that never comes.
#define DDPM_WAIT_FOREVER 4294967295

// `sampler`: the library's choice; DDPM in this version.
#define DDPM_SAMPLER_DEFAULT 0

// Ho et al. 2020, algorithm 2: fresh noise in every step.
#define DDPM_SAMPLER_DDPM 1

// Song et al. 2021: `eta` 0 draws no noise, 1 as much as DDPM.
#define DDPM_SAMPLER_DDIM 2

// `spacing`: the library's choice; trailing in this version.
#define DDPM_SPACING_DEFAULT 0

// Counts up from the clean end in whole strides.
#define DDPM_SPACING_LEADING 1

// Counts down from the noisy end, which it always includes.
#define DDPM_SPACING_TRAILING 2

// Evenly from the clean end to the noisy end, both included.
#define DDPM_SPACING_LINSPACE 3

// `preview`: the library's choice; the prediction in this version.
#define DDPM_PREVIEW_DEFAULT 0

// Frames show what the model takes the finished picture to be.
#define DDPM_PREVIEW_PREDICTION 1

// Frames show the noisy sample itself.
#define DDPM_PREVIEW_SAMPLE 2

// `clip`: what the model's metadata says.
#define DDPM_CLIP_DEFAULT 0

// The predicted picture is used as it is.
#define DDPM_CLIP_OFF 1

// The predicted picture is held to -clip_range .. clip_range.
#define DDPM_CLIP_RANGE 2

// `variance_type`: what the model's metadata says.
#define DDPM_VARIANCE_DEFAULT 0

// DDPM's noise has the variance of the posterior.
#define DDPM_VARIANCE_FIXED_SMALL 1

// DDPM's noise has the variance beta.
#define DDPM_VARIANCE_FIXED_LARGE 2

// `state`: waits to be asked for a step.
#define DDPM_STREAM_IDLE 0

// A step is queued or runs.
#define DDPM_STREAM_STEPPING 1

// The picture is finished.
#define DDPM_STREAM_DONE 2

// `ddpm_stream_cancel` ended the run.
#define DDPM_STREAM_CANCELLED 3

// A step failed; `ddpm_step` tells why. `ddpm_stream_reset` starts over.
#define DDPM_STREAM_FAILED 4

// A model and the worker thread that runs it; its streams share both. Made by
// `ddpm_engine_create`, ended by `ddpm_engine_destroy`.
typedef struct ddpm_engine ddpm_engine;

// One picture that is being revealed, one reverse step at a time. Made by `ddpm_stream_create`,
// ended by `ddpm_stream_destroy`.
typedef struct ddpm_stream ddpm_stream;

// What a function returns. Zero and above is success, below zero is an error whose text
// `ddpm_last_error` gives. Test with `result < 0`: later versions may add codes on both sides.
typedef int32_t ddpm_result;

// Takes one log message. `level` is one of `DDPM_LOG_*`; `message` is UTF-8, one line, and is valid
// until the callback returns.
//
// Called from the library's own threads, and from the thread that is inside a call; several threads
// may call it at once if several engines share it. It is not called any more once
// `ddpm_engine_destroy` of its engine has returned. It must not call back into the library (such a
// call returns DDPM_ERROR_UNSUPPORTED), throw, or `longjmp` out.
typedef void (*ddpm_log_callback)(void *user_data, uint32_t level, const char *message);

// What an engine is made from. Initialise it with `DDPM_ENGINE_DESC_INIT`, then set either
// `model_path`, or `model_data` and `model_size`; everything else may stay zero. Nothing in it needs
// to live longer than the call to `ddpm_engine_create`, except what `log` needs.
typedef struct {
    // sizeof(ddpm_engine_desc); `DDPM_ENGINE_DESC_INIT` sets it.
    uint32_t struct_size;
    // What runs the model: one of `DDPM_PROVIDER_*`.
    uint32_t provider;
    // The ONNX file, UTF-8. NULL when `model_data` is set.
    const char *model_path;
    // The bytes of an ONNX file, copied by the call. NULL when `model_path` is set.
    const void *model_data;
    // The number of bytes at `model_data`.
    uint64_t model_size;
    // The ONNX Runtime library, UTF-8. NULL looks for it: the path in the environment variable
    // DDPM_ONNXRUNTIME, beside this library, beside the program, then the copy fetched by the
    // project's script.
    const char *runtime_path;
    // Picture width in pixels, for a model that leaves it open. 0: the model's own.
    uint32_t width;
    // Picture height in pixels, for a model that leaves it open. 0: the model's own.
    uint32_t height;
    // CPU threads that run the model. 0: the machine's cores less one, at least one.
    uint32_t threads;
    // The least urgent messages that `log` is called with: one of `DDPM_LOG_*`.
    uint32_t log_level;
    // Takes log messages; NULL for no log. See `ddpm_log_callback` for what it may do.
    ddpm_log_callback log;
    // Handed to `log`. Must be good for use from other threads until the engine is destroyed.
    void *log_user_data;
    // What the model's output means: one of `DDPM_PREDICTION_*`.
    uint32_t prediction_type;
    // Kept for later versions; 0.
    uint32_t reserved;
} ddpm_engine_desc;

// What a loaded engine turned out to be. Initialise it with `DDPM_ENGINE_INFO_INIT`. The strings
// are UTF-8, never NULL, and live until `ddpm_engine_destroy`.
typedef struct {
    // sizeof(ddpm_engine_info); `DDPM_ENGINE_INFO_INIT` sets it.
    uint32_t struct_size;
    // What runs the model: `DDPM_PROVIDER_CPU` or `DDPM_PROVIDER_CUDA`.
    uint32_t provider;
    // Channels of the model's sample: 1, 3 or 4.
    uint32_t channels;
    // Picture height in pixels.
    uint32_t height;
    // Picture width in pixels.
    uint32_t width;
    // What the channels mean: one of `DDPM_COLOR_*`.
    uint32_t color;
    // What the model's output means: one of `DDPM_PREDICTION_*`, not DEFAULT.
    uint32_t prediction_type;
    // T, the number of noise levels the model was trained with: the most steps a stream may have.
    uint32_t num_train_timesteps;
    // CPU threads that run the model.
    uint32_t threads;
    // Kept for later versions; written as 0.
    uint32_t reserved;
    // Why AUTO took the CPU; "" where it did not.
    const char *fallback_reason;
    // The version of the ONNX Runtime library in use, such as "1.31.1".
    const char *runtime_version;
    // The file of the ONNX Runtime library in use.
    const char *runtime_path;
} ddpm_engine_info;

// How a picture is to be revealed. Initialise it with `DDPM_STREAM_DESC_INIT`; everything may stay
// zero.
typedef struct {
    // sizeof(ddpm_stream_desc); `DDPM_STREAM_DESC_INIT` sets it.
    uint32_t struct_size;
    // The update rule: one of `DDPM_SAMPLER_*`.
    uint32_t sampler;
    // Reverse steps from noise to picture, 1 to the model's `num_train_timesteps`. 0: 50, or all
    // of those where there are fewer.
    uint32_t steps;
    // How the steps are spread over the noise levels: one of `DDPM_SPACING_*`.
    uint32_t spacing;
    // The picture's number: the same seed gives the same picture. All 64 bits count.
    uint64_t seed;
    // DDIM only: how much noise a step draws, from 0 (none); 1 is as much as DDPM.
    float eta;
    // With `DDPM_CLIP_RANGE`: the limit, above 0; the picture's own range is 1. Else 0.
    float clip_range;
    // Whether the predicted picture is held to a range: one of `DDPM_CLIP_*`.
    uint32_t clip;
    // The variance of DDPM's noise: one of `DDPM_VARIANCE_*`.
    uint32_t variance_type;
    // What frames show: one of `DDPM_PREVIEW_*`.
    uint32_t preview;
    // Kept for later versions; 0.
    uint32_t reserved;
} ddpm_stream_desc;

// Where a stream is. Initialise it with `DDPM_STREAM_STATUS_INIT`.
typedef struct {
    // sizeof(ddpm_stream_status); `DDPM_STREAM_STATUS_INIT` sets it.
    uint32_t struct_size;
    // One of `DDPM_STREAM_*`.
    uint32_t state;
    // Steps finished, 0 to `steps`.
    uint32_t step;
    // Steps of the whole run.
    uint32_t steps;
    // The number of this run's newest frame; 0 before its first step is finished.
    uint64_t generation;
    // The noise level given to the model in the step that runs or comes next; after the last step,
    // that of the last.
    double timestep;
} ddpm_stream_status;

// Which frame was copied. Initialise it with `DDPM_FRAME_INFO_INIT`.
typedef struct {
    // sizeof(ddpm_frame_info); `DDPM_FRAME_INFO_INIT` sets it.
    uint32_t struct_size;
    // Width in pixels.
    uint32_t width;
    // Height in pixels.
    uint32_t height;
    // Steps finished when the frame was made, 1 to `steps`.
    uint32_t step;
    // Steps of the whole run.
    uint32_t steps;
    // Kept for later versions; written as 0.
    uint32_t reserved;
    // The frame's number; the next frame of this stream has a greater one.
    uint64_t generation;
} ddpm_frame_info;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The name of a result code, such as "DDPM_BUSY"; "unknown ddpm_result" for any other number.
//
// Never NULL; the text lives as long as the library is loaded. Does not block or allocate. Any
// thread, and the log callback too.
DDPM_API const char *ddpm_result_name(ddpm_result result);

// The ABI version of the loaded library. A host that loads the library at run time compares it
// with `DDPM_ABI_VERSION` before it calls anything else.
//
// Does not block or allocate. Any thread, and the log callback too.
DDPM_API uint32_t ddpm_abi_version(void);

// The version of the loaded library, such as "0.1.0".
//
// Never NULL; the text lives as long as the library is loaded. Does not block or allocate. Any
// thread, and the log callback too.
DDPM_API const char *ddpm_version(void);

// The message of the last error on the calling thread: what is wrong, what was found, what was
// expected. UTF-8, one or more lines, without a newline at the end.
//
// Never NULL; "" before the first error. The text stays valid, and stays the same, until the next
// call on this thread that returns an error, or the thread's end. Calls that succeed leave it as it
// is. Does not block or allocate. Any thread, and the log callback too.
DDPM_API const char *ddpm_last_error(void);

// Makes an engine and returns at once; the engine's worker thread then finds ONNX Runtime and loads
// the model. Until that is done, calls that need the model return DDPM_ERROR_ENGINE_LOADING, and a
// failure to load comes back from all of them. `ddpm_engine_wait` tells when and whether it worked.
//
// `*engine` is written on success only. Does not block (no file is opened by this call). Allocates,
// and starts a thread. Any thread. Errors: INVALID_ARGUMENT for a NULL, a descriptor that is not
// initialised, an unknown value, or not exactly one of `model_path` and `model_data`; INTERNAL where
// the system gives no thread.
DDPM_API
ddpm_result ddpm_engine_create(const ddpm_engine_desc *desc,
                               ddpm_engine **engine);

// Waits until the model is loaded, or `timeout_ms` is over. A timeout of 0 only looks, so it may be
// called each frame; `DDPM_WAIT_FOREVER` has no end.
//
// Returns OK when the engine is ready, TIMEOUT while it is not, or what went wrong with the
// loading: RUNTIME_LIBRARY, MODEL, UNSUPPORTED, PROVIDER, INFERENCE, IO, OUT_OF_MEMORY. Blocks for up to
// `timeout_ms`. Does not allocate, except for the message of an error. Any thread.
DDPM_API
ddpm_result ddpm_engine_wait(ddpm_engine *engine,
                             uint32_t timeout_ms);

// Tells what the engine turned out to be: provider in use, picture size, versions.
//
// `*info` is written on success only. Does not block. Allocates the strings on the first call.
// Any thread. Errors: INVALID_ARGUMENT for a NULL or an `info` that is not initialised;
// ENGINE_LOADING until the model is loaded; what went wrong with the loading, as from
// `ddpm_engine_wait`.
DDPM_API ddpm_result ddpm_engine_get_info(ddpm_engine *engine, ddpm_engine_info *info);

// Ends the engine: a model run is broken off, the worker thread ends, the model is freed. Its
// streams stay valid handles: `ddpm_step` on one returns ENGINE_CLOSED, its last frame can still be
// copied, and it has to be destroyed, before or after.
//
// Must be the last call on this handle: no other call on it may be running, and the pointer is dead
// afterwards, so a second destroy is undefined. Blocks until the worker has ended: a run stops
// at its next operator, a load at its next stage. Does not allocate. Any thread, but not from the log callback, which
// returns DDPM_ERROR_UNSUPPORTED and leaves the engine alive. Errors: INVALID_ARGUMENT for NULL.
DDPM_API
ddpm_result ddpm_engine_destroy(ddpm_engine *engine);

// Makes a stream on a loaded engine, ready for its first `ddpm_step`.
//
// `*stream` is written on success only. Does not block, and runs no model. Allocates all memory the
// stream will use. Any thread. Errors: INVALID_ARGUMENT for a NULL, a descriptor that is not
// initialised, or a value out of range; ENGINE_LOADING until the engine is ready; what went wrong
// with the engine's loading, as from `ddpm_engine_wait`; OUT_OF_MEMORY.
DDPM_API
ddpm_result ddpm_stream_create(ddpm_engine *engine,
                               const ddpm_stream_desc *desc,
                               ddpm_stream **stream);

// Asks for one reverse step and returns at once; the worker thread runs it. Call it once a frame.
//
// Returns OK when the step was accepted, BUSY when the last one still runs or the engine has too
// many waiting (this call then asked for nothing), DONE when there is none left. An error of a step comes back from every call after
// it until `ddpm_stream_reset`. Does not block, allocate, or wait for a lock that a model run holds
// (but an error's message allocates, and so does, once, the first step asked for by a
// thread that never made a stream). Any thread. Errors: INVALID_ARGUMENT for NULL; INFERENCE,
// NON_FINITE or OUT_OF_MEMORY from the step before; ENGINE_CLOSED.
DDPM_API
ddpm_result ddpm_step(ddpm_stream *stream);

// Tells where the stream is. A failed stream is a status, not an error of this call.
//
// `*status` is written on success only. Does not block or allocate. Any thread. Errors:
// INVALID_ARGUMENT for a NULL or a `status` that is not initialised.
DDPM_API ddpm_result ddpm_stream_get_status(ddpm_stream *stream, ddpm_stream_status *status);

// Waits until no step runs on this stream, or `timeout_ms` is over; `DDPM_WAIT_FOREVER` has no end.
// For tools and tests: a host with frames to draw calls `ddpm_step` and goes on.
//
// Returns OK when no step runs, TIMEOUT while one does. Blocks for up to `timeout_ms`. Does not
// allocate. Any thread. Errors: INVALID_ARGUMENT for NULL; an error of the step waited for, as from
// `ddpm_step`.
DDPM_API ddpm_result ddpm_stream_wait(ddpm_stream *stream, uint32_t timeout_ms);

// Starts the stream over with this seed: the next `ddpm_step` is its first. The result of a step
// that runs is thrown away, and an error of an earlier step is forgotten.
//
// Does not block or allocate. Any thread. Errors: INVALID_ARGUMENT for NULL; ENGINE_CLOSED.
DDPM_API ddpm_result ddpm_stream_reset(ddpm_stream *stream, uint64_t seed);

// Ends the run: the result of a step that runs is thrown away, `ddpm_step` returns DONE and the
// status is CANCELLED until `ddpm_stream_reset`. The last frame can still be copied.
//
// Does not block or allocate. Any thread. Errors: INVALID_ARGUMENT for NULL.
DDPM_API ddpm_result ddpm_stream_cancel(ddpm_stream *stream);

// Ends the stream. A step that runs is finished by the worker and thrown away; its memory is freed
// then.
//
// Must be the last call on this handle: no other call on it may be running, and the pointer is dead
// afterwards, so a second destroy is undefined. Before or after its engine's destroy. Does not
// block or allocate. Any thread, but not from the log callback, which returns
// DDPM_ERROR_UNSUPPORTED and leaves the stream alive. Errors: INVALID_ARGUMENT for NULL.
DDPM_API ddpm_result ddpm_stream_destroy(ddpm_stream *stream);

// Copies the newest frame as RGBA8: four bytes a pixel in the order red, green, blue, alpha, the top
// row first, `row_stride` bytes from row to row. The model's values -1..1 become 0..255 with no
// gamma change; gray is repeated in red, green and blue; alpha is 255 unless the model has one.
//
// `row_stride` 0 stands for rows without gaps, width * 4. `dst` needs
// (height - 1) * row_stride + width * 4 bytes; bytes between rows are left alone. `info` may be
// NULL. Returns OK, or NO_NEW_FRAME when there is none newer than the last one copied; `dst` and
// `*info` are written on OK only. Does not block or allocate: one copy of pixels that the worker has
// converted. Any thread; of several threads on one stream each frame goes to one of them.
// Errors: INVALID_ARGUMENT for a NULL `stream` or `dst`, a stride shorter than a row, or a `dst_size`
// that is too small.
DDPM_API
ddpm_result ddpm_stream_copy_frame(ddpm_stream *stream,
                                   void *dst,
                                   uint64_t dst_size,
                                   uint64_t row_stride,
                                   ddpm_frame_info *info);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* DDPM_H */
