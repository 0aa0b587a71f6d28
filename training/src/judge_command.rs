//! `ddpm-train eval` and `ddpm-train classifier`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use burn::tensor::Device;
use clap::Args;
use ddpm_train::checkpoint::Checkpoint;
use ddpm_train::config::Config;
use ddpm_train::console;
use ddpm_train::data::Dataset;
use ddpm_train::data::config::{DataConfig, Source};
use ddpm_train::fit::read_data;
use ddpm_train::judge::draw::Way;
use ddpm_train::judge::eval::{self, Options, Subject};
use ddpm_train::judge::images::Shape;
use ddpm_train::judge::results::percent;
use ddpm_train::judge::teach::{Lessons, teach};
use ddpm_train::output;
use ddpm_train::say;

/// Steps of the samples.
const SAMPLE_STEPS: usize = 100;
/// Numbers of steps of the comparison of samplers.
const STEPS: [usize; 5] = [5, 10, 20, 50, 100];

/// How a classifier is trained, and what it is measured with.
#[derive(Args)]
struct LessonArgs {
    /// Real images that no training has seen, of the same kind as the training images: a folder, a sheet
    /// of tiles, or an idx file. Without them a tenth of the training images is kept from the classifier.
    #[arg(long)]
    test_images: Option<PathBuf>,
    /// The labels of an idx file of test images.
    #[arg(long, requires = "test_images")]
    test_labels: Option<PathBuf>,
    /// Steps of 64 images that a classifier is trained for.
    #[arg(long, default_value_t = Lessons::default().steps)]
    classifier_steps: usize,
    /// Groups of alike images that it is taught to tell, where images have no classes.
    #[arg(long, default_value_t = Lessons::default().clusters)]
    groups: usize,
}

impl LessonArgs {
    fn lessons(&self) -> Lessons {
        Lessons { steps: self.classifier_steps, clusters: self.groups, ..Lessons::default() }
    }

    /// The test images, made the model's as the training images are.
    fn test(&self, config: &DataConfig) -> Result<Option<Dataset>> {
        let Some(path) = self.test_images.clone() else { return Ok(None) };
        let mut config = config.clone();
        match config.source()? {
            Source::Folder(_) => config.folder = Some(path),
            Source::Sheet(_) => config.sheet = Some(path),
            Source::Idx { labels, .. } => {
                ensure!(
                    labels.is_some() == self.test_labels.is_some(),
                    "--test-labels: the training images {}, expected the same of the test images",
                    if labels.is_some() { "have labels" } else { "have no labels" }
                );
                config.idx = Some(path);
                config.idx_labels = self.test_labels.clone();
            }
        }
        Dataset::read(&config).context("test images").map(Some)
    }
}

/// Arguments of `ddpm-train classifier`.
#[derive(Args)]
pub struct ClassifierArgs {
    /// The configuration whose images it learns from, TOML.
    #[arg(long)]
    config: PathBuf,
    /// The classifier, .safetensors.
    #[arg(short, long)]
    out: PathBuf,
    #[command(flatten)]
    lessons: LessonArgs,
}

impl ClassifierArgs {
    pub fn run(&self, device: &Device) -> Result<()> {
        output::check(&self.out, "safetensors", &[&self.config])?;
        self.lessons.lessons().validate()?;
        let (config, data) = read_data(&Config::read(&self.config)?)?;
        let test = self.lessons.test(&config.data)?;
        let shape = Shape::of(&config.data);
        let classifier = teach(&self.lessons.lessons(), &data, test.as_ref(), shape, device)?;
        classifier.save(&self.out)?;
        let about = classifier.about();
        console::print(format!(
            "{}: {} of {} held-out images right, of {} {}; intact told from faulty in {}",
            self.out.display(),
            percent(about.accuracy),
            about.held_out_images,
            about.names.len(),
            if about.knows_classes { "classes" } else { "groups of alike images" },
            percent(about.fault_accuracy)
        ))
    }
}

