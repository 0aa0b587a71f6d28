//! The whole judgement of a checkpoint: samples drawn, distances, classes, copies, steps.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, ensure};
use burn::tensor::Device;

use super::classifier::{Classifier, Seen};
use super::distance::{Features, Gaussian};
use super::draw::{Artist, Drawn, Way};
use super::faults::Fault;
use super::images::{Images, Shape};
use super::neighbours::{Nearest, Nearness};
use super::report::{self, Pictures};
use super::results::{Distance, Model, Pair, Point, Recognised, Results, Samples};
use super::split::shuffled;
use super::teach::{Lessons, teach};
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::data::Dataset;
use crate::data::augment::View;
use crate::output::write_atomically;
use crate::say;

/// Pairs that are shown.
const PAIRS: usize = 16;
/// Images of a grid.
const SHOWN: usize = 100;
/// Images that are in memory at a time beside those compared.
const PART: usize = 1024;
/// Products that a search for neighbours may take before images are no longer looked for moved.
const MOST_PRODUCTS: f64 = 4e11;

/// What is to be judged, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Samples, and real images that they are compared with; fewer where there are fewer images.
    pub count: usize,
    pub way: Way,
    /// Of the samples.
    pub seed: u64,
    /// The scale of classifier-free guidance; 1 for none.
    pub guidance: f64,
    /// Samplers and steps of the comparison of samplers, and samples of each; none for a count of 0.
    pub curve: Vec<Way>,
    pub curve_count: usize,
    /// How a classifier is trained where there is none.
    pub lessons: Lessons,
}

impl Options {
    /// Says the first thing that cannot work with a model and so many training images.
    pub fn check(&self, config: &Config, images: usize) -> Result<()> {
        self.lessons.validate()?;
        ensure!(
            images >= 4,
            "{images} training images, expected at least 4: two sets of them are compared"
        );
        ensure!(self.count >= 2, "{} samples, expected at least 2", self.count);
        let model = config.model_config()?;
        let mut ways = std::iter::once(&self.way).chain(&self.curve);
        ways.try_for_each(|way| way.check(&model, self.guidance))
    }
}

/// A checkpoint and what it is judged by.
pub struct Subject<'a> {
    /// Where the checkpoint lies.
    pub path: &'a Path,
    pub checkpoint: &'a Checkpoint,
    /// Its training images.
    pub data: &'a Dataset,
    /// Real images that it has not seen.
    pub test: Option<&'a Dataset>,
    pub classifier: &'a Classifier,
}

/// The training images and what is known of them.
struct Real<'a> {
    config: &'a Config,
    data: &'a Dataset,
    shape: Shape,
    /// All of them in an order of their own.
    order: Vec<usize>,
}

impl Real<'_> {
    /// The `count` images from place `first` of the order on, shown as the training shows them.
    fn images(&self, first: usize, count: usize) -> Images {
        let indices = &self.order[first..first + count];
        Images::from_data(self.data, self.shape, indices, |place| {
            View::random(&self.config.data, self.config.seed, first + place, 0)
        })
    }
}

/// The classifier at `path`, or the one in `folder` if it learned from the same images, or a new one,
/// which is kept there unless another file is.
pub fn classifier(
    path: Option<&Path>,
    folder: &Path,
    config: &Config,
    data: &Dataset,
    test: Option<&Dataset>,
    lessons: &Lessons,
    device: &Device,
) -> Result<Classifier> {
    if let Some(path) = path {
        return Classifier::load(path, device);
    }
    let path = folder.join("classifier.safetensors");
    let shown = path.display();
    let teach = || teach(lessons, data, test, Shape::of(&config.data), device);
    if fs::symlink_metadata(&path).is_ok() {
        let found = Classifier::load(&path, device);
        let fits = |found: &Classifier| {
            let about = found.about();
            let learned = about.knows_classes && about.names == data.class_names()
                || !about.knows_classes && data.class_names().is_empty();
            let same = about.images == data.fingerprint() && about.lessons == *lessons && learned;
            same && about.net.shape() == Shape::of(&config.data)
        };
        let why = match found {
            Ok(found) if fits(&found) => {
                say!("classifier: {shown}");
                return Ok(found);
            }
            Ok(_) => format!("{shown} learned from other images or in another way"),
            Err(error) => format!("{error:#}"),
        };
        say!(
            "classifier: {why}. Another is trained, and not kept; remove that file, or give one with \
             --classifier"
        );
        return teach();
    }
    let found = teach()?;
    match found.save(&path) {
        Ok(()) => say!("classifier: wrote {shown}"),
        // A checkpoint may lie where nothing can be written; the next time it is trained again.
        Err(error) => say!(
            "classifier: not kept, {error:#}; `ddpm-train classifier` makes one to give with --classifier"
        ),
    }
    Ok(found)
}

