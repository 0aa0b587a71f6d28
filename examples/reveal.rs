//! A host with a 60 Hz frame loop and work of its own, in which a picture appears.
//!
//! Each frame copies the newest picture if there is one, asks for one reverse step, or for those that a
//! duration makes due, and does about 4 ms of other work. It never waits for the library. At the end it writes the reveal as a contact
//! sheet and an animation, and prints how long the host's work took with and without the engine.

#[path = "common/film.rs"]
mod film;
#[path = "common/frame_clock.rs"]
mod frame_clock;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use ddpm::engine::{
    Easing, Engine, EngineConfig, PlaybackConfig, Preview, Provider, StepOutcome, Stream,
    StreamConfig,
};
use ddpm::model::ModelConfig;
use ddpm::sampler::{Sampler, SamplerConfig};
use film::Film;
use frame_clock::{FramePace, HostWork, print_frame_times};

const WORK_MS: f64 = 4.0;
const QUIET_FRAMES: usize = 120;
const MOST_FRAMES: usize = 200_000;

const USAGE: &str = "usage: reveal MODEL [options]
  --steps N            reverse steps from noise to picture (50)
  --seed N             the picture's number (7)
  --sampler NAME       ddim, dpmpp-2m, unipc, ... (the model's own); an unknown name lists them all
  --preview NAME       what frames show: sample (the noisy picture) or prediction (sample)
  --even               timesteps by what one sees, so that each step shows about as much
  --duration SECONDS   the time it takes on any machine, in place of a step a frame
  --easing NAME        with a duration: linear, ease-in, ease-out or ease-in-out (linear)
  --provider NAME      auto, cpu or cuda (auto)
  --threads N          CPU threads that run the model (the cores less one)
  --width N, --height N   picture size, for a model that leaves it open
  --out DIR            where the pictures go (out)
  --scale N            each pixel is drawn N by N (8)";

/// What the command line asks for.
pub struct Settings {
    engine: EngineConfig,
    stream: StreamConfig,
    /// `None` is a step a frame.
    duration: Option<f64>,
    easing: Easing,
    /// `None` is the model's own.
    steps: Option<usize>,
    /// With the order that its name stands for; `None` is the model's own.
    sampler: Option<(Sampler, Option<u32>)>,
    out: PathBuf,
    scale: usize,
}

impl Settings {
    /// The model's own sampler config, with what the command line says in place of it.
    fn sampler_config(&self, model: &ModelConfig) -> SamplerConfig {
        let (kind, order) = self.sampler.unwrap_or((model.sampler.kind, None));
        let mut config = model.sampler_config(kind, self.steps.unwrap_or(model.sampler.steps));
        config.order = order.or(config.order);
        config
    }
}

fn number<T: FromStr>(option: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{option}: found \"{text}\", expected a whole number"))
}

fn seconds(option: &str, text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|&seconds: &f64| seconds > 0.0)
        .ok_or_else(|| format!("{option}: found \"{text}\", expected seconds above 0"))
}

fn choice<T: Copy>(option: &str, text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    choices.iter().find(|(name, _)| *name == text).map(|(_, choice)| *choice).ok_or_else(|| {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        format!("{option}: found \"{text}\", expected {}", names.join(" or "))
    })
}

/// The command line, or what is wrong with it.
pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Settings, String> {
    let model = arguments.next().filter(|model| !model.starts_with('-')).ok_or(USAGE)?;
    let mut stream = StreamConfig { preview: Preview::Sample, ..StreamConfig::default() };
    stream.start.seed = 7;
    let engine = EngineConfig::new(&model);
    let mut settings = Settings {
        engine,
        stream,
        duration: None,
        easing: Easing::Linear,
        steps: None,
        sampler: None,
        out: "out".into(),
        scale: 8,
    };
    let Settings { engine, stream, duration, easing, steps, sampler, out, scale } = &mut settings;
    while let Some(name) = arguments.next() {
        if name == "--even" {
            stream.director = true;
            continue;
        }
        let value = arguments.next().ok_or_else(|| format!("no value for {name}\n{USAGE}"))?;
        match name.as_str() {
            "--steps" => *steps = Some(number(&name, &value)?),
            "--seed" => stream.start.seed = number(&name, &value)?,
            "--sampler" => {
                let found = Sampler::with_order(&value).map_err(|error| error.to_string())?;
                *sampler = Some(found);
            }
            "--preview" => {
                let previews =
                    [("prediction", Preview::PredOriginalSample), ("sample", Preview::Sample)];
                stream.preview = choice(&name, &value, &previews)?;
            }
            "--duration" => *duration = Some(seconds(&name, &value)?),
            "--easing" => {
                *easing =
                    choice(&name, &value, &Easing::ALL.map(|easing| (easing.name(), easing)))?;
            }
            "--provider" => {
                let providers =
                    [("auto", Provider::Auto), ("cpu", Provider::Cpu), ("cuda", Provider::Cuda)];
                engine.provider = choice(&name, &value, &providers)?;
            }
            "--threads" => engine.threads = number(&name, &value)?,
            "--width" => engine.overrides.width = Some(number(&name, &value)?),
            "--height" => engine.overrides.height = Some(number(&name, &value)?),
            "--out" => *out = value.into(),
            "--scale" => *scale = number(&name, &value)?,
            _ => return Err(format!("unknown option {name}\n{USAGE}")),
        }
    }
    if !(1..=64).contains(scale) {
        return Err(format!("--scale: found {scale}, expected 1 to 64"));
    }
    Ok(settings)
}

