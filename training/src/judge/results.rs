//! What was found about a model: every number of a report, and the file of them.

use serde::Serialize;

use super::classifier::About;
use super::distance::{Features, Gaussian, frechet, kernel};
use super::neighbours::Nearness;

/// All numbers. A number that there is none of (of too few images, say) is null in the file.
#[derive(Clone, Debug, Serialize)]
pub struct Results {
    pub model: Model,
    pub classifier: About,
    pub samples: Samples,
    /// Of samples and of other real images to `compared` training images.
    pub distances: Vec<Distance>,
    /// Of real images with known faults to the same training images.
    pub yardsticks: Vec<Distance>,
    /// What the classifier recognised in as many samples and real images.
    pub recognised: Vec<Recognised>,
    /// Share of the samples that are recognised as the class that was asked for.
    pub class_accuracy: Option<f64>,
    /// Shares of samples and of real images that look faulty to the classifier.
    pub faulty_samples: f64,
    pub faulty_real: f64,
    /// Distances to the nearest training image, by pixels and by features.
    pub pixels: Nearness,
    pub features: Nearness,
    /// What the real images of `pixels` and `features` are.
    pub real_images: String,
    /// The samples that are nearest to a training image, the nearest first.
    pub nearest: Vec<Pair>,
    /// Distances of samples of other samplers and other numbers of steps.
    pub curve: Vec<Point>,
    /// Of other real images, as many as samples of the curve.
    pub curve_floor: Option<Distance>,
    /// What the reader must know beside the numbers.
    pub notes: Vec<String>,
}

/// The model that was judged.
#[derive(Clone, Debug, Serialize)]
pub struct Model {
    pub checkpoint: String,
    pub steps_trained: usize,
    pub width: usize,
    pub height: usize,
    pub channels: usize,
    pub classes: Vec<String>,
    /// The fingerprint of the training images.
    pub images: String,
}

/// How the samples were drawn.
#[derive(Clone, Debug, Serialize)]
pub struct Samples {
    pub count: usize,
    pub sampler: String,
    pub steps: usize,
    pub guidance: f64,
    pub seed: u64,
    pub runtime: String,
    pub seconds: f64,
}

/// How far a set of images is from the training images.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Distance {
    /// Which set.
    pub what: String,
    /// Images in each of the two sets.
    pub compared: usize,
    pub frechet: f64,
    pub kernel: f64,
    /// Standard error of `kernel`.
    pub kernel_error: f64,
}

impl Distance {
    /// Between the first images of two sets, as many of each as the smaller has.
    pub fn between(what: &str, set: &Features, training: &Features) -> Self {
        let compared = set.len().min(training.len());
        let (set, training) = (set.first(compared), training.first(compared));
        let kernel = kernel(&set, &training);
        Self {
            what: what.to_string(),
            compared,
            frechet: frechet(&set, &training),
            kernel: kernel.value,
            kernel_error: kernel.error,
        }
    }

    /// The same with the Gaussian of `training` at hand.
    pub fn to(what: &str, set: &Features, training: &Features, gaussian: &Gaussian) -> Self {
        if set.len() != training.len() {
            return Self::between(what, set, training);
        }
        let kernel = kernel(set, training);
        Self {
            what: what.to_string(),
            compared: set.len(),
            frechet: gaussian.frechet(&Gaussian::of(set)),
            kernel: kernel.value,
            kernel_error: kernel.error,
        }
    }
}

/// How often a class was recognised.
#[derive(Clone, Debug, Serialize)]
pub struct Recognised {
    pub name: String,
    /// Samples asked for as this class; none for a model without classes.
    pub asked: Option<usize>,
    /// Samples recognised as this class.
    pub samples: usize,
    /// Real images recognised as this class.
    pub real: usize,
    /// Share of the asked that are recognised.
    pub accuracy: Option<f64>,
}

/// A sample and its nearest training image.
#[derive(Clone, Debug, Serialize)]
pub struct Pair {
    pub sample: usize,
    pub training_image: usize,
    pub distance: f64,
    /// Share of real images that are nearer than that to one.
    pub real_nearer: f64,
    /// The nearest by features, and its distance.
    pub training_image_by_features: usize,
    pub distance_by_features: f64,
}

/// Samples of one sampler and one number of steps.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    pub sampler: String,
    pub steps: usize,
    pub distance: Distance,
    pub class_accuracy: Option<f64>,
    pub seconds: f64,
}

/// A number as a report shows it; a dash for none.
pub fn number(value: f64) -> String {
    match value.abs() {
        size if !size.is_finite() => "–".to_string(),
        100.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.3}"),
        _ => format!("{value:.5}"),
    }
}

/// A share as a report shows it.
pub fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.2} %", 100.0 * share) } else { "–".to_string() }
}

impl Results {
    /// The file of all numbers, JSON.
    pub fn json(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// A few lines for a terminal.
    pub fn summary(&self) -> String {
        let mut lines = vec![format!(
            "classifier: {} of held-out images right ({} of them); its distances are no FID",
            percent(self.classifier.accuracy),
            self.classifier.held_out_images
        )];
        lines.extend(self.distances.iter().chain(&self.yardsticks).map(|d| {
            format!(
                "{:<44} {:>10} Frechet  {:>10} +- {} kernel  ({} and {} images)",
                d.what,
                number(d.frechet),
                number(d.kernel),
                number(d.kernel_error),
                d.compared,
                d.compared
            )
        }));
        if let Some(accuracy) = self.class_accuracy {
            lines.push(format!("samples recognised as the class asked for: {}", percent(accuracy)));
        }
        for (what, nearness) in [("pixels", &self.pixels), ("features", &self.features)] {
            lines.push(format!(
                "nearer to a training image by {what} than 1 % of real images: {} of the samples{}",
                percent(nearness.share_below_real_1),
                if nearness.suspicious { ", which look copied" } else { "" }
            ));
        }
        lines.extend(self.curve.iter().map(|point| {
            format!(
                "{:<20} {:>5} steps  {:>10} Frechet  {:>10} kernel",
                point.sampler,
                point.steps,
                number(point.distance.frechet),
                number(point.distance.kernel)
            )
        }));
        lines.extend(self.notes.iter().cloned());
        lines.join("\n")
    }
}