/// Judges a checkpoint and writes `report.html` and `results.json` to `folder`, which must be there.
/// Prints how far it is on stderr.
///
/// Errors: where checkpoint, images and classifier do not fit together, or there are fewer than 4
/// training images; a file that cannot be written.
pub fn eval(
    subject: &Subject,
    options: &Options,
    folder: &Path,
    device: &Device,
) -> Result<Results> {
    let Subject { path, checkpoint, data, test, classifier } = *subject;
    let config = &checkpoint.config;
    let shape = Shape::of(&config.data);
    let real = Real { config, data, shape, order: shuffled(data.len(), !options.seed) };
    let mut notes = notes(checkpoint, data, classifier);
    options.check(config, data.len())?;
    let n = options.count.min(data.len() / 2);
    if n < options.count {
        notes.push(format!(
            "{n} samples instead of {}: as many as half of the training images, which they are \
             compared with.",
            options.count
        ));
    }

    let mut artist =
        Artist::new(config, &checkpoint.ema(device)?, options.seed, options.guidance, device)?;
    say!("drawing {n} samples: {}, {} steps", options.way.name, options.way.steps);
    let started = Instant::now();
    let drawn = artist.draw(&options.way, n)?;
    let seconds = started.elapsed().as_secs_f64();

    say!("comparing");
    let (reference, others) = (real.images(0, n), real.images(n, n));
    let training = classifier.see(&reference)?;
    let gaussian = Gaussian::of(&training.features);
    let compare = |what: &str, features: &Features| {
        Distance::to(what, features, &training.features, &gaussian)
    };
    let samples = classifier.see(&drawn.images)?;
    let floor = classifier.see(&others)?;
    let mut distances = vec![
        compare("samples", &samples.features),
        compare("other training images", &floor.features),
    ];
    let held_out = match test {
        Some(test) => {
            let order = shuffled(test.len(), !options.seed);
            let indices = &order[..n.min(order.len())];
            let images = Images::from_data(test, shape, indices, |_| View::default());
            let seen = classifier.see(&images)?;
            distances.push(compare("held-out images", &seen.features));
            if images.len() < n {
                distances.push(compare(
                    "samples, as many as held-out images",
                    &samples.features.first(images.len()),
                ));
            }
            Some((images, seen))
        }
        None => None,
    };
    let mut yardsticks = Vec::new();
    for fault in Fault::ALL {
        for strength in [0.25, 0.5] {
            let faulty = classifier.see(&fault.of(&others, strength, options.seed))?;
            let what = format!("real images, {}, {strength}", fault.name());
            yardsticks.push(compare(&what, &faulty.features));
        }
    }

    say!("looking for the nearest training images");
    let (real_images, real_seen, own, real_name) = match &held_out {
        Some((images, seen)) => (images, &seen.features, None, "held-out images"),
        None => (
            &others,
            &floor.features,
            Some(&real.order[n..2 * n]),
            "training images, each against all others",
        ),
    };
    let views = views(config, (n + real_images.len()) * data.len() * shape.item(), &mut notes);
    let found = Found {
        sample_pixels: by_pixels(&real, &drawn.images, None, &views, device)?,
        real_pixels: by_pixels(&real, real_images, own, &views, device)?,
        sample_features: by_features(&real, &samples.features, None, classifier, device)?,
        real_features: by_features(&real, real_seen, own, classifier, device)?,
    };
    let nearest = found.pairs();
    let (curve, curve_floor) = curve(&mut artist, &real, &floor, &training, classifier, options)?;
    let counts = Counts { samples: &samples, floor: &floor, drawn: &drawn };
    let results = Results {
        model: Model {
            checkpoint: path.display().to_string(),
            steps_trained: checkpoint.step,
            width: shape.width,
            height: shape.height,
            channels: shape.channels,
            classes: config.data.class_names.clone(),
            images: data.fingerprint(),
        },
        classifier: classifier.about().clone(),
        samples: Samples {
            count: n,
            sampler: options.way.name.clone(),
            steps: options.way.steps,
            guidance: options.guidance,
            seed: options.seed,
            runtime: artist.runtime().to_string(),
            seconds,
        },
        distances,
        yardsticks,
        recognised: counts.recognised(classifier),
        class_accuracy: class_accuracy(&drawn, &samples, classifier),
        faulty_samples: share(&samples.faulty),
        faulty_real: share(&floor.faulty),
        pixels: Nearness::of(&found.sample_pixels.distance, &found.real_pixels.distance),
        features: Nearness::of(&found.sample_features.distance, &found.real_features.distance),
        real_images: real_name.to_string(),
        nearest,
        curve,
        curve_floor,
        notes,
    };

    let columns = match config.data.class_names.len() {
        0 => 10,
        classes => classes.min(32),
    };
    let shown = SHOWN.min(n) / columns.min(n) * columns.min(n);
    let first_of: Vec<usize> = (0..shown.min(n)).collect();
    let pair_images = |places: &[usize]| -> Result<Vec<u8>> {
        let mut row = drawn.images.select(places);
        for nearest in [&found.sample_pixels, &found.sample_features] {
            let indices: Vec<usize> = places.iter().map(|place| nearest.index[*place]).collect();
            let images = Images::from_data(data, shape, &indices, |_| View::default());
            row.pixels.extend(images.pixels);
        }
        row.png(places.len())
    };
    let places: Vec<usize> = results.nearest.iter().map(|pair| pair.sample).collect();
    let firsts: Vec<usize> = (0..PAIRS.min(n)).collect();
    let pictures = Pictures {
        samples: drawn.images.select(&first_of).png(columns)?,
        training: reference.select(&first_of).png(columns)?,
        nearest: pair_images(&places)?,
        first: pair_images(&firsts)?,
    };
    write_atomically(&results_path(folder), results.json()?.as_bytes())?;
    write_atomically(&report_path(folder), report::html(&results, &pictures).as_bytes())?;
    Ok(results)
}

