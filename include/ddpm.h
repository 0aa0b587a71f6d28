/*
libddpm: a picture appears by reverse diffusion, one step per rendered frame.

This file is generated from src/ffi; `make header` writes it.

OVERVIEW

An engine loads a model (an ONNX file that removes noise) and owns one worker thread. A stream is one
picture that is being revealed: it starts as noise, and each ddpm_step makes it a little less noisy.
The host takes the newest picture when there is one and calls ddpm_step, once a frame, in this order
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
    spacing      which timesteps a run of few steps visits
    seed         the picture's number: same model, sampler, steps and seed, same picture
    strength     how far from its picture a run that starts from one goes: 0 stays, 1 is all steps
    guidance     how hard a picture is pushed towards its class, away from a picture of no class
    provider     what runs the model: the CPU, CUDA, or one that comes as a library of its own
    fused step   a step that one run of the model makes whole, so that the sample stays on its device
    generation   the number of a published frame; a greater one is newer
    playback     a reveal that takes a given time, whatever the machine
    branch       a stream that is another one's run up to a step, and another picture after it

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
    // after DONE copy once more: the last step may have ended between the two calls

    ddpm_stream_destroy(stream);
    ddpm_engine_destroy(engine);

LOADING

ddpm_engine_create returns at once, and the engine's worker thread loads the model. A host that draws
meanwhile asks ddpm_engine_get_status each frame, and shows its `progress`, until the state is READY or
FAILED; ddpm_engine_wait with a timeout of 0 then gives the error. A destroy while the model loads breaks
the load off. With a folder in ddpm_engine_desc.cache_path the second load of a model is faster.

A model comes from a file, from memory, or from what the host's open_file callback opens: an entry of an
archive, an encrypted asset. In the last case nothing of it is written to disk:

    engine_desc.model_path = "models/portraits.onnx";         // a name that open_file knows
    engine_desc.open_file = open_asset;
    engine_desc.read_file = read_asset;
    engine_desc.close_file = close_asset;
    engine_desc.files_user_data = assets;

ddpm_engine_desc.weights_path names a safetensors file whose tensors replace the graph's own: one model,
many styles.

A host that wants CUDA and nothing else says so, and how; docs/cuda.md tells what has to be there, and an
error names what is not. All calls to CUDA are made on the engine's own threads: the context that is current
on a thread of the host's stays what it is.

    ddpm_cuda_desc cuda = DDPM_CUDA_DESC_INIT;
    cuda.memory_limit = 512u << 20;
    engine_desc.provider = DDPM_PROVIDER_CUDA;
    engine_desc.cuda = &cuda;

SAMPLERS

A stream made from a descriptor of zeros takes the model's own sampler with the settings that came with
the model (ddpm_engine_info.sampler and .steps). Each field of ddpm_stream_desc that is set takes the
place of one of those. All samplers are in enum ddpm_sampler; a tool lists them by ddpm_sampler_name and
reads a name that a user typed by ddpm_sampler_from_name:

    stream_desc.sampler = DDPM_SAMPLER_DPMPP;                 // 20 steps of DPM-Solver++
    stream_desc.steps = 20;

    stream_desc.image = pixels;                               // from a picture, RGBA8, of the model's size
    stream_desc.image_size = sizeof pixels;
    stream_desc.strength = 0.5f;                              // the later half of the steps

    stream_desc.has_class_label = 1;                          // a class of a class-conditional model
    stream_desc.class_label = 3;
    stream_desc.guidance = 3.0f;

FRAMES

The worker makes a frame of each step in the stream's frame_format: bytes, floats, or the model's own
floats. ddpm_stream_copy_frame copies the newest to where the host wants it. A host that hands the pixels
on at once, to an upload say, can do without the copy:

    ddpm_frame_view view = DDPM_FRAME_VIEW_INIT;
    if (ddpm_stream_acquire_frame(stream, &view) == DDPM_OK) {
        upload(view.pixels, view.width, view.height);
        ddpm_stream_release_frame(stream);
    }

The pixels stay as they are until the release, while the worker goes on. A frame is had once, by either
way; frames that nobody took are passed over, the newest is what counts.

TIME AND TRAJECTORY

ddpm_step makes a picture as fast as there are frames and the machine allows. A host that wants it to
take a time plays it: it ticks once a frame, and the library asks for the steps that are due, as measured
step times and the easing have it. On a fast machine several steps fall into a frame; a slow one leaves
steps out, so that the picture is finished on time there too.

    ddpm_playback_desc playback = DDPM_PLAYBACK_DESC_INIT;
    playback.duration = 2.5;                                  // seconds
    playback.easing = DDPM_EASING_IN_OUT;
    stream_desc.director = 1;                                 // before the stream is made
    ddpm_stream_play(stream, &playback);

    // each frame:
    if (ddpm_stream_copy_frame(stream, pixels, sizeof pixels, 0, NULL) == DDPM_OK) {
        // upload the pixels
    }
    ddpm_result ticked = ddpm_stream_tick(stream, seconds);   // OK, PAUSED, DONE, or < 0

Equally spaced timesteps look like nothing, nothing, everything: the noisy sample settles at the very end,
the prediction stands at the start. With `director` the timesteps are spread by what one sees.

A run is a trajectory, and a stream moves along it: ddpm_stream_pause, ddpm_stream_resume and
ddpm_stream_seek, back and forth; a sought step is that of the straight run. ddpm_stream_branch makes
a stream that leaves the run at a step for another seed:

    ddpm_branch_desc branch_desc = DDPM_BRANCH_DESC_INIT;
    ddpm_stream *branch = NULL;
    branch_desc.step = 20;
    branch_desc.seed = 8;
    branch_desc.variation = 0.5f;                             // where the sampler draws no noise
    ddpm_stream_branch(stream, &branch_desc, &branch);

ddpm_stream_save writes a run down, and ddpm_stream_load makes a stream of it that goes on as it would have,
in another process or on another day; it refuses the run of another model.

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
order. The log callback and the file callbacks may be called from the worker and must not call back
into the library; everything else is learnt by asking. An engine starts the thread ddpm-worker, and
ddpm-model-0 and so on for the model; they have the affinity and the priority of the thread that made the
engine, unless ddpm_engine_desc.thread_priority says otherwise, and end with the engine.

The library installs no signal handlers, sets no locale, writes nothing to the standard streams, and
leaves no static destructors behind. It computes with a floating-point mode of its own and leaves the
host's as it is. Official builds of ONNX Runtime report to their maker, from a thread and by way of files
in the user's cache folder; that is switched off, unless the environment has ORT_DISABLE_TELEMETRY already
with whatever value. What ONNX Runtime says of a model goes to the log callback of its engine; what it
says of nothing in particular goes nowhere, unless the environment has ORT_LOG. After the
engines and streams are destroyed the library may be unloaded; where a thread that has called it still
lives, the system may keep it in memory until that thread ends, and ONNX Runtime stays loaded.

COST

    call                                          blocks                  allocates
    ddpm_step, get_status, reset, cancel          no                      no
    ddpm_stream_play, tick, pause, resume, seek   no                      no
    ddpm_stream_copy_frame                        no (copies pixels)      no
    ddpm_stream_acquire_frame, release_frame      no                      no
    ddpm_engine_create                            no                      yes, starts a thread
    ddpm_engine_get_status                        no                      no
    ddpm_engine_get_info, get_class_name          no                      on the first call
    ddpm_engine_add_noise                         no (writes its output)  no
    ddpm_sampler_name                             no                      on the first call
    ddpm_sampler_from_name                        no                      no
    ddpm_stream_create                            no                      all the stream will use
    ddpm_stream_branch                            for a step's result     all the branch will use
    ddpm_stream_save                              for a step's result     some times the file's size
    ddpm_stream_load                              no                      all the stream will use
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
      DDPM_NULL, 0, 0, DDPM_NULL, 0, 0, DDPM_NULL, DDPM_NULL, DDPM_NULL, DDPM_NULL, DDPM_NULL,     \
      DDPM_NULL, DDPM_NULL, DDPM_NULL, DDPM_NULL, 0, 0 }
#define DDPM_CUDA_DESC_INIT                                                                        \
    { sizeof(ddpm_cuda_desc), 0, 0, 0, 0, 0, 0, DDPM_NULL, DDPM_NULL }
#define DDPM_ENGINE_INFO_INIT                                                                      \
    { sizeof(ddpm_engine_info), 0, 0, 0, 0, 0, 0, 0, 0, 0, DDPM_NULL, DDPM_NULL, DDPM_NULL,        \
      0, 0, 0, 0, 0, 0, DDPM_NULL, DDPM_NULL, DDPM_NULL, 0, 0, 0, 0 }
#define DDPM_ENGINE_STATUS_INIT                                                                    \
    { sizeof(ddpm_engine_status), 0, 0, 0.0f, 0, { 0 } }
#define DDPM_STREAM_DESC_INIT                                                                      \
    { sizeof(ddpm_stream_desc), 0, 0, 0, 0, 0.0f, 0.0f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.0f, 0.0f,     \
      0, 0, 0, 0, 0.0f, 0.0f, 0, 0, 0, DDPM_NULL, 0, DDPM_NULL, 0, 0, 0, 0, 0, 0, 0 }
#define DDPM_STREAM_STATUS_INIT                                                                    \
    { sizeof(ddpm_stream_status), 0, 0, 0, 0, 0.0, 0, 0 }
#define DDPM_PLAYBACK_DESC_INIT                                                                    \
    { sizeof(ddpm_playback_desc), 0, 0.0, 0, 0 }
#define DDPM_BRANCH_DESC_INIT                                                                      \
    { sizeof(ddpm_branch_desc), 0, 0, 0.0f, 0 }
#define DDPM_FRAME_INFO_INIT                                                                       \
    { sizeof(ddpm_frame_info), 0, 0, 0, 0, 0, 0 }
#define DDPM_FRAME_VIEW_INIT                                                                       \
    { sizeof(ddpm_frame_view), 0, 0, 0, 0, 0, 0, DDPM_NULL, 0, 0 }

// Done as asked.
#define DDPM_OK 0

// `ddpm_step`: the last step still runs, so this call asked for nothing. Frames: one is acquired and not
// released. Try again next frame.
#define DDPM_BUSY 1

// `ddpm_step`: there is no step left. The picture is finished, or the run was cancelled.
#define DDPM_DONE 2

// `ddpm_stream_copy_frame`, `ddpm_stream_acquire_frame`: nothing newer than the last frame taken. The
// destination is untouched.
#define DDPM_NO_NEW_FRAME 3

// A wait reached its timeout.
#define DDPM_TIMEOUT 4

// `ddpm_step`, `ddpm_stream_tick`: the stream is paused, so this call asked for nothing.
#define DDPM_PAUSED 5

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

// WebGPU, or an error. This and the following come as libraries of their own: see
// `ddpm_engine_desc.provider_library_path`.
#define DDPM_PROVIDER_WEBGPU 3

// NVIDIA's TensorRT for RTX, or an error.
#define DDPM_PROVIDER_TENSORRT_RTX 4

// DirectML, or an error.
#define DDPM_PROVIDER_DIRECTML 5

// Apple's CoreML, or an error.
#define DDPM_PROVIDER_COREML 6

// `conv_search`: cuDNN chooses its algorithms by a heuristic; a new batch size costs no search.
#define DDPM_CONV_SEARCH_HEURISTIC 0

// It tries all of them at the first run of each batch size: seconds, and memory meanwhile.
#define DDPM_CONV_SEARCH_EXHAUSTIVE 1

// It always takes the same one.
#define DDPM_CONV_SEARCH_DEFAULT 2

// `stream`: a CUDA stream of the engine's own, of the lowest priority that the device has, so that what
// else is on it goes first.
#define DDPM_CUDA_STREAM_LOW 0

// One of the engine's own, of the highest priority.
#define DDPM_CUDA_STREAM_HIGH 1

// The one that ONNX Runtime makes.
#define DDPM_CUDA_STREAM_RUNTIME 2

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

// `thread_priority`: that of the thread that calls `ddpm_engine_create`.
#define DDPM_PRIORITY_DEFAULT 0

// Less than that, so that the host's threads come first where all cores are busy. Linux: 5 on the scale
// of nice. Windows: below normal. Elsewhere it is as DEFAULT, with a warning in the log.
#define DDPM_PRIORITY_LOW 1

// `fused_step`: as ON with CUDA where the model allows it, as OFF with the CPU, where it saves nothing.
#define DDPM_FUSED_AUTO 0

// The arithmetic of a step is part of the model's graph: a run of it makes the whole step, and the samples
// of a stream stay where the model runs, while the same streams go on together. A model that does not
// allow that is an error of the load.
#define DDPM_FUSED_ON 1

// The model predicts, and the library makes the step. The pictures are those of ON within 1e-5.
#define DDPM_FUSED_OFF 2

// A timeout that never comes.
#define DDPM_WAIT_FOREVER 4294967295

// `color`: one channel.
#define DDPM_COLOR_GRAY 1

// Three channels.
#define DDPM_COLOR_RGB 2

// Four channels; alpha is not premultiplied.
#define DDPM_COLOR_RGBA 3

// `cache`: there is no cache folder.
#define DDPM_CACHE_OFF 0

// The optimised graph came from it.
#define DDPM_CACHE_HIT 1

// The graph was optimised, and is in it for the next load.
#define DDPM_CACHE_WRITTEN 2

// The graph was optimised and could not be kept; `cache_reason` tells why.
#define DDPM_CACHE_UNUSED 3

// `state`: the model is being loaded.
#define DDPM_ENGINE_LOADING 0

// Streams can be made.
#define DDPM_ENGINE_READY 1

// The load failed, or the worker did; `ddpm_engine_wait` tells why.
#define DDPM_ENGINE_FAILED 2

// Another thread is in `ddpm_engine_destroy`.
#define DDPM_ENGINE_CLOSED 3

// `stage`: looks for the ONNX Runtime library and starts it.
#define DDPM_LOAD_RUNTIME 0

// Reads the model file.
#define DDPM_LOAD_MODEL 1

// ONNX Runtime optimises the model for this machine.
#define DDPM_LOAD_OPTIMISE 2

// Runs the model for the first time.
#define DDPM_LOAD_FIRST_RUNS 3

// The load is over, and the engine ready.
#define DDPM_LOAD_DONE 4

// `sampler`: the model's own, DDPM unless its files say otherwise. The others are `ddpm_sampler`.
#define DDPM_SAMPLER_DEFAULT 0

// `spacing`: the model's own, trailing unless its files say otherwise.
#define DDPM_SPACING_DEFAULT 0

// Counts up from the clean end in whole strides.
#define DDPM_SPACING_LEADING 1

// Counts down from the noisy end, which it always includes.
#define DDPM_SPACING_TRAILING 2

// Evenly from the clean end to the noisy end, both included.
#define DDPM_SPACING_LINSPACE 3

// `sigmas`: the model's own, those of the timesteps unless its files say otherwise.
#define DDPM_SIGMAS_DEFAULT 0

// The noise levels are those of the timesteps.
#define DDPM_SIGMAS_TIMESTEPS 1

// The noise levels are even in sigma^(1/7) (Karras et al. 2022, eq. 5), and the timesteps follow.
#define DDPM_SIGMAS_KARRAS 2

// The noise levels are even in the logarithm of sigma, and the timesteps follow.
#define DDPM_SIGMAS_EXPONENTIAL 3

// `final_alpha`: the model's own, one unless its files say otherwise.
#define DDPM_FINAL_ALPHA_DEFAULT 0

// The last step goes to the clean picture, alpha_bar 1.
#define DDPM_FINAL_ALPHA_ONE 1

// The last step goes to timestep 0 (diffusers' `set_alpha_to_one = false`, Stable Diffusion).
#define DDPM_FINAL_ALPHA_FIRST 2

// `solver_type`: the model's own, else the sampler's.
#define DDPM_SOLVER_DEFAULT 0

// DPM-Solver++: the second-order term by the midpoint rule, its default.
#define DDPM_SOLVER_MIDPOINT 1

// DPM-Solver++: the second-order term by Heun's rule.
#define DDPM_SOLVER_HEUN 2

// UniPC with B_1(h) = h.
#define DDPM_SOLVER_BH1 3

// UniPC with B_2(h) = e^h - 1, its default.
#define DDPM_SOLVER_BH2 4

// `clip`: the model's own.
#define DDPM_CLIP_DEFAULT 0

// The predicted picture is used as it is.
#define DDPM_CLIP_OFF 1

// The predicted picture is held to -clip_range .. clip_range.
#define DDPM_CLIP_RANGE 2

// Dynamic thresholding (Saharia et al. 2022, section 2.3): with s the `dynamic_ratio` quantile of
// the predicted picture's magnitudes, from 1 to `dynamic_max`, the picture is held to -s .. s and
// divided by s.
#define DDPM_CLIP_DYNAMIC 3

// `variance_type`: the model's own.
#define DDPM_VARIANCE_DEFAULT 0

// DDPM's noise has the variance of the posterior.
#define DDPM_VARIANCE_FIXED_SMALL 1

// DDPM's noise has the variance beta.
#define DDPM_VARIANCE_FIXED_LARGE 2

// The model gives the logarithm of the variance.
#define DDPM_VARIANCE_LEARNED 3

// The model chooses between both fixed ones (Nichol and Dhariwal 2021, eq. 15).
#define DDPM_VARIANCE_LEARNED_RANGE 4

// A switch, such as `lower_order_final`: the model's own.
#define DDPM_SWITCH_DEFAULT 0

// Off.
#define DDPM_SWITCH_OFF 1

// On.
#define DDPM_SWITCH_ON 2

// `preview`: the library's choice; the prediction in this version.
#define DDPM_PREVIEW_DEFAULT 0

// Frames show what the model takes the finished picture to be.
#define DDPM_PREVIEW_PREDICTION 1

// Frames show the noisy sample itself.
#define DDPM_PREVIEW_SAMPLE 2

// `frame_format`: four bytes a pixel in the order red, green, blue, alpha, the top row first. The model's
// values -1..1 become 0..255 with no gamma change, what is outside is held; gray is repeated in red,
// green and blue; alpha is 255 unless the model has one.
#define DDPM_FRAME_RGBA8 0

// `frame_format`: four 32-bit floats a pixel, red, green, blue, alpha, the top row first. The model's -1..1
// become 0..1, what is outside stays there; gray is repeated; alpha is 1 unless the model has one.
#define DDPM_FRAME_RGBA32F 1

// `frame_format`: the model's own 32-bit floats, about -1 to 1: all of the first channel, the top row
// first, then all of the next.
#define DDPM_FRAME_PLANAR_F32 2

// `image_format`: four bytes a pixel, red, green, blue, alpha, the top row first, as frames are. For a
// gray model the luma 0.299 R + 0.587 G + 0.114 B is taken; alpha counts only if the model has it.
#define DDPM_IMAGE_RGBA8 0

// `image_format`: 32-bit floats from -1 to 1, all of the first channel, then all of the next.
#define DDPM_IMAGE_PLANAR_F32 1

// `priority`: as it comes.
#define DDPM_PRIORITY_NORMAL 0

// Before the others.
#define DDPM_PRIORITY_HIGH 2

// `state`: waits to be asked for a step.
#define DDPM_STREAM_IDLE 0

// A step or a seek is queued or runs.
#define DDPM_STREAM_STEPPING 1

// The picture is finished.
#define DDPM_STREAM_DONE 2

// `ddpm_stream_cancel` ended the run. `ddpm_stream_reset` starts over, `ddpm_stream_seek` takes it up again.
#define DDPM_STREAM_CANCELLED 3

// A step failed; `ddpm_step` tells why. `ddpm_stream_reset` and `ddpm_stream_seek` as above.
#define DDPM_STREAM_FAILED 4

// `easing`: what is shown grows at one pace.
#define DDPM_EASING_LINEAR 0

// Slow at first, fast at the end: t^3.
#define DDPM_EASING_IN 1

// Fast at first, slow at the end: 1 - (1 - t)^3.
#define DDPM_EASING_OUT 2

// Slow at both ends: 3 t^2 - 2 t^3.
#define DDPM_EASING_IN_OUT 3

// The rule that takes x_t to the next, less noisy x.
//
// The numbers are those of the C ABI: a new sampler takes a new one, none is used again.
enum ddpm_sampler
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // Ancestral sampling (Ho et al. 2020, algorithm 2).
    DDPM_SAMPLER_DDPM = 1,
    // Denoising diffusion implicit models (Song, Meng, Ermon 2021): eta 0 draws no noise, eta 1 as
    // much as DDPM.
    DDPM_SAMPLER_DDIM = 2,
    // DDIM backwards, from a picture to the noise that gives it.
    DDPM_SAMPLER_DDIM_INVERSE = 3,
    // DPM-Solver++, multistep, orders 1 to 3 (Lu et al. 2022).
    DDPM_SAMPLER_DPMPP = 4,
    // DPM-Solver++ of the diffusion SDE: draws noise. Orders 1 to 3.
    DDPM_SAMPLER_DPMPP_SDE = 5,
    // UniPC, predictor and corrector, orders 1 to 3 (Zhao et al. 2023).
    DDPM_SAMPLER_UNIPC = 6,
    // DEIS, log-rho multistep, orders 1 to 3 (Zhang and Chen 2023).
    DDPM_SAMPLER_DEIS = 7,
    // Euler's method in sigma space (Karras et al. 2022).
    DDPM_SAMPLER_EULER = 8,
    // Euler steps with noise in between (k-diffusion's `euler_ancestral`).
    DDPM_SAMPLER_EULER_ANCESTRAL = 9,
    // Heun's method in sigma space (Karras et al. 2022, algorithm 1): two model evaluations a step.
    DDPM_SAMPLER_HEUN = 10,
    // Pseudo linear multistep (Liu et al. 2022), started with one improved Euler step: PLMS.
    DDPM_SAMPLER_PNDM = 11,
    // Latent consistency models (Luo et al. 2023). For models distilled for it.
    DDPM_SAMPLER_LCM = 12,
    // Trajectory consistency distillation (Zheng et al. 2024). For models distilled for it.
    DDPM_SAMPLER_TCD = 13,
    // Pseudo linear multistep started by Runge-Kutta steps, as published (Liu et al. 2022, F-PNDM):
    // four model evaluations in each of the first three steps.
    DDPM_SAMPLER_PNDM_PRK = 14,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum ddpm_sampler ddpm_sampler;
#else
typedef uint32_t ddpm_sampler;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

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

// Opens a file for the load of a model. `name` is UTF-8 and good until the callback returns: that of
// `ddpm_engine_desc.model_path` or `weights_path`; or, for external data of the model, that of the model with
// its last part, what follows the last `/`, replaced by the location that the model gives, which never leads
// up. Writes the file's size in bytes to `*size`, and to `*file` whatever the other two callbacks are to get
// for it, NULL included. Returns 0; anything else says that it cannot be opened, is in the message of the load's
// error, and `close_file` is then not called.
//
// All three are called on the engine's worker thread, one at a time, while the model loads and not any more
// once `ddpm_engine_wait` has returned something else than DDPM_TIMEOUT, or `ddpm_engine_destroy` has returned,
// which waits for one that is running.
// They must not call back into the library (such a call returns DDPM_ERROR_UNSUPPORTED), throw, or `longjmp`
// out. A file is read from its beginning to its end; one is open at a time.
typedef int32_t (*ddpm_open_file_callback)(void *user_data,
                                           const char *name,
                                           void **file,
                                           uint64_t *size);

// Reads `size` bytes, at most a megabyte, from `offset` of a file to `destination`. Returns how many it wrote
// there, 1 to `size`: the rest is asked for again. 0 says that the file ends there, which is an error as it is
// before its size; below 0 is the host's own error number, which is in the message of the load's error.
typedef int64_t (*ddpm_read_file_callback)(void *user_data,
                                           void *file,
                                           uint64_t offset,
                                           void *destination,
                                           uint64_t size);

// Closes a file that was opened.
typedef void (*ddpm_close_file_callback)(void *user_data, void *file);

// How CUDA runs a model. Initialise it with `DDPM_CUDA_DESC_INIT`; everything may stay zero.
typedef struct {
    // sizeof(ddpm_cuda_desc); `DDPM_CUDA_DESC_INIT` sets it.
    uint32_t struct_size;
    // The device's number, 0 to 63, as CUDA counts: CUDA_VISIBLE_DEVICES counts.
    uint32_t device;
    // The most bytes that ONNX Runtime's arena takes on the device, from 64 MiB on; cuDNN's workspace and
    // CUDA itself come on top. 0: no limit.
    uint64_t memory_limit;
    // How cuDNN chooses its algorithms: one of `DDPM_CONV_SEARCH_*`.
    uint32_t conv_search;
    // 1: matrix products and convolutions may round to the 10 bits of TF32, which is faster. 0: they do not.
    uint32_t tf32;
    // 1: convolutions run with the channels last, which suits tensor cores. 0: they do not.
    uint32_t prefer_nhwc;
    // The stream that the model runs on, where `host_stream` is NULL: one of `DDPM_CUDA_STREAM_*`.
    uint32_t stream;
    // A stream of the host's to run on, a cudaStream_t or CUstream of that device; it has to live until
    // `ddpm_engine_destroy` returned. NULL: see `stream`.
    void *host_stream;
    // A folder with NVIDIA's libraries, a CUDA toolkit, or a site-packages folder of Python that has
    // them, UTF-8. NULL looks at the folders in the environment variable DDPM_CUDA_LIBRARIES, beside
    // ONNX Runtime, in the copy fetched by the project's script, and where the system's loader looks;
    // these also come after a folder given here.
    const char *library_path;
} ddpm_cuda_desc;

// What a provider that comes as a library of its own is told, under its own name for it.
typedef struct {
    // UTF-8.
    const char *key;
    // UTF-8.
    const char *value;
} ddpm_provider_option;

// What an engine is made from. Initialise it with `DDPM_ENGINE_DESC_INIT`, then set either
// `model_path`, or `model_data` and `model_size`; everything else may stay zero. Nothing in it needs
// to live longer than the call to `ddpm_engine_create`, except what `log` and the file callbacks need, and
// the model's bytes where `model_data_stays` says so.
typedef struct {
    // sizeof(ddpm_engine_desc); `DDPM_ENGINE_DESC_INIT` sets it.
    uint32_t struct_size;
    // What runs the model: one of `DDPM_PROVIDER_*`.
    uint32_t provider;
    // The ONNX file, UTF-8; with `open_file` set, the name that it is called with. NULL when `model_data` is
    // set. What a model keeps in other files (external data) is looked for beside it and below, and nowhere
    // else; both may be links into one other folder, as download tools make them.
    const char *model_path;
    // The bytes of an ONNX file, copied by the call unless `model_data_stays`. NULL when `model_path` is set.
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
    // The most streams that one run of the model steps together, up to 256. 0: 8; 1: one after the
    // other. A model that is fixed to a batch size is run with that.
    uint32_t max_batch;
    // A folder for optimised graphs, UTF-8, made where there is none: a model that was loaded before by
    // the same versions on the same kind of machine then loads faster. Engines and processes may share
    // it. Entries are checked before use, what is damaged is made anew, and nothing that goes wrong with
    // it is an error (`ddpm_engine_info.cache` tells). Nothing old is removed. Whoever can write to it
    // decides what is run: keep it as safe as the program. NULL: no cache.
    const char *cache_path;
    // How urgent the engine's own threads are: one of `DDPM_PRIORITY_*`. No other thread is touched, and
    // no thread's affinity.
    uint32_t thread_priority;
    // 1: what `model_data` points to stays, unchanged, until `ddpm_engine_wait` has returned something else
    // than DDPM_TIMEOUT, or `ddpm_engine_destroy` has returned; the call then does not copy it. ONNX Runtime
    // makes weights of its own of it while it loads. 0: it is copied.
    uint32_t model_data_stays;
    // The folder, UTF-8, that a model at `model_data` has its external data in, or below. NULL refuses a
    // model that has any, naming the first file that it wants.
    const char *external_data_path;
    // A safetensors file, UTF-8, whose tensors take the place of the graph's initializers of the same names:
    // one graph, many styles. With `open_file` set, the name that it is called with. Each tensor has the
    // shape and type of what it replaces, where float32, float16 and bfloat16 go for float32 and float16, rounded
    // to nearest where that is shorter; a tensor without an initializer is an error. It counts in
    // `ddpm_engine_info.fingerprint`. NULL: the model's own weights.
    const char *weights_path;
    // Serves the model, its external data and the weights, as from an archive or decrypted, in place of files;
    // set `read_file` too. Nothing of it is written to disk but what `cache_path` asks for. NULL: files.
    ddpm_open_file_callback open_file;
    // Reads from a file that `open_file` opened.
    ddpm_read_file_callback read_file;
    // Closes a file that `open_file` opened; NULL where nothing is to be done.
    ddpm_close_file_callback close_file;
    // Handed to the three. Must be good for use from another thread until the load has ended, see
    // `ddpm_open_file_callback`.
    void *files_user_data;
    // How CUDA runs the model, where it does. NULL: as zeros.
    const ddpm_cuda_desc *cuda;
    // The library of a provider that comes as one, UTF-8. NULL looks for it under its usual name beside
    // ONNX Runtime, beside this library and beside the program; a provider that is part of ONNX Runtime
    // needs none.
    const char *provider_library_path;
    // What that provider is told. NULL: nothing.
    const ddpm_provider_option *provider_options;
    // How many there are at `provider_options`.
    uint32_t provider_option_count;
    // Whether a run of the model makes the whole step: one of `DDPM_FUSED_*`.
    uint32_t fused_step;
} ddpm_engine_desc;

// What a loaded engine turned out to be. Initialise it with `DDPM_ENGINE_INFO_INIT`. The strings
// are UTF-8, never NULL, and live until `ddpm_engine_destroy`.
typedef struct {
    // sizeof(ddpm_engine_info); `DDPM_ENGINE_INFO_INIT` sets it.
    uint32_t struct_size;
    // What runs the model: one of `DDPM_PROVIDER_*`, not AUTO.
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
    // The model's own sampler, one of `ddpm_sampler`: what `DDPM_SAMPLER_DEFAULT` stands for.
    uint32_t sampler;
    // Why AUTO took the CPU; "" where it did not.
    const char *fallback_reason;
    // The version of the ONNX Runtime library in use, such as "1.31.1".
    const char *runtime_version;
    // The file of the ONNX Runtime library in use.
    const char *runtime_path;
    // The model's own number of steps: what `steps` 0 stands for.
    uint32_t steps;
    // 1: the model gives the variance of DDPM's noise too, so that `DDPM_VARIANCE_LEARNED` and
    // `DDPM_VARIANCE_LEARNED_RANGE` are possible. 0: it does not.
    uint32_t gives_variance;
    // 1: the model takes a class label. 0: it has no classes.
    uint32_t takes_class_label;
    // The number of classes; 0 where there are none, or the model does not say how many.
    uint32_t class_count;
    // 1: the model has a label that stands for no class, so that pictures of no class, and guidance,
    // are possible. 0: it has none.
    uint32_t has_null_label;
    // What became of `ddpm_engine_desc.cache_path`: one of `DDPM_CACHE_*`.
    uint32_t cache;
    // Why the optimised graph was not kept, where `cache` is UNUSED; else "".
    const char *cache_reason;
    // What tells the model from all others: 32 hexadecimal digits, XXH3-128 of its file. Of a model that
    // keeps weights in other files, of the digests of them all: its own, then theirs in the order of
    // their names.
    const char *fingerprint;
    // The device that runs the model, as its driver calls it; "" for the CPU.
    const char *device_name;
    // Its memory in bytes; 0 where that is not known.
    uint64_t device_memory;
    // What of it was free after the load; 0 where that is not known.
    uint64_t free_device_memory;
    // 1: a run of the model makes the whole step, see `ddpm_engine_desc.fused_step`. 0: it does not.
    uint32_t fused_step;
    // Kept for later versions; written as 0.
    uint32_t reserved;
} ddpm_engine_info;

// How far an engine is. Initialise it with `DDPM_ENGINE_STATUS_INIT`.
typedef struct {
    // sizeof(ddpm_engine_status); `DDPM_ENGINE_STATUS_INIT` sets it.
    uint32_t struct_size;
    // One of `DDPM_ENGINE_*`.
    uint32_t state;
    // What the load is doing, one of `DDPM_LOAD_*`; where the engine is FAILED or CLOSED, what it was
    // doing last.
    uint32_t stage;
    // The part of the load that is done, for a progress bar: 0 to 1, and 1 once the engine has been
    // READY. It never goes back. It follows how long the stages usually take and moves in steps: no
    // promise about time.
    float progress;
    // How often the sample of a stream, or all that its sampler keeps, has been copied between the memory
    // of the host and where the model runs. Twice a step where steps are not fused
    // (`ddpm_engine_info.fused_step`); else only where streams join, leave or seek, or a state is kept for
    // that. Pictures do not count.
    uint64_t host_copies;
    // Kept for later versions; written as 0.
    uint32_t reserved[2];
} ddpm_engine_status;

// How a picture is to be revealed. Initialise it with `DDPM_STREAM_DESC_INIT`; everything may stay
// zero: that is the model's own sampler with the model's own settings, from noise. Most settings that
// the sampler has no use for are refused. What it points to needs to live no longer than the call to
// `ddpm_stream_create`. A float stands for the decimal it was written as, so that 0.29f of 100 steps is
// 29.
typedef struct {
    // sizeof(ddpm_stream_desc); `DDPM_STREAM_DESC_INIT` sets it.
    uint32_t struct_size;
    // The update rule: `DDPM_SAMPLER_DEFAULT` or one of `ddpm_sampler`.
    uint32_t sampler;
    // Reverse steps from noise to picture, 1 to the model's `num_train_timesteps`. 0: the model's own
    // number, 50 unless its files say otherwise. Some samplers (HEUN, PNDM) run the model more than
    // once for some steps; each run is one `ddpm_step`, and `ddpm_stream_status` counts those.
    uint32_t steps;
    // How the steps are spread over the noise levels: one of `DDPM_SPACING_*`. LCM and TCD have
    // timesteps of their own.
    uint32_t spacing;
    // The picture's number: the same seed gives the same picture. All 64 bits count.
    uint64_t seed;
    // How much noise a step draws, above 0 to 1. 0: as the sampler has it. For DDIM (none; 1 is as
    // much as DDPM) and TCD, whose gamma it is (0.3).
    float eta;
    // With `DDPM_CLIP_RANGE`: the limit, above 0; the picture's own range is 1. Else 0.
    float clip_range;
    // Whether the predicted picture is held to a range: one of `DDPM_CLIP_*`.
    uint32_t clip;
    // The variance of DDPM's noise: one of `DDPM_VARIANCE_*`.
    uint32_t variance_type;
    // What frames show: one of `DDPM_PREVIEW_*`.
    uint32_t preview;
    // The order of a sampler that has one, 1 to 3. 0: the model's own, else 2.
    uint32_t solver_order;
    // How a solver of order 2 or more uses its history: one of `DDPM_SOLVER_*`.
    uint32_t solver_type;
    // How the noise levels are spread: one of `DDPM_SIGMAS_*`.
    uint32_t sigmas;
    // What follows the last step: one of `DDPM_FINAL_ALPHA_*`.
    uint32_t final_alpha;
    // Added to leading timesteps (diffusers' `steps_offset`). 0: the model's own.
    uint32_t steps_offset;
    // LCM and TCD: the steps of the distillation, from whose timesteps a run's are chosen. 0: the
    // model's own, else 50.
    uint32_t original_steps;
    // With `DDPM_CLIP_DYNAMIC`: the quantile, above 0 to 1. 0: 0.995. Else 0.
    float dynamic_ratio;
    // With `DDPM_CLIP_DYNAMIC`: the largest s, from 1. 0: 1. Else 0.
    float dynamic_max;
    // DDIM: whether the noise is taken from the predicted picture after clipping (diffusers'
    // `use_clipped_model_output`): one of `DDPM_SWITCH_*`.
    uint32_t clipped_epsilon;
    // Solvers with an order: whether the last of fewer than 15 steps have a lower one: one of
    // `DDPM_SWITCH_*`.
    uint32_t lower_order_final;
    // DPMPP, DPMPP_SDE: whether the last step has order 1, however many there are: one of
    // `DDPM_SWITCH_*`.
    uint32_t euler_at_final;
    // Whether the model takes timesteps between the whole ones, which EULER's and HEUN's linspace and
    // other sigmas visit; else they are rounded: one of `DDPM_SWITCH_*`.
    uint32_t fractional_timesteps;
    // With an image: the share of the steps that is taken, 0 to 1. Noise is added to the image up
    // to where those begin: 1 leaves little of it, 0 takes no step and leaves it as it is. Rounded
    // down to whole steps: 0.04 of 20 is none, 0.29 of 100 is 29. Without an image 0, or 1; for
    // DDIM_INVERSE 0 is 1.
    float strength;
    // The scale of classifier-free guidance (Ho and Salimans 2022), for models with classes and a
    // label for none (`has_null_label`); runs the model twice a step. 0 or 1: none.
    float guidance;
    // 1: the picture is of class `class_label`. 0: of no class, for models without classes and those
    // with a label for none.
    uint32_t has_class_label;
    // How `image` is laid out: one of `DDPM_IMAGE_*`.
    uint32_t image_format;
    // The class, 0 to `class_count` - 1, with `has_class_label`. Else 0.
    int64_t class_label;
    // The timesteps to visit, falling, below the model's `num_train_timesteps`, in place of `steps`,
    // `spacing` and `steps_offset`, which stay 0. NULL: those.
    const uint32_t *timesteps;
    // The number of values at `timesteps`.
    uint64_t timestep_count;
    // The picture to start from, of the model's size. NULL: noise. DDIM_INVERSE needs one, and goes
    // from it to the noise that gives it.
    const void *image;
    // The number of bytes at `image`.
    uint64_t image_size;
    // Bytes from row to row of an RGBA8 image. 0: rows without gaps, width * 4.
    uint64_t image_row_stride;
    // How the pixels of frames are laid out: one of `DDPM_FRAME_*`. The worker converts.
    uint32_t frame_format;
    // 1: the timesteps are so chosen that each step brings what frames show nearer to the finished picture
    // by about as much, in place of `spacing`. The first such stream of a sampler and its settings waits while the
    // engine measures that, on a run of up to 32 steps that nobody is shown. Not for samplers that have
    // timesteps of their own, nor with `strength` below 1. 0: as `spacing` says.
    uint32_t director;
    // The most bytes of states that are kept on the way, from which a seek goes on; they are allocated with
    // the stream. 0: room for about the square root of the number of steps, up to 1 MiB. Less than a state,
    // 1 say, keeps none, and every seek back begins at the start.
    uint64_t checkpoint_bytes;
    // Whose steps are made first where more streams wait than one run of the model takes: one of
    // `DDPM_PRIORITY_*`.
    uint32_t priority;
    // Kept for later versions; 0.
    uint32_t reserved;
} ddpm_stream_desc;

// Where a stream is. Initialise it with `DDPM_STREAM_STATUS_INIT`.
typedef struct {
    // sizeof(ddpm_stream_status); `DDPM_STREAM_STATUS_INIT` sets it.
    uint32_t struct_size;
    // One of `DDPM_STREAM_*`.
    uint32_t state;
    // Steps finished, 0 to `steps`; while it seeks, the step it goes to.
    uint32_t step;
    // Steps of the whole run: calls of `ddpm_step` that are accepted. 0 where `strength` leaves none. A
    // playback that would end late makes them fewer.
    uint32_t steps;
    // The number of this run's newest frame; 0 before its first step is finished, if it has any.
    uint64_t generation;
    // The noise level given to the model in the step that runs or comes next; after the last step,
    // that of the last.
    double timestep;
    // 1 during a pause.
    uint32_t is_paused;
    // Kept for later versions; written as 0.
    uint32_t reserved;
} ddpm_stream_status;

// Which frame was copied. Initialise it with `DDPM_FRAME_INFO_INIT`.
typedef struct {
    // sizeof(ddpm_frame_info); `DDPM_FRAME_INFO_INIT` sets it.
    uint32_t struct_size;
    // Width in pixels.
    uint32_t width;
    // Height in pixels.
    uint32_t height;
    // Steps finished when the frame was made, 1 to `steps`; 0 in a run without steps.
    uint32_t step;
    // Steps of the whole run.
    uint32_t steps;
    // Kept for later versions; written as 0.
    uint32_t reserved;
    // The frame's number; the next frame of this stream has a greater one.
    uint64_t generation;
} ddpm_frame_info;

// A frame that was acquired. Initialise it with `DDPM_FRAME_VIEW_INIT`.
typedef struct {
    // sizeof(ddpm_frame_view); `DDPM_FRAME_VIEW_INIT` sets it.
    uint32_t struct_size;
    // Width in pixels.
    uint32_t width;
    // Height in pixels.
    uint32_t height;
    // Steps finished when the frame was made, 1 to `steps`; 0 in a run without steps.
    uint32_t step;
    // Steps of the whole run.
    uint32_t steps;
    // Kept for later versions; written as 0.
    uint32_t reserved;
    // The frame's number; the next frame of this stream has a greater one.
    uint64_t generation;
    // The pixels in the stream's `frame_format`, aligned to 64 bytes. Read only, until the release.
    const void *pixels;
    // The number of bytes at `pixels`.
    uint64_t size;
    // Bytes from row to row; there are no gaps.
    uint64_t row_stride;
} ddpm_frame_view;

// How long a reveal takes. Initialise it with `DDPM_PLAYBACK_DESC_INIT`; `duration` has to be set.
typedef struct {
    // sizeof(ddpm_playback_desc); `DDPM_PLAYBACK_DESC_INIT` sets it.
    uint32_t struct_size;
    // How the share that is shown grows with time: one of `DDPM_EASING_*`.
    uint32_t easing;
    // Seconds from now to the finished picture, above 0 and up to a day.
    double duration;
    // The steps that the rest of the run is shortened to at the fewest, where the machine is too slow for
    // all of them. 0: 8. The run's own number or more never shortens it, and ends late instead.
    uint32_t fewest_steps;
    // Kept for later versions; 0.
    uint32_t reserved;
} ddpm_playback_desc;

// Where a run is left for another. Initialise it with `DDPM_BRANCH_DESC_INIT`.
typedef struct {
    // sizeof(ddpm_branch_desc); `DDPM_BRANCH_DESC_INIT` sets it.
    uint32_t struct_size;
    // The last step that both have in common: 0 to the run's steps less one.
    uint32_t step;
    // From there on the noise of steps is drawn with this seed.
    uint64_t seed;
    // How much of the noise in the sample is drawn anew at that step, 0 (nothing) to 1 (all). A sampler
    // that draws no noise goes the same way with any seed: there it has to be above 0.
    float variation;
    // Kept for later versions; 0.
    uint32_t reserved;
} ddpm_branch_desc;



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
// initialised, an unknown value, not exactly one of `model_path` and `model_data`, or what goes with the
// other of them; INTERNAL where the system gives no thread.
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

// Adds noise to a clean picture as the model's training did, x_t = sqrt(alpha_bar_t) x_0 +
// sqrt(1 - alpha_bar_t) noise (Ho et al. 2020, eq. 4), with alpha_bar of the model's own noise schedule:
// out[i] from x0[i] and noise[i], `count` values each, in any layout. `timestep` is 0 (least noise) to
// the model's `num_train_timesteps` - 1.
//
// `out` is written on success only; it may be `x0` or `noise` itself, but not overlap them otherwise.
// Does not block or allocate, except for the message of an error. Any thread. Errors: INVALID_ARGUMENT
// for a NULL, a count that no memory holds, or a timestep out of range; ENGINE_LOADING until the model
// is loaded; what went wrong with the loading, as from `ddpm_engine_wait`.
DDPM_API
ddpm_result ddpm_engine_add_noise(ddpm_engine *engine,
                                  const float *x0,
                                  const float *noise,
                                  uint64_t count,
                                  uint32_t timestep,
                                  float *out);

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

// Tells what the engine turned out to be: provider in use, picture size, classes, versions.
//
// `*info` is written on success only. Does not block. Allocates the strings on the first call.
// Any thread. Errors: INVALID_ARGUMENT for a NULL or an `info` that is not initialised;
// ENGINE_LOADING until the model is loaded; what went wrong with the loading, as from
// `ddpm_engine_wait`.
DDPM_API ddpm_result ddpm_engine_get_info(ddpm_engine *engine, ddpm_engine_info *info);

// The name of a class of the model, for `ddpm_stream_desc.class_label`: 0 is the first.
//
// `*name` is written on success only: UTF-8, and it lives until `ddpm_engine_destroy`. Does not block.
// Allocates the names on the first call. Any thread. Errors: INVALID_ARGUMENT for a NULL, for a label
// that is not one of the named ones, and for a model that names none; ENGINE_LOADING until the model is
// loaded; what went wrong with the loading, as from `ddpm_engine_wait`.
DDPM_API
ddpm_result ddpm_engine_get_class_name(ddpm_engine *engine,
                                       int64_t label,
                                       const char **name);

// Tells how far the engine is, while it loads and afterwards. May be called each frame.
//
// `*status` is written on success only, and a failed load is no failure of this call. Does not block or
// allocate, except for the message of an error. Any thread. Errors: INVALID_ARGUMENT for a NULL or a
// `status` that is not initialised.
DDPM_API
ddpm_result ddpm_engine_get_status(ddpm_engine *engine,
                                   ddpm_engine_status *status);

// The name of a sampler, such as "ddim" or "dpmpp"; NULL for a number that no sampler has,
// `DDPM_SAMPLER_DEFAULT` among them. Counting up from 1 to the first NULL lists them all.
//
// The text lives as long as the library is loaded. Does not block; allocates the names on the first
// call. Any thread, and the log callback too.
DDPM_API const char *ddpm_sampler_name(uint32_t sampler);

// The sampler with this name, and the solver order that the name stands for: "dpmpp" gives
// `DDPM_SAMPLER_DPMPP` and 0, "dpmpp-3m" gives it with 3. Both are for the fields of
// `ddpm_stream_desc`.
//
// `*sampler` and `*order` are written on success only; `order` may be NULL. Does not block or
// allocate, except for the message of an error, which lists the names there are. Any thread.
// Errors: INVALID_ARGUMENT for a NULL or an unknown name.
DDPM_API ddpm_result ddpm_sampler_from_name(const char *name, uint32_t *sampler, uint32_t *order);

// Makes a stream on a loaded engine, ready for its first `ddpm_step`. There is no frame before that step
// is finished, whatever the picture starts from; but a run without steps (an image and `strength` 0) is
// DONE, and its image is its frame, with `step` 0.
//
// `*stream` is written on success only. Does not block, and runs no model. Allocates all memory the
// stream will use. Any thread. Errors: INVALID_ARGUMENT, with the field, for a NULL, a descriptor that
// is not initialised, a value out of range, or one that the sampler or the model has no use for;
// ENGINE_LOADING until the engine is ready; what went wrong with the engine's loading, as from
// `ddpm_engine_wait`; OUT_OF_MEMORY.
DDPM_API
ddpm_result ddpm_stream_create(ddpm_engine *engine,
                               const ddpm_stream_desc *desc,
                               ddpm_stream **stream);

// Asks for one reverse step and returns at once; the worker thread runs it. Call it once a frame.
//
// Returns OK when the step was accepted, BUSY when the last one, or a seek, still runs (this call then
// asked for nothing), PAUSED during a pause, DONE when there is none left. An error of a step comes back
// from every call after it until `ddpm_stream_reset` or `ddpm_stream_seek`. Does not block, allocate, or wait
// for a lock that a model run holds (but an error's message allocates, and so does, once, the first step
// asked for by a thread that never made a stream). Any thread. Errors: INVALID_ARGUMENT for NULL;
// INFERENCE, NON_FINITE or OUT_OF_MEMORY from the step before; ENGINE_CLOSED.
DDPM_API
ddpm_result ddpm_step(ddpm_stream *stream);

// Tells where the stream is. A failed stream is a status, not an error of this call.
//
// `*status` is written on success only. Does not block or allocate. Any thread. Errors:
// INVALID_ARGUMENT for a NULL or a `status` that is not initialised.
DDPM_API ddpm_result ddpm_stream_get_status(ddpm_stream *stream, ddpm_stream_status *status);

// Waits until no step or seek runs on this stream, or `timeout_ms` is over; `DDPM_WAIT_FOREVER` has no end.
// For tools and tests: a host with frames to draw calls `ddpm_step` and goes on.
//
// Returns OK when no step runs, TIMEOUT while one does. Blocks for up to `timeout_ms`. Does not
// allocate. Any thread. Errors: INVALID_ARGUMENT for NULL; an error of the step waited for, as from
// `ddpm_step`.
DDPM_API
ddpm_result ddpm_stream_wait(ddpm_stream *stream,
                             uint32_t timeout_ms);

// Starts the stream over with this seed: the next `ddpm_step` is its first. The result of a step
// that runs is thrown away, and an error of an earlier step is forgotten. A run without steps has its
// image as a new frame.
//
// Does not block or allocate. Any thread. Errors: INVALID_ARGUMENT for NULL; ENGINE_CLOSED.
DDPM_API
ddpm_result ddpm_stream_reset(ddpm_stream *stream,
                              uint64_t seed);

// Ends the run: a step in flight is thrown away, and the model's run broken off if no other stream
// shares it. `ddpm_step` returns DONE and the status is CANCELLED until `ddpm_stream_reset` or
// `ddpm_stream_seek`. The last frame can still be copied or acquired.
//
// Does not block or allocate. Any thread. Errors: INVALID_ARGUMENT for NULL.
DDPM_API ddpm_result ddpm_stream_cancel(ddpm_stream *stream);

// Ends the stream, and releases its acquired frame. A step in flight is thrown away, the model's run broken
// off if no other stream shares it; the stream's memory is freed once the worker has let go of it.
//
// Must be the last call on this handle: no other call on it may be running, and the pointer is dead
// afterwards, so a second destroy is undefined. Before or after its engine's destroy. Does not
// block or allocate. Any thread, but not from the log callback, which returns
// DDPM_ERROR_UNSUPPORTED and leaves the stream alive. Errors: INVALID_ARGUMENT for NULL.
DDPM_API
ddpm_result ddpm_stream_destroy(ddpm_stream *stream);

// Copies the newest frame in the stream's `frame_format`, the top row first, `row_stride` bytes from row
// to row; DDPM_FRAME_PLANAR_F32 has a row for each line of each channel, channel after channel. Float
// destinations need not be aligned.
//
// `row_stride` 0 stands for rows without gaps: width * 4 bytes, or width * 16 with DDPM_FRAME_RGBA32F.
// `dst` needs (rows - 1) * row_stride + one row without gaps, where rows is the height, or channels *
// height with DDPM_FRAME_PLANAR_F32; bytes between rows are left alone. `info` may be NULL.
// Returns OK; NO_NEW_FRAME when there is none newer than the last one copied or acquired; or BUSY while
// a frame is acquired. `dst` and `*info` are written on OK only. Does not block or allocate: one copy of
// pixels that the worker has converted. Any thread; of several threads on one stream each frame goes
// to one of them.
// Errors: INVALID_ARGUMENT for a NULL `stream` or `dst`, a stride shorter than a row, or a `dst_size`
// that is too small; the frame stays available then.
DDPM_API
ddpm_result ddpm_stream_copy_frame(ddpm_stream *stream,
                                   void *dst,
                                   uint64_t dst_size,
                                   uint64_t row_stride,
                                   ddpm_frame_info *info);

// Gives the newest frame without a copy, in the stream's `frame_format`, rows without gaps.
//
// The pixels stay where they are and as they are until `ddpm_stream_release_frame` or the stream's
// destroy, whatever else is done meanwhile: steps, reset, cancel, the engine's destroy. The worker
// never waits for the release; release soon all the same, since newer frames are had only after it.
// `*view` is written on OK only. Returns OK; NO_NEW_FRAME when there is none newer than the last one
// copied or acquired; or BUSY while a frame is acquired already. Does not block or allocate. Any
// thread; the release may come from another. Errors: INVALID_ARGUMENT for a NULL or a `view` that is
// not initialised; the frame stays available then.
DDPM_API
ddpm_result ddpm_stream_acquire_frame(ddpm_stream *stream,
                                      ddpm_frame_view *view);

// Gives an acquired frame back; its pixels must not be read any more.
//
// Does not block or allocate. Any thread. Errors: INVALID_ARGUMENT for NULL, or where no frame is
// acquired.
DDPM_API ddpm_result ddpm_stream_release_frame(ddpm_stream *stream);

// Gives what is left of the picture a time: from now on the host calls `ddpm_stream_tick` once a frame in
// place of `ddpm_step`. Called again, it takes another time. A reset, and a seek, go on playing from where
// they lead; what is left then takes its share of the duration.
//
// Does not block or allocate. Any thread. Errors: INVALID_ARGUMENT, with the field, for a NULL, a
// descriptor that is not initialised, or a value out of range.
DDPM_API
ddpm_result ddpm_stream_play(ddpm_stream *stream,
                             const ddpm_playback_desc *desc);

// Lets `seconds` pass, those since the last tick, and asks for the steps that are due: by the easing,
// and by how long steps are measured to take. Call it once a frame. On a slow machine it asks early, and
// drops steps where there is no time for all of them, so that the picture is finished on time; the
// status then has fewer `steps`.
//
// Returns OK while the picture is under way, PAUSED during a pause, in which no time passes, DONE when no
// step is left. Errors of a step come back as from `ddpm_step`. Does not block or allocate. Any
// thread. Errors: INVALID_ARGUMENT for NULL, for a stream that does not play, and for `seconds` below 0 or
// not finite; else as `ddpm_step`.
DDPM_API
ddpm_result ddpm_stream_tick(ddpm_stream *stream,
                             double seconds);

// Begins a pause: the step that runs is finished, and no other begins until `ddpm_stream_resume`;
// `ddpm_step` and `ddpm_stream_tick` return PAUSED. A seek works all the same.
//
// Does not block or allocate. Any thread. Errors: INVALID_ARGUMENT for NULL.
DDPM_API ddpm_result ddpm_stream_pause(ddpm_stream *stream);

// Ends a pause, if there is one.
//
// Does not block or allocate. Any thread. Errors: INVALID_ARGUMENT for NULL.
DDPM_API ddpm_result ddpm_stream_resume(ddpm_stream *stream);

// Goes to `step` of the run, 0 to its steps, back or forth, whatever the stream was doing: a step that runs
// is thrown away, and a cancelled or failed run is taken up again. The worker makes the steps that it
// takes from the nearest state it kept (`ddpm_stream_desc.checkpoint_bytes`) and shows the frame of `step`
// only, which is that of the straight run, bit for bit at the same batch size. At step 0 there is no frame.
//
// The state is STEPPING until it is there; `ddpm_stream_wait` waits for it. Does not block or allocate. Any
// thread. Errors: INVALID_ARGUMENT for NULL, and where the run has no such step; ENGINE_CLOSED.
DDPM_API
ddpm_result ddpm_stream_seek(ddpm_stream *stream,
                             uint32_t step);

// Makes another stream, which is this one's run up to `desc->step` and another after it. It begins by
// seeking to that step, shows frames as this one does, and does not play. This one goes on as it was.
//
// `*branch` is written on success only; it is destroyed like any stream. Allocates all that the new stream will use, and
// blocks for as long as the worker takes a step's result (with a fused step, for a run of the model). Any thread. Errors:
// INVALID_ARGUMENT, with the field, for a NULL, a descriptor that is not initialised, a step that the run does
// not make, or where nothing would differ (another seed
// without a variation, and a sampler that draws no noise from there on); ENGINE_CLOSED; OUT_OF_MEMORY.
DDPM_API
ddpm_result ddpm_stream_branch(ddpm_stream *stream,
                               const ddpm_branch_desc *desc,
                               ddpm_stream **branch);

// Writes the run as it stands after its last finished step to `dst`, a safetensors file that
// `ddpm_stream_load` takes: any later step is the same from there. Its playback, pause and frames are not in it. A step that
// runs goes on.
//
// `*size` is the number of bytes. `dst` may be NULL: then that is all this call tells. It stays the same while no
// step is finished and grows by little with each; `dst_size` may be larger. Allocates, and blocks for as long
// as the worker takes a step's result (with a fused step, for a run of the model): for tools, not for a frame.
// Outputs are written on success only. Any thread. Errors: INVALID_ARGUMENT for NULL,
// where `dst_size` is below `*size`, and before the first step of a stream with a director, whose timesteps are
// still to be chosen; ENGINE_CLOSED; OUT_OF_MEMORY.
DDPM_API
ddpm_result ddpm_stream_save(ddpm_stream *stream,
                             void *dst,
                             uint64_t dst_size,
                             uint64_t *size);

// Makes a stream of a run that `ddpm_stream_save` wrote, as it stood, with its frame. `desc` says how it is
// served and shown, and has `preview`, `frame_format`, `priority` and `checkpoint_bytes`; a saved run has
// all else of its own, so that has to be 0. `desc` may be NULL: all default. `data` needs to live no longer
// than this call.
//
// `*stream` is written on success only. Does not block, and runs no model. Allocates all memory the
// stream will use. Any thread. Errors: as `ddpm_stream_create`; INVALID_ARGUMENT too where the bytes are no
// saved run, or one of another model, and UNSUPPORTED where a later version wrote them.
DDPM_API
ddpm_result ddpm_stream_load(ddpm_engine *engine,
                             const void *data,
                             uint64_t size,
                             const ddpm_stream_desc *desc,
                             ddpm_stream **stream);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* DDPM_H */
