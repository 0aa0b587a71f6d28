//! How the classifier learns: the classes of the data, or groups of alike images, and known faults.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use burn::tensor::{Device, Tensor, TensorData, activation};
use serde::{Deserialize, Serialize};

use super::classifier::{About, Classifier};
use super::clusters::Clusters;
use super::faults::{Fault, uniform};
use super::images::{Images, Shape};
use super::net::Net;
use super::split::Split;
use crate::config::TrainConfig;
use crate::data::augment::View;
use crate::data::{Dataset, Order};
use crate::device;
use crate::optimizer::TrainState;
use crate::parameters::Parameters;
use crate::say;
use crate::step::Gradient;
use crate::workers;

/// Images that groups are found from, and that features are scaled to, at most.
const ENOUGH: usize = 8192;
/// How much telling faults counts beside telling classes.
const FAULT_WEIGHT: f64 = 1.0;
/// Share of a batch that is shown with a fault.
const FAULTY: f64 = 0.375;
const SPEAK_EVERY: Duration = Duration::from_secs(15);

/// How a classifier is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lessons {
    pub seed: u64,
    pub steps: usize,
    /// Images a step.
    pub batch: usize,
    pub learning_rate: f64,
    pub weight_decay: f64,
    pub ema_decay: f64,
    /// Images are moved by up to this many pixels each way.
    pub shift: usize,
    /// Length of the vector of features.
    pub features: usize,
    /// Groups made of images without classes.
    pub clusters: usize,
    /// Share of the images that is only measured with, where there are no others for that.
    pub held_out: f64,
}

impl Default for Lessons {
    fn default() -> Self {
        Self {
            seed: 0,
            steps: 3000,
            batch: 64,
            learning_rate: 2e-3,
            weight_decay: 0.02,
            ema_decay: 0.998,
            shift: 2,
            features: 64,
            clusters: 32,
            held_out: 0.1,
        }
    }
}

impl Lessons {
    /// Says the first thing that cannot work.
    pub fn validate(&self) -> Result<()> {
        let count = |name: &str, value: usize, low: usize, high: usize| {
            ensure!(
                (low..=high).contains(&value),
                "classifier: {name} is {value}, expected {low} to {high}"
            );
            Ok(())
        };
        count("steps", self.steps, 1, 10_000_000)?;
        count("batch", self.batch, 4, 65536)?;
        count("features", self.features, 2, 1024)?;
        count("groups", self.clusters, 2, 1024)?;
        ensure!(
            self.learning_rate > 0.0 && self.learning_rate.is_finite(),
            "classifier: learning_rate is {}, expected more than 0",
            self.learning_rate
        );
        Ok(())
    }

    /// All else as if not given.
    fn optimisation(&self) -> Result<TrainConfig> {
        let given = serde_json::json!({
            "steps": self.steps,
            "batch": self.batch,
            "learning_rate": self.learning_rate,
            "warmup_steps": self.steps / 20,
            "weight_decay": self.weight_decay,
            "max_grad_norm": 1.0,
            "ema_decay": self.ema_decay,
        });
        serde_json::from_value(given).context("classifier")
    }
}

/// Images with the label of each.
struct Labelled<'a> {
    data: &'a Dataset,
    indices: Vec<usize>,
    /// Of all images of `data`.
    labels: Vec<usize>,
}

impl Labelled<'_> {
    fn images(&self, shape: Shape, count: usize) -> Images {
        let indices = &self.indices[..count.min(self.indices.len())];
        Images::from_data(self.data, shape, indices, |_| View::default())
    }
}

