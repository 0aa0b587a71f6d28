//! `ddpm_stream_desc`: how a picture is to be revealed, and what its fields mean to the engine.

use std::ffi::c_void;
use std::slice;
use std::sync::Arc;

use super::descriptor::Versioned;
use super::guard::{address_size, choose, expect_zero};
use super::sampler::{
    DDPM_CLIP_DEFAULT, DDPM_CLIP_DYNAMIC, DDPM_CLIP_OFF, DDPM_CLIP_RANGE, FINAL_ALPHAS, SIGMAS,
    SOLVERS, SPACINGS, SWITCHES, VARIANCES, sampler_of,
};
use crate::engine::{FrameFormat, Preview, Priority, StreamConfig};
use crate::error::{Error, Result};
use crate::image::{self, BYTES_PER_PIXEL};
use crate::model::ModelConfig;
use crate::run::RunStart;
use crate::sampler::{SamplerConfig, Thresholding};

/// `preview`: the library's choice; the prediction in this version.
pub const DDPM_PREVIEW_DEFAULT: u32 = 0;
/// Frames show what the model takes the finished picture to be.
pub const DDPM_PREVIEW_PREDICTION: u32 = 1;
/// Frames show the noisy sample itself.
pub const DDPM_PREVIEW_SAMPLE: u32 = 2;

/// `frame_format`: four bytes a pixel in the order red, green, blue, alpha, the top row first. The model's
/// values -1..1 become 0..255 with no gamma change, what is outside is held; gray is repeated in red,
/// green and blue; alpha is 255 unless the model has one.
pub const DDPM_FRAME_RGBA8: u32 = 0;
/// `frame_format`: four 32-bit floats a pixel, red, green, blue, alpha, the top row first. The model's -1..1
/// become 0..1, what is outside stays there; gray is repeated; alpha is 1 unless the model has one.
pub const DDPM_FRAME_RGBA32F: u32 = 1;
/// `frame_format`: the model's own 32-bit floats, about -1 to 1: all of the first channel, the top row
/// first, then all of the next.
pub const DDPM_FRAME_PLANAR_F32: u32 = 2;

/// `image_format`: four bytes a pixel, red, green, blue, alpha, the top row first, as frames are. For a
/// gray model the luma 0.299 R + 0.587 G + 0.114 B is taken; alpha counts only if the model has it.
pub const DDPM_IMAGE_RGBA8: u32 = 0;
/// `image_format`: 32-bit floats from -1 to 1, all of the first channel, then all of the next.
pub const DDPM_IMAGE_PLANAR_F32: u32 = 1;

/// `priority`: as it comes.
pub const DDPM_PRIORITY_NORMAL: u32 = 0;
/// After the others; but no stream waits for ever.
pub const DDPM_PRIORITY_LOW: u32 = 1;
/// Before the others.
pub const DDPM_PRIORITY_HIGH: u32 = 2;

const PRIORITIES: [(u32, &str, Priority); 3] = [
    (DDPM_PRIORITY_NORMAL, "DDPM_PRIORITY_NORMAL", Priority::Normal),
    (DDPM_PRIORITY_LOW, "DDPM_PRIORITY_LOW", Priority::Low),
    (DDPM_PRIORITY_HIGH, "DDPM_PRIORITY_HIGH", Priority::High),
];

const PREVIEWS: [(u32, &str, Preview); 3] = [
    (DDPM_PREVIEW_DEFAULT, "DDPM_PREVIEW_DEFAULT", Preview::PredOriginalSample),
    (DDPM_PREVIEW_PREDICTION, "DDPM_PREVIEW_PREDICTION", Preview::PredOriginalSample),
    (DDPM_PREVIEW_SAMPLE, "DDPM_PREVIEW_SAMPLE", Preview::Sample),
];

const FRAME_FORMATS: [(u32, &str, FrameFormat); 3] = [
    (DDPM_FRAME_RGBA8, "DDPM_FRAME_RGBA8", FrameFormat::Rgba8),
    (DDPM_FRAME_RGBA32F, "DDPM_FRAME_RGBA32F", FrameFormat::RgbaF32),
    (DDPM_FRAME_PLANAR_F32, "DDPM_FRAME_PLANAR_F32", FrameFormat::PlanarF32),
];