/// Arguments of `ddpm-train eval`.
#[derive(Args)]
pub struct EvalArgs {
    /// A checkpoint written by fit.
    checkpoint: PathBuf,
    /// Folder for report.html and results.json.
    #[arg(short, long)]
    out: PathBuf,
    /// A classifier written by `ddpm-train classifier`. Without it one is trained, and kept beside the
    /// checkpoint as classifier.safetensors.
    #[arg(long)]
    classifier: Option<PathBuf>,
    /// A configuration that says where the training images are, where they have moved.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Samples that are compared with as many real images.
    #[arg(long, default_value_t = 1000)]
    count: usize,
    /// Their sampler: ddpm, ddim, dpmpp-2m, unipc, ...: any of the engine.
    #[arg(long, default_value = "ddim")]
    sampler: String,
    /// Their steps; 100, or as many as the model has, if not given.
    #[arg(long)]
    sample_steps: Option<usize>,
    /// How strongly the class is insisted on (classifier-free guidance): 1 for not at all.
    #[arg(long, default_value_t = 1.0)]
    guidance: f64,
    /// Seed of the first sample; the others count on from it.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Samplers that are compared, with a comma between.
    #[arg(
        long,
        value_delimiter = ',',
        default_values = ["ddim", "ddpm", "dpmpp-2m", "unipc"]
    )]
    samplers: Vec<String>,
    /// Steps that they are compared at, with a comma between; 5,10,20,50,100 if not given.
    #[arg(long, value_delimiter = ',')]
    steps: Option<Vec<usize>>,
    /// Samples of each; 0 for no comparison. It takes most of the time.
    #[arg(long, default_value_t = 256)]
    curve_count: usize,
    /// Steps of the DDPM sampler that the others are held against; all of the training's if not given, 0
    /// for none.
    #[arg(long)]
    full_steps: Option<usize>,
    #[command(flatten)]
    lessons: LessonArgs,
}

impl EvalArgs {
    pub fn run(&self, device: &Device) -> Result<()> {
        output::make_folder(&self.out)?;
        for path in [eval::results_path(&self.out), eval::report_path(&self.out)] {
            output::check_writable(&path)?;
        }
        let checkpoint = Checkpoint::read(&self.checkpoint)?;
        let mut config = checkpoint.config.clone();
        if let Some(path) = &self.config {
            config.data = DataConfig {
                class_names: config.data.class_names.clone(),
                ..Config::read(path)?.data
            };
            ensure!(
                config.data.has_classes() || config.data.class_names.is_empty(),
                "{}: its images have no classes, expected the {} of the model",
                path.display(),
                config.data.class_names.len()
            );
            let (found, expected) = (Shape::of(&config.data), Shape::of(&checkpoint.config.data));
            ensure!(
                found == expected,
                "{}: images of {found:?}, expected {expected:?} as the model's",
                path.display()
            );
        }
        let options = self.options(&config)?;
        let (_, data) = read_data(&config)?;
        options.check(&checkpoint.config, data.len())?;
        let test = self.lessons.test(&config.data)?;
        let beside = self.checkpoint.parent().unwrap_or(Path::new(""));
        let classifier = eval::classifier(
            self.classifier.as_deref(),
            beside,
            &config,
            &data,
            test.as_ref(),
            &options.lessons,
            device,
        )?;
        let subject = Subject {
            path: &self.checkpoint,
            checkpoint: &checkpoint,
            data: &data,
            test: test.as_ref(),
            classifier: &classifier,
        };
        let results = eval::eval(&subject, &options, &self.out, device)?;
        console::print(results.summary())?;
        say!("wrote {}", eval::report_path(&self.out).display());
        Ok(())
    }

    fn options(&self, config: &Config) -> Result<Options> {
        let all = config.diffusion.num_train_timesteps;
        let steps = self
            .steps
            .clone()
            .unwrap_or_else(|| STEPS.into_iter().filter(|steps| *steps <= all).collect());
        let mut curve = Vec::new();
        for name in &self.samplers {
            for &steps in &steps {
                curve.push(Way::new(name, steps)?);
            }
        }
        match self.full_steps.unwrap_or(all) {
            0 => {}
            steps => curve.push(Way::new("ddpm", steps)?),
        }
        Ok(Options {
            count: self.count,
            way: Way::new(&self.sampler, self.sample_steps.unwrap_or(SAMPLE_STEPS.min(all)))?,
            seed: self.seed,
            guidance: self.guidance,
            curve,
            curve_count: self.curve_count,
            lessons: self.lessons.lessons(),
        })
    }
}