/// Trains a classifier on `data`, images of `shape`, and measures it with `test`, or with a share of
/// `data` that is kept back. Prints how far it is.
///
/// Errors: too few images, another shape or other classes in `test`, or a loss that is no number.
pub fn teach(
    lessons: &Lessons,
    data: &Dataset,
    test: Option<&Dataset>,
    shape: Shape,
    device: &Device,
) -> Result<Classifier> {
    lessons.validate()?;
    let everything = || (0..data.len()).collect();
    let (train, held_out) = match test {
        Some(test) => (everything(), (0..test.len()).collect()),
        None => {
            let split = Split::new(data, lessons.held_out, lessons.seed)?;
            (split.train, split.held_out)
        }
    };
    let knows_classes = !data.class_names().is_empty();
    let (labels, test_labels, names) = if knows_classes {
        let of = |data: &Dataset| data.labels().iter().map(|label| *label as usize).collect();
        if let Some(test) = test {
            ensure!(
                test.class_names() == data.class_names(),
                "the test images have the classes {:?}, expected {:?} as those of the data",
                test.class_names(),
                data.class_names()
            );
        }
        (of(data), test.map(of), data.class_names().to_vec())
    } else {
        let some = &train[..train.len().min(ENOUGH)];
        let images = Images::from_data(data, shape, some, |_| View::default());
        let clusters = Clusters::find(&images, lessons.clusters, lessons.seed);
        let of = |data: &Dataset| groups(&clusters, data, shape);
        let names = (0..clusters.len()).map(|k| format!("group {}", k + 1)).collect();
        (of(data), test.map(of), names)
    };
    let train = Labelled { data, indices: train, labels };
    let held_out = match (test, test_labels) {
        (Some(data), Some(labels)) => Labelled { data, indices: held_out, labels },
        _ => Labelled { data, indices: held_out, labels: train.labels.clone() },
    };
    let net = Net {
        width: shape.width,
        height: shape.height,
        channels: shape.channels,
        classes: names.len(),
        features: lessons.features,
    };
    net.validate()?;
    let parameters = learn(lessons, &net, &train, device)?;
    let about = About {
        net,
        lessons: lessons.clone(),
        knows_classes,
        names,
        images: data.fingerprint(),
        train_images: train.indices.len(),
        held_out_images: held_out.indices.len(),
        accuracy: 0.0,
        fault_accuracy: 0.0,
    };
    let mut classifier = Classifier::new(about, parameters, device)?;
    classifier.scale_to(&train.images(shape, ENOUGH))?;
    measure(&mut classifier, &held_out)?;
    Ok(classifier)
}

/// The group of every image, a part of them in memory at a time.
fn groups(clusters: &Clusters, data: &Dataset, shape: Shape) -> Vec<usize> {
    let all: Vec<usize> = (0..data.len()).collect();
    let of_part = |part: &[usize]| {
        clusters.labels(&Images::from_data(data, shape, part, |_| View::default()))
    };
    all.chunks(1024).flat_map(of_part).collect()
}

/// A batch of a lesson.
struct Batch {
    images: Images,
    /// One in the place of the class of each intact image, `[n, classes]`.
    classes: Vec<f32>,
    /// One in the place of the fault of each, `[n, 1 + faults]`.
    faults: Vec<f32>,
}

impl Batch {
    /// What some of its images add to the loss: cross entropy, each answer's over the images that have
    /// one.
    fn share(
        &self,
        net: &Net,
        parameters: &Parameters,
        items: Range<usize>,
        device: &Device,
    ) -> Gradient {
        let tracked = parameters.tracked();
        let images = self.images.batch(items.start, items.len(), device).autodiff();
        let answers = net.forward(&tracked, images);
        let entropy = |logits: Tensor<2>, wanted: &[f32]| {
            let count = wanted.iter().sum::<f32>().max(1.0);
            let [_, columns] = logits.dims();
            let wanted = wanted[items.start * columns..items.end * columns].to_vec();
            let wanted = Tensor::<2>::from_data(TensorData::new(wanted, logits.dims()), device);
            let terms = activation::log_softmax(logits, 1) * wanted.autodiff();
            terms.sum() * (-1.0 / count)
        };
        let loss = entropy(answers.classes, &self.classes)
            + entropy(answers.faults, &self.faults) * FAULT_WEIGHT;
        Gradient::of_loss(&tracked, loss)
    }
}