#[derive(Clone, Copy, PartialEq)]
enum ImageFormat {
    Rgba8,
    PlanarF32,
}

const IMAGE_FORMATS: [(u32, &str, ImageFormat); 2] = [
    (DDPM_IMAGE_RGBA8, "DDPM_IMAGE_RGBA8", ImageFormat::Rgba8),
    (DDPM_IMAGE_PLANAR_F32, "DDPM_IMAGE_PLANAR_F32", ImageFormat::PlanarF32),
];

/// How a picture is to be revealed. Initialise it with `DDPM_STREAM_DESC_INIT`; everything may stay
/// zero: that is the model's own sampler with the model's own settings, from noise. Most settings that
/// the sampler has no use for are refused. What it points to needs to live no longer than the call to
/// `ddpm_stream_create`. A float stands for the decimal it was written as, so that 0.29f of 100 steps is
/// 29.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ddpm_stream_desc {
    /// sizeof(ddpm_stream_desc); `DDPM_STREAM_DESC_INIT` sets it.
    pub struct_size: u32,
    /// The update rule: `DDPM_SAMPLER_DEFAULT` or one of `ddpm_sampler`.
    pub sampler: u32,
    /// Reverse steps from noise to picture, 1 to the model's `num_train_timesteps`. 0: the model's own
    /// number, 50 unless its files say otherwise. Some samplers (HEUN, PNDM) run the model more than
    /// once for some steps; each run is one `ddpm_step`, and `ddpm_stream_status` counts those.
    pub steps: u32,
    /// How the steps are spread over the noise levels: one of `DDPM_SPACING_*`. LCM and TCD have
    /// timesteps of their own.
    pub spacing: u32,
    /// The picture's number: the same seed gives the same picture. All 64 bits count.
    pub seed: u64,
    /// How much noise a step draws, above 0 to 1. 0: as the sampler has it. For DDIM (none; 1 is as
    /// much as DDPM) and TCD, whose gamma it is (0.3).
    pub eta: f32,
    /// With `DDPM_CLIP_RANGE`: the limit, above 0; the picture's own range is 1. Else 0.
    pub clip_range: f32,
    /// Whether the predicted picture is held to a range: one of `DDPM_CLIP_*`.
    pub clip: u32,
    /// The variance of DDPM's noise: one of `DDPM_VARIANCE_*`.
    pub variance_type: u32,
    /// What frames show: one of `DDPM_PREVIEW_*`.
    pub preview: u32,
    /// The order of a sampler that has one, 1 to 3. 0: the model's own, else 2.
    pub solver_order: u32,
    /// How a solver of order 2 or more uses its history: one of `DDPM_SOLVER_*`.
    pub solver_type: u32,
    /// How the noise levels are spread: one of `DDPM_SIGMAS_*`.
    pub sigmas: u32,
    /// What follows the last step: one of `DDPM_FINAL_ALPHA_*`.
    pub final_alpha: u32,
    /// Added to leading timesteps (diffusers' `steps_offset`). 0: the model's own.
    pub steps_offset: u32,
    /// LCM and TCD: the steps of the distillation, from whose timesteps a run's are chosen. 0: the
    /// model's own, else 50.
    pub original_steps: u32,
    /// With `DDPM_CLIP_DYNAMIC`: the quantile, above 0 to 1. 0: 0.995. Else 0.
    pub dynamic_ratio: f32,
    /// With `DDPM_CLIP_DYNAMIC`: the largest s, from 1. 0: 1. Else 0.
    pub dynamic_max: f32,
    /// DDIM: whether the noise is taken from the predicted picture after clipping (diffusers'
    /// `use_clipped_model_output`): one of `DDPM_SWITCH_*`.
    pub clipped_epsilon: u32,
    /// Solvers with an order: whether the last of fewer than 15 steps have a lower one: one of
    /// `DDPM_SWITCH_*`.
    pub lower_order_final: u32,
    /// DPMPP, DPMPP_SDE: whether the last step has order 1, however many there are: one of
    /// `DDPM_SWITCH_*`.
    pub euler_at_final: u32,
    /// Whether the model takes timesteps between the whole ones, which EULER's and HEUN's linspace and
    /// other sigmas visit; else they are rounded: one of `DDPM_SWITCH_*`.
    pub fractional_timesteps: u32,
    /// With an image: the share of the steps that is taken, 0 to 1. Noise is added to the image up
    /// to where those begin: 1 leaves little of it, 0 takes no step and leaves it as it is. Rounded
    /// down to whole steps: 0.04 of 20 is none, 0.29 of 100 is 29. Without an image 0, or 1; for
    /// DDIM_INVERSE 0 is 1.
    pub strength: f32,
    /// The scale of classifier-free guidance (Ho and Salimans 2022), for models with classes and a
    /// label for none (`has_null_label`); runs the model twice a step. 0 or 1: none.
    pub guidance: f32,
    /// 1: the picture is of class `class_label`. 0: of no class, for models without classes and those
    /// with a label for none.
    pub has_class_label: u32,
    /// How `image` is laid out: one of `DDPM_IMAGE_*`.
    pub image_format: u32,
    /// The class, 0 to `class_count` - 1, with `has_class_label`. Else 0.
    pub class_label: i64,
    /// The timesteps to visit, falling, below the model's `num_train_timesteps`, in place of `steps`,
    /// `spacing` and `steps_offset`, which stay 0. NULL: those.
    pub timesteps: *const u32,
    /// The number of values at `timesteps`.
    pub timestep_count: u64,
    /// The picture to start from, of the model's size. NULL: noise. DDIM_INVERSE needs one, and goes
    /// from it to the noise that gives it.
    pub image: *const c_void,
    /// The number of bytes at `image`.
    pub image_size: u64,
    /// Bytes from row to row of an RGBA8 image. 0: rows without gaps, width * 4.
    pub image_row_stride: u64,
    /// How the pixels of frames are laid out: one of `DDPM_FRAME_*`. The worker converts.
    pub frame_format: u32,
    /// 1: the timesteps are so chosen that each step brings what frames show nearer to the finished picture
    /// by about as much, in place of `spacing`. The first such stream of a sampler and its settings waits while the
    /// engine measures that, on a run of up to 32 steps that nobody is shown. Not for samplers that have
    /// timesteps of their own, nor with `strength` below 1. 0: as `spacing` says.
    pub director: u32,
    /// The most bytes of states that are kept on the way, from which a seek goes on; they are allocated with
    /// the stream. 0: room for about the square root of the number of steps, up to 1 MiB. Less than a state,
    /// 1 say, keeps none, and every seek back begins at the start.
    pub checkpoint_bytes: u64,
    /// Whose steps are made first where more streams wait than one run of the model takes: one of
    /// `DDPM_PRIORITY_*`.
    pub priority: u32,
    /// Kept for later versions; 0.
    pub reserved: u32,
}