/// The page that [`eval`] writes.
pub fn report_path(folder: &Path) -> PathBuf {
    folder.join("report.html")
}

/// The file of numbers that [`eval`] writes.
pub fn results_path(folder: &Path) -> PathBuf {
    folder.join("results.json")
}

fn notes(checkpoint: &Checkpoint, data: &Dataset, classifier: &Classifier) -> Vec<String> {
    let mut notes = Vec::new();
    let now = data.fingerprint();
    if let Some(before) = checkpoint.images.as_deref().filter(|before| *before != now) {
        notes.push(format!(
            "The model was trained on other images ({before}) than it is compared with ({now})."
        ));
    }
    if classifier.about().images != now {
        notes.push(format!(
            "The classifier learned from other images ({}) than the model is compared with ({now}).",
            classifier.about().images
        ));
    }
    notes
}

fn share(flags: &[bool]) -> f64 {
    flags.iter().filter(|flag| **flag).count() as f64 / flags.len().max(1) as f64
}

/// The share of samples recognised as the class that was asked for; none where one side has no classes.
fn class_accuracy(drawn: &Drawn, seen: &Seen, classifier: &Classifier) -> Option<f64> {
    let known = classifier.about().knows_classes && !drawn.asked.is_empty();
    let right = || drawn.asked.iter().zip(&seen.classes).filter(|(asked, seen)| asked == seen);
    known.then(|| right().count() as f64 / drawn.asked.len() as f64)
}

struct Counts<'a> {
    samples: &'a Seen,
    floor: &'a Seen,
    drawn: &'a Drawn,
}

impl Counts<'_> {
    fn recognised(&self, classifier: &Classifier) -> Vec<Recognised> {
        let knows_classes = classifier.about().knows_classes && !self.drawn.asked.is_empty();
        let names = classifier.about().names.iter().enumerate();
        let of = |seen: &Seen, class: usize| seen.classes.iter().filter(|c| **c == class).count();
        let row = |(class, name): (usize, &String)| {
            let asked = knows_classes
                .then(|| self.drawn.asked.iter().filter(|asked| **asked == class).count());
            let pairs = self.drawn.asked.iter().zip(&self.samples.classes);
            let right = pairs.filter(|(asked, seen)| **asked == class && **seen == class).count();
            Recognised {
                name: name.clone(),
                asked,
                samples: of(self.samples, class),
                real: of(self.floor, class),
                accuracy: asked.filter(|n| *n > 0).map(|n| right as f64 / n as f64),
            }
        };
        names.map(row).collect()
    }
}