fn batch(lessons: &Lessons, net: &Net, train: &Labelled, order: &mut Order, step: usize) -> Batch {
    let (n, shape, row) = (lessons.batch, net.shape(), step as u32);
    let random = |item, word| uniform(lessons.seed, row, item, word);
    let places: Vec<usize> =
        (0..n).map(|item| train.indices[order.image(step * n + item)]).collect();
    let reach = lessons.shift.min(shape.width.min(shape.height) / 4);
    let by = |item, word| (random(item, word) * (2 * reach + 1) as f64) as isize - reach as isize;
    let view = |item| View { shift: (by(item, 2), by(item, 3)), ..View::default() };
    let mut images = Images::from_data(train.data, shape, &places, view);
    let kinds = 1 + Fault::ALL.len();
    let mut classes = vec![0.0; n * net.classes];
    let mut faults = vec![0.0; n * kinds];
    let mut other = vec![0.0; shape.item()];
    for (item, image) in images.pixels.chunks_exact_mut(shape.item()).enumerate() {
        if item as f64 >= FAULTY * n as f64 {
            classes[item * net.classes + train.labels[places[item]]] = 1.0;
            faults[item * kinds] = 1.0;
            continue;
        }
        let kind = (random(item, 4) * Fault::ALL.len() as f64) as usize;
        let strength = 0.15 + 0.85 * random(item, 5);
        let place = (random(item, 6) * train.indices.len() as f64) as usize;
        train.data.copy_image(train.indices[place], View::default(), &mut other);
        Fault::ALL[kind].apply(strength, image, &other, shape, (lessons.seed, row, item));
        faults[item * kinds + 1 + kind] = 1.0;
    }
    Batch { images, classes, faults }
}

/// The averaged weights after all steps.
fn learn(lessons: &Lessons, net: &Net, train: &Labelled, device: &Device) -> Result<Parameters> {
    let optimisation = lessons.optimisation()?;
    let mut state = TrainState::initial(net.specs(), lessons.seed, device)?;
    let mut order = Order::new(lessons.seed, train.indices.len());
    let (mut smoothed, mut spoke) = (None, Instant::now());
    let started = Instant::now();
    for step in 0..lessons.steps {
        let batch = batch(lessons, net, train, &mut order, step);
        let mut sum = Gradient::default();
        let shares = workers::each_share(lessons.batch, device::threads(device), |items| {
            batch.share(net, &state.parameters, items, device)
        })?;
        shares.into_iter().for_each(|share| sum.add(share));
        let value = sum.loss;
        ensure!(value.is_finite(), "the classifier's loss is {value} at step {}", step + 1);
        state.update(sum.by_weight, &optimisation).context("classifier")?;
        let mean = smoothed.map_or(value, |old: f64| old + 0.02 * (value - old));
        smoothed = Some(mean);
        if spoke.elapsed() >= SPEAK_EVERY {
            spoke = Instant::now();
            let seconds = started.elapsed().as_secs_f64();
            let left = seconds / (step + 1) as f64 * (lessons.steps - step - 1) as f64;
            say!(
                "classifier: step {} of {}  loss {mean:.4}  {:.0} images/s  {:.1} min left",
                step + 1,
                lessons.steps,
                ((step + 1) * lessons.batch) as f64 / seconds,
                left / 60.0
            );
        }
    }
    Ok(state.ema)
}

/// Measures with images it has not learned from.
fn measure(classifier: &mut Classifier, held_out: &Labelled) -> Result<()> {
    let shape = classifier.about().net.shape();
    let (mut right, mut intact, mut caught, mut count) = (0, 0, 0, 0);
    for (part, indices) in held_out.indices.chunks(1024).enumerate() {
        let images = Images::from_data(held_out.data, shape, indices, |_| View::default());
        let seen = classifier.see(&images)?;
        let labels = indices.iter().map(|index| held_out.labels[*index]);
        right += seen.classes.iter().zip(labels).filter(|(a, b)| **a == *b).count();
        intact += seen.faulty.iter().filter(|faulty| !**faulty).count();
        let mut faulty = images.clone();
        for (i, image) in faulty.pixels.chunks_exact_mut(shape.item()).enumerate() {
            let fault = Fault::ALL[i % Fault::ALL.len()];
            let other = images.image((i + 1) % images.len());
            fault.apply(
                0.5,
                image,
                other,
                shape,
                (!classifier.about().lessons.seed, part as u32, i),
            );
        }
        caught += classifier.see(&faulty)?.faulty.iter().filter(|faulty| **faulty).count();
        count += indices.len();
    }
    let share = |part: usize| part as f64 / count.max(1) as f64;
    let about = classifier.about_mut();
    about.accuracy = share(right);
    about.fault_accuracy = 0.5 * (share(intact) + share(caught));
    Ok(())
}