// SAFETY: repr(C), begins with struct_size; numbers and raw pointers, for all of which zero is valid.
unsafe impl Versioned for ddpm_stream_desc {
    const NAME: &'static str = "ddpm_stream_desc";
    const INIT: &'static str = "DDPM_STREAM_DESC_INIT";
}

/// What diffusers has for the two fields of dynamic thresholding.
const DYNAMIC: Thresholding = Thresholding::Dynamic { ratio: 0.995, max: 1.0 };

/// The fields by the names that the engine's messages have for them.
const FIELDS: [(&str, &str); 20] = [
    ("max_batch", "max_batch"),
    ("steps", "steps"),
    ("eta", "eta"),
    ("clip", "clip_range"),
    ("dynamic_thresholding_ratio", "dynamic_ratio"),
    ("sample_max_value", "dynamic_max"),
    ("variance_type", "variance_type"),
    ("order", "solver_order"),
    ("solver_type", "solver_type"),
    ("sigmas", "sigmas"),
    ("original_steps", "original_steps"),
    ("clipped_epsilon", "clipped_epsilon"),
    ("strength", "strength"),
    ("guidance", "guidance"),
    ("class", "class_label"),
    ("timesteps", "timesteps"),
    ("image", "image"),
    ("director", "director"),
    ("duration", "duration"),
    ("variation", "variation"),
];