/// How training images are shown to the search for neighbours: every way in which the training shows
/// them, or, where that takes too long, not moved.
fn views(config: &Config, products: usize, notes: &mut Vec<String>) -> Vec<View> {
    let reach = config.data.shift as isize;
    let both = |is_on: bool| if is_on { &[false, true][..] } else { &[false] };
    let turns = if config.data.rotate { 0..4 } else { 0..1 };
    let mut turned = Vec::new();
    for &flip in both(config.data.flip) {
        for &flip_vertical in both(config.data.flip_vertical) {
            let view = |turns| View { flip, flip_vertical, turns, ..View::default() };
            turned.extend(turns.clone().map(view));
        }
    }
    let count = turned.len() as f64 * (2.0 * reach as f64 + 1.0).powi(2);
    let shifts = if count * products as f64 <= MOST_PRODUCTS { -reach..=reach } else { 0..=0 };
    if reach > 0 && shifts == (0..=0) {
        notes.push(format!(
            "Copies that are moved by up to {reach} pixels, as the training moves images, are not \
             looked for by pixels: that many comparisons take too long."
        ));
    }
    let mut views = Vec::new();
    for view in turned {
        for y in shifts.clone() {
            views.extend(shifts.clone().map(|x| View { shift: (x, y), ..view }));
        }
    }
    views
}

fn by_pixels(
    real: &Real,
    images: &Images,
    own: Option<&[usize]>,
    views: &[View],
    device: &Device,
) -> Result<Nearest> {
    let mut nearest = Nearest::none(images.len());
    for first in (0..real.data.len()).step_by(PART) {
        let indices: Vec<usize> = (first..real.data.len().min(first + PART)).collect();
        for view in views {
            let set = Images::from_data(real.data, real.shape, &indices, |_| *view);
            let dims = real.shape.item();
            nearest.look_in(&images.pixels, &set.pixels, dims, first, own, device)?;
        }
    }
    Ok(nearest)
}

fn by_features(
    real: &Real,
    features: &Features,
    own: Option<&[usize]>,
    classifier: &Classifier,
    device: &Device,
) -> Result<Nearest> {
    let mut nearest = Nearest::none(features.len());
    for first in (0..real.data.len()).step_by(PART) {
        let indices: Vec<usize> = (first..real.data.len().min(first + PART)).collect();
        let set = Images::from_data(real.data, real.shape, &indices, |_| View::default());
        let set = classifier.see(&set)?.features;
        nearest.look_in(&features.values, &set.values, set.dims, first, own, device)?;
    }
    Ok(nearest)
}

/// The nearest training images of samples and of real images.
struct Found {
    sample_pixels: Nearest,
    real_pixels: Nearest,
    sample_features: Nearest,
    real_features: Nearest,
}

impl Found {
    /// The samples that are nearest to a training image by pixels.
    fn pairs(&self) -> Vec<Pair> {
        let distance = &self.sample_pixels.distance;
        let mut places: Vec<usize> = (0..distance.len()).collect();
        places.sort_by(|a, b| distance[*a].total_cmp(&distance[*b]));
        let real = &self.real_pixels.distance;
        let pair = |&sample: &usize| {
            let nearer = real.iter().filter(|d| **d < distance[sample]).count();
            Pair {
                sample,
                training_image: self.sample_pixels.index[sample],
                distance: distance[sample],
                real_nearer: nearer as f64 / real.len().max(1) as f64,
                training_image_by_features: self.sample_features.index[sample],
                distance_by_features: self.sample_features.distance[sample],
            }
        };
        places.iter().take(PAIRS).map(pair).collect()
    }
}

/// The distances of every way of the comparison, and of as many real images.
fn curve(
    artist: &mut Artist,
    real: &Real,
    floor: &Seen,
    training: &Seen,
    classifier: &Classifier,
    options: &Options,
) -> Result<(Vec<Point>, Option<Distance>)> {
    let n = options.curve_count.min(real.data.len() / 2).min(training.features.len());
    if n < 2 || options.curve.is_empty() {
        return Ok((Vec::new(), None));
    }
    let training = training.features.first(n);
    let gaussian = Gaussian::of(&training);
    let mut points = Vec::new();
    for (index, way) in options.curve.iter().enumerate() {
        let started = Instant::now();
        let drawn = artist.draw(way, n)?;
        let seconds = started.elapsed().as_secs_f64();
        let seen = classifier.see(&drawn.images)?;
        let distance = Distance::to("samples", &seen.features, &training, &gaussian);
        say!(
            "{} of {}: {}, {} steps: {:.3} Frechet, {seconds:.0} s",
            index + 1,
            options.curve.len(),
            way.name,
            way.steps,
            distance.frechet
        );
        points.push(Point {
            sampler: way.name.clone(),
            steps: way.steps,
            distance,
            class_accuracy: class_accuracy(&drawn, &seen, classifier),
            seconds,
        });
    }
    let floor =
        Distance::to("other training images", &floor.features.first(n), &training, &gaussian);
    Ok((points, Some(floor)))
}