fn take_frame(stream: &Stream, film: &mut Film) -> ddpm::error::Result<()> {
    let row_bytes = film.row_bytes();
    if let Some(pixels) = film.next_frame()
        && stream.copy_frame(pixels, row_bytes)?.is_some()
    {
        film.keep();
    }
    Ok(())
}

/// The frame loop. With a stream it goes on until the picture is finished, else for `most` frames.
/// Gives the milliseconds of the host's work in each frame.
fn run_frames(
    stream: Option<&Stream>,
    plays: bool,
    film: &mut Film,
    work: &HostWork,
    most: usize,
) -> ddpm::error::Result<Vec<f64>> {
    let mut times_ms = Vec::with_capacity(most);
    let mut pace = FramePace::start();
    let mut stepped = StepOutcome::Accepted;
    while times_ms.len() < most && stepped != StepOutcome::Done {
        let passed = pace.begin();
        if let Some(stream) = stream {
            // The picture first: the step may be so quick that its picture takes the place of this.
            take_frame(stream, film)?;
            stepped = if plays { stream.tick(passed)? } else { stream.step()? };
        }
        work.run();
        times_ms.push(pace.worked_ms());
        pace.sleep_until_next();
    }
    if let Some(stream) = stream {
        take_frame(stream, film)?;
    }
    Ok(times_ms)
}

/// The whole of it: load, reveal, write.
pub fn reveal(settings: Settings) -> Result<(), Box<dyn Error>> {
    let model = settings.engine.model.name();
    let engine = Engine::new(settings.engine.clone())?;
    engine.wait(None)?;
    let info = engine.info()?;
    let sampler = Some(settings.sampler_config(&info.model));
    let stream = engine.stream(&StreamConfig { sampler, ..settings.stream.clone() })?;
    let steps = stream.status().steps;
    let (width, height) = (info.model.width, info.model.height);
    let mut film = Film::new(width, height, steps as usize + 1);
    let provider = if info.provider == Provider::Cuda { "CUDA" } else { "the CPU" };
    let version = &info.runtime_version;
    println!(
        "{model}: {width} x {height} pixels, {steps} steps on {provider}, ONNX Runtime {version}"
    );
    if let Some(reason) = &info.fallback_reason {
        println!("the CPU, because {reason}");
    }

    let work = HostWork::lasting(WORK_MS);
    print_frame_times("engine idle    ", run_frames(None, false, &mut film, &work, QUIET_FRAMES)?);
    if let Some(duration) = settings.duration {
        let easing = settings.easing;
        stream.play(PlaybackConfig { easing, ..PlaybackConfig::new(duration) })?;
    }
    let plays = settings.duration.is_some();
    let stepping = run_frames(Some(&stream), plays, &mut film, &work, MOST_FRAMES)?;
    print_frame_times("engine stepping", stepping);
    drop(stream);
    engine.close()?;

    std::fs::create_dir_all(&settings.out)?;
    let sheet = settings.out.join("reveal-sheet.png");
    let animation = settings.out.join("reveal.png");
    film.write_sheet(&sheet, settings.scale)?;
    film.write_animation(&animation, settings.scale)?;
    let (sheet, animation, count) = (sheet.display(), animation.display(), film.count());
    println!(
        "wrote {sheet} ({count} frames of the reveal) and {animation} (the reveal as an APNG)"
    );
    Ok(())
}

fn main() -> ExitCode {
    let settings = match parse(std::env::args().skip(1)) {
        Ok(settings) => settings,
        Err(wrong) => {
            eprintln!("reveal: {wrong}");
            return ExitCode::from(2);
        }
    };
    if let Err(error) = reveal(settings) {
        eprintln!("reveal: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