/// An error of the engine's, by the field that it is about.
pub(super) fn by_field(error: Error) -> Error {
    let message = error.message();
    let name = message.split([':', '[']).next().unwrap_or_default();
    match FIELDS.iter().find(|(known, _)| *known == name) {
        Some((_, field)) => {
            Error::new(error.kind(), format!("desc.{field}{}", &message[name.len()..]))
        }
        None => error,
    }
}

/// What the descriptor asks for, of this model. Errors: `InvalidArgument` by field for what has no
/// place in the engine's own types; the engine checks the rest.
///
/// # Safety
/// The pointers of `desc` are NULL or valid for reads of what they are documented to hold.
pub(super) unsafe fn stream_config(
    desc: &ddpm_stream_desc,
    model: &ModelConfig,
) -> Result<StreamConfig> {
    // SAFETY: by this function's contract, for both.
    let (timesteps, image) = unsafe { (timesteps(desc, model)?, start_image(desc, model)?) };
    let kind = sampler_of("desc.sampler", desc.sampler)?.unwrap_or(model.sampler.kind);
    let steps = if desc.steps == 0 { model.sampler.steps } else { desc.steps as usize };
    let own = model.sampler_config(kind, steps);
    let unless_zero = |value: u32, own: usize| if value == 0 { own } else { value as usize };
    let switch = |field: &str, value: u32, own: bool| {
        choose(field, value, &SWITCHES).map(|choice| choice.unwrap_or(own))
    };
    let sampler = SamplerConfig {
        spacing: choose("desc.spacing", desc.spacing, &SPACINGS)?.unwrap_or(own.spacing),
        steps_offset: unless_zero(desc.steps_offset, own.steps_offset),
        timesteps: timesteps.or(own.timesteps),
        sigmas: choose("desc.sigmas", desc.sigmas, &SIGMAS)?.unwrap_or(own.sigmas),
        fractional_timesteps: switch(
            "desc.fractional_timesteps",
            desc.fractional_timesteps,
            own.fractional_timesteps,
        )?,
        // Without an image there is nothing to take a share of, and 0 is what is not set; an inverse
        // sampler goes all the way.
        strength: match desc.strength {
            0.0 if image.is_none() || kind.is_inverse() => 1.0,
            strength => decimal(strength),
        },
        thresholding: thresholding(desc)?.unwrap_or(own.thresholding),
        variance_type: choose("desc.variance_type", desc.variance_type, &VARIANCES)?
            .unwrap_or(own.variance_type),
        final_alpha: choose("desc.final_alpha", desc.final_alpha, &FINAL_ALPHAS)?
            .unwrap_or(own.final_alpha),
        eta: if desc.eta == 0.0 { own.eta } else { Some(decimal(desc.eta)) },
        clipped_epsilon: switch("desc.clipped_epsilon", desc.clipped_epsilon, own.clipped_epsilon)?,
        order: if desc.solver_order == 0 { own.order } else { Some(desc.solver_order) },
        solver_type: choose("desc.solver_type", desc.solver_type, &SOLVERS)?.or(own.solver_type),
        lower_order_final: switch(
            "desc.lower_order_final",
            desc.lower_order_final,
            own.lower_order_final,
        )?,
        euler_at_final: switch("desc.euler_at_final", desc.euler_at_final, own.euler_at_final)?,
        original_steps: unless_zero(desc.original_steps, own.original_steps),
        ..own
    };
    let start = RunStart {
        seed: desc.seed,
        label: class_label(desc)?,
        guidance: if desc.guidance == 0.0 { 1.0 } else { decimal(desc.guidance) },
        image,
        ..RunStart::default()
    };
    let checkpoint_bytes = match desc.checkpoint_bytes {
        0 => None,
        // More than this machine can address is as good as no limit.
        bytes => Some(usize::try_from(bytes).unwrap_or(usize::MAX)),
    };
    expect_zero("desc.reserved", desc.reserved.into(), "in this version")?;
    Ok(StreamConfig {
        sampler: Some(sampler),
        start,
        preview: choose("desc.preview", desc.preview, &PREVIEWS)?,
        format: choose("desc.frame_format", desc.frame_format, &FRAME_FORMATS)?,
        priority: choose("desc.priority", desc.priority, &PRIORITIES)?,
        director: flag("desc.director", desc.director)?,
        checkpoint_bytes,
    })
}

/// The same for a saved run, which has a sampler and a start of its own. Errors: as `stream_config`, and
/// `InvalidArgument` where the descriptor asks for others.
///
/// # Safety
/// As for `stream_config`.
pub(super) unsafe fn saved_config(
    desc: &ddpm_stream_desc,
    model: &ModelConfig,
) -> Result<StreamConfig> {
    // SAFETY: by this function's contract.
    let config = unsafe { stream_config(desc, model) }?;
    let own = model.sampler_config(model.sampler.kind, model.sampler.steps);
    let found = if config.sampler != Some(own) {
        "settings of a sampler"
    } else if config.start != RunStart::default() {
        "a seed, a class or an image"
    } else if config.director {
        "a director"
    } else {
        return Ok(StreamConfig { sampler: None, ..config });
    };
    Err(Error::invalid_argument(format!(
        "desc: found {found}, expected none: a saved run has its own"
    )))
}

fn flag(field: &str, found: u32) -> Result<bool> {
    match found {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Error::invalid_argument(format!("{field}: found {found}, expected 0 or 1"))),
    }
}

/// The number that a float was written as: 0.29f, which is the float nearest to 0.29, gives 0.29.
pub(super) fn decimal(value: f32) -> f64 {
    // Printing gives the shortest decimal that is this float, reading the nearest f64 to that.
    value.to_string().parse().unwrap_or(value.into())
}

fn thresholding(desc: &ddpm_stream_desc) -> Result<Option<Thresholding>> {
    let choices = [
        (DDPM_CLIP_DEFAULT, "DDPM_CLIP_DEFAULT", None),
        (DDPM_CLIP_OFF, "DDPM_CLIP_OFF", Some(Thresholding::Off)),
        (DDPM_CLIP_RANGE, "DDPM_CLIP_RANGE", Some(Thresholding::Clip(decimal(desc.clip_range)))),
        (DDPM_CLIP_DYNAMIC, "DDPM_CLIP_DYNAMIC", Some(DYNAMIC)),
    ];
    let mut chosen = choose("desc.clip", desc.clip, &choices)?;
    for (field, found, user) in [
        ("clip_range", desc.clip_range, DDPM_CLIP_RANGE),
        ("dynamic_ratio", desc.dynamic_ratio, DDPM_CLIP_DYNAMIC),
        ("dynamic_max", desc.dynamic_max, DDPM_CLIP_DYNAMIC),
    ] {
        if found != 0.0 && desc.clip != user {
            let name =
                if user == DDPM_CLIP_RANGE { "DDPM_CLIP_RANGE" } else { "DDPM_CLIP_DYNAMIC" };
            return Err(Error::invalid_argument(format!(
                "desc.{field}: found {found}, expected 0 unless desc.clip is {name}"
            )));
        }
    }
    if let Some(Thresholding::Dynamic { ratio, max }) = &mut chosen {
        for (value, set) in [(ratio, desc.dynamic_ratio), (max, desc.dynamic_max)] {
            if set != 0.0 {
                *value = decimal(set);
            }
        }
    }
    Ok(chosen)
}

fn class_label(desc: &ddpm_stream_desc) -> Result<Option<i64>> {
    match (flag("desc.has_class_label", desc.has_class_label)?, desc.class_label) {
        (false, 0) => Ok(None),
        (true, label) => Ok(Some(label)),
        (false, label) => Err(Error::invalid_argument(format!(
            "desc.class_label: found {label}, expected 0 unless desc.has_class_label is 1"
        ))),
    }
}

/// # Safety
/// `desc.timesteps` is NULL or valid for reads of `desc.timestep_count` numbers.
unsafe fn timesteps(desc: &ddpm_stream_desc, model: &ModelConfig) -> Result<Option<Arc<[usize]>>> {
    if desc.timesteps.is_null() {
        return match desc.timestep_count {
            0 => Ok(None),
            count => Err(Error::invalid_argument(format!(
                "desc.timestep_count: found {count}, expected 0 as desc.timesteps is NULL"
            ))),
        };
    }
    for (field, found) in
        [("steps", desc.steps), ("spacing", desc.spacing), ("steps_offset", desc.steps_offset)]
    {
        if found != 0 {
            return Err(Error::invalid_argument(format!(
                "desc.{field}: found {found}, expected 0 as desc.timesteps is set"
            )));
        }
    }
    let count = address_size("desc.timestep_count", desc.timestep_count, size_of::<u32>())?;
    // A falling list cannot be longer. Said before it is read: a count that is garbage would be
    // more than the host has, or than memory holds.
    let most = model.num_train_timesteps;
    if count > most {
        return Err(Error::invalid_argument(format!(
            "desc.timestep_count: found {count}, expected at most {most}, the model's training timesteps"
        )));
    }
    let at = |index: usize| {
        // SAFETY: index < count, and the host declares `count` readable numbers. Unaligned, as a
        // script's byte buffer may be.
        unsafe { desc.timesteps.add(index).read_unaligned() as usize }
    };
    Ok(Some((0..count).map(at).collect()))
}

/// The start image as one planar sample.
///
/// # Safety
/// `desc.image` is NULL or valid for reads of `desc.image_size` bytes.
unsafe fn start_image(desc: &ddpm_stream_desc, model: &ModelConfig) -> Result<Option<Arc<[f32]>>> {
    let format = choose("desc.image_format", desc.image_format, &IMAGE_FORMATS)?;
    if desc.image.is_null() {
        expect_zero("desc.image_size", desc.image_size, "as desc.image is NULL")?;
        expect_zero("desc.image_row_stride", desc.image_row_stride, "as desc.image is NULL")?;
        return Ok(None);
    }
    let size = address_size("desc.image_size", desc.image_size, 1)?;
    let stride = address_size("desc.image_row_stride", desc.image_row_stride, 1)?;
    // SAFETY: not NULL, and the host declares `image_size` readable bytes there, which fit the
    // address space (just checked).
    let bytes = unsafe { slice::from_raw_parts(desc.image.cast::<u8>(), size) };
    let mut planar = vec![0.0; model.sample_len(1)?];
    match format {
        ImageFormat::Rgba8 => {
            let ModelConfig { color, height, width, .. } = *model;
            let stride = if stride == 0 { width * BYTES_PER_PIXEL } else { stride };
            image::from_rgba8(bytes, stride, color, height, width, &mut planar)
                .map_err(image_field)?;
        }
        ImageFormat::PlanarF32 => {
            expect_zero(
                "desc.image_row_stride",
                desc.image_row_stride,
                "with DDPM_IMAGE_PLANAR_F32",
            )?;
            if size != size_of_val(&planar[..]) {
                return Err(Error::invalid_argument(format!(
                    "desc.image_size: found {size} bytes, expected {} for {} values",
                    size_of_val(&planar[..]),
                    planar.len()
                )));
            }
            for (value, bytes) in planar.iter_mut().zip(bytes.as_chunks().0) {
                *value = f32::from_ne_bytes(*bytes);
            }
        }
    }
    Ok(Some(planar.into()))
}

/// An error of the image's conversion, by the field that it is about.
fn image_field(error: Error) -> Error {
    let message = error.message();
    let rest = message.split_once(':').map_or(message, |(_, rest)| rest);
    let field = if message.starts_with("row_stride") { "image_row_stride" } else { "image_size" };
    Error::new(error.kind(), format!("desc.{field}:{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_float_stands_for_the_decimal_it_was_written_as() {
        for (float, number) in [(0.29f32, 0.29f64), (0.995, 0.995), (1.01, 1.01), (-0.0, 0.0)] {
            assert_eq!(decimal(float), number);
        }
        assert!(decimal(f32::NAN).is_nan());
        assert_eq!(decimal(f32::INFINITY), f64::INFINITY);
        assert_eq!(decimal(f32::MIN_POSITIVE), 1.175_494_4e-38);
    }

    #[test]
    fn an_error_of_the_engine_is_told_by_the_field_of_the_descriptor() {
        for (found, told) in [
            ("order: found 4 with dpmpp", "desc.solver_order: found 4 with dpmpp"),
            ("timesteps[2]: found 7 after 7", "desc.timesteps[2]: found 7 after 7"),
            ("run: no memory", "run: no memory"),
        ] {
            assert_eq!(by_field(Error::invalid_argument(found)).message(), told);
        }
    }
}
