//! The report: one HTML page with everything in it, pictures too.

use std::fmt::Write as _;

use super::charts::{Level, Line, chart};
use super::neighbours::{Nearness, PERCENTILES};
use super::results::{Distance, Results, number, percent};

/// Pictures of a report, PNG files.
pub struct Pictures {
    /// Samples; of a model with classes, a column for each.
    pub samples: Vec<u8>,
    /// As many training images.
    pub training: Vec<u8>,
    /// Rows of samples, their nearest training images by pixels, and by features.
    pub nearest: Vec<u8>,
    /// Of the first samples, the same.
    pub first: Vec<u8>,
}

/// Text that may stand between tags and in quoted attributes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// Base64 (RFC 4648, section 4).
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut word = 0u32;
        for i in 0..3 {
            word = word << 8 | u32::from(chunk.get(i).copied().unwrap_or(0));
        }
        for i in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * i)) as usize & 63] as char;
            out.push(if i <= chunk.len() { digit } else { '=' });
        }
    }
    out
}

const STYLE: &str = "body{font:15px/1.5 sans-serif;color:#222;max-width:60rem;margin:2rem auto;padding:0 1rem}\
table{border-collapse:collapse;margin:1em 0}th,td{border-bottom:1px solid #ddd;padding:.2em .8em;text-align:left}\
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}\
img{image-rendering:pixelated;max-width:100%;border:1px solid #ddd}\
.warn{background:#fff3cd;border-left:4px solid #e0a800;padding:.4em .8em}p.small{color:#555}";

/// The page.
pub fn html(results: &Results, pictures: &Pictures) -> String {
    let mut page = Page(String::new());
    let r = results;
    let title = format!("Report on {}", r.model.checkpoint);
    page.add(&format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{0}</title>\
         <style>{STYLE}</style></head><body>\n<h1>{0}</h1>",
        escape(&title)
    ));
    page.paragraph(&format!(
        "{} steps of training; images of {}x{} pixels, {} channels ({}). {} samples by {} in {} \
         steps, guidance {}, seed {}, drawn by {} in {} s.",
        r.model.steps_trained,
        r.model.width,
        r.model.height,
        r.model.channels,
        r.model.images,
        r.samples.count,
        r.samples.sampler,
        r.samples.steps,
        r.samples.guidance,
        r.samples.seed,
        r.samples.runtime,
        number(r.samples.seconds)
    ));
    for note in &r.notes {
        page.add(&format!("<p class=\"warn\">{}</p>", escape(note)));
    }
    page.heading("Samples");
    page.picture(&pictures.samples, "samples");
    page.paragraph("Training images, as the training saw them:");
    page.picture(&pictures.training, "training images");
    distances(&mut page, r);
    classes(&mut page, r);
    neighbours(&mut page, r, pictures);
    curve(&mut page, r);
    classifier(&mut page, r);
    page.add("</body></html>");
    page.0
}

struct Page(String);

impl Page {
    fn add(&mut self, html: &str) {
        self.0.push_str(html);
        self.0.push('\n');
    }

    fn heading(&mut self, text: &str) {
        self.add(&format!("<h2>{}</h2>", escape(text)));
    }

    fn paragraph(&mut self, text: &str) {
        self.add(&format!("<p>{}</p>", escape(text)));
    }

    /// A picture of pixels, three screen pixels each where they fit.
    fn picture(&mut self, png: &[u8], what: &str) {
        // The width stands in the header, after signature, length and type.
        let width = png.get(16..20).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes);
        self.add(&format!(
            "<p><img alt=\"{}\" width=\"{}\" src=\"data:image/png;base64,{}\"></p>",
            escape(what),
            width.saturating_mul(3),
            base64(png)
        ));
    }

    /// A table; the first column is text, the others are numbers.
    fn table(&mut self, head: &[&str], rows: &[Vec<String>]) {
        let mut out = String::from("<table>");
        let cells = |out: &mut String, tag: &str, cells: &mut dyn Iterator<Item = &str>| {
            out.push_str("<tr>");
            for (i, cell) in cells.enumerate() {
                let class = if i > 0 { " class=\"n\"" } else { "" };
                let _ = write!(out, "<{tag}{class}>{}</{tag}>", escape(cell));
            }
            out.push_str("</tr>\n");
        };
        cells(&mut out, "th", &mut head.iter().copied());
        for row in rows {
            cells(&mut out, "td", &mut row.iter().map(String::as_str));
        }
        out.push_str("</table>");
        self.add(&out);
    }
}

fn distance_cells(d: &Distance) -> Vec<String> {
    vec![number(d.frechet), number(d.kernel), number(d.kernel_error), d.compared.to_string()]
}

fn distances(page: &mut Page, r: &Results) {
    page.heading("How far the samples are from the training images");
    page.paragraph(
        "Distances between the features of two sets of images, as many in each. The rows of real images \
         are the floor: other real images are as far away by chance alone. The features are those of a \
         small classifier trained on these images, so the numbers are no FID and say nothing beside \
         another classifier's or another number of images. Frechet is never 0 for finite sets; kernel is \
         0 in the mean for sets that differ by chance alone.",
    );
    let rows = |list: &[Distance]| -> Vec<Vec<String>> {
        list.iter().map(|d| [vec![d.what.clone()], distance_cells(d)].concat()).collect()
    };
    let head = ["to the training images, from", "Frechet", "kernel", "+-", "images each"];
    page.table(&head, &rows(&r.distances));
    page.paragraph("To read these by: real images with known faults.");
    page.table(&head, &rows(&r.yardsticks));
    page.paragraph(&format!(
        "To the classifier {} of the samples and {} of real images look faulty.",
        percent(r.faulty_samples),
        percent(r.faulty_real)
    ));
}

fn classes(page: &mut Page, r: &Results) {
    page.heading(if r.classifier.knows_classes { "Classes" } else { "Groups of alike images" });
    if let Some(accuracy) = r.class_accuracy {
        page.paragraph(&format!(
            "{} of the samples are recognised as the class that was asked for; of held-out real images \
             the classifier tells {}.",
            percent(accuracy),
            percent(r.classifier.accuracy)
        ));
    } else if !r.classifier.knows_classes {
        page.paragraph(
            "The images have no classes; the classifier tells groups of alike ones that were found \
             among them. A group that samples leave out is a kind of image that the model has not learned.",
        );
    }
    let option = |value: Option<String>| value.unwrap_or_else(|| "–".to_string());
    let rows: Vec<Vec<String>> = r
        .recognised
        .iter()
        .map(|c| {
            vec![
                c.name.clone(),
                option(c.asked.map(|n| n.to_string())),
                c.samples.to_string(),
                option(c.accuracy.map(percent)),
                c.real.to_string(),
            ]
        })
        .collect();
    page.table(
        &[
            "",
            "samples asked for",
            "samples recognised",
            "of those asked for",
            "real images recognised",
        ],
        &rows,
    );
}

fn neighbours(page: &mut Page, r: &Results, pictures: &Pictures) {
    page.heading("Are samples copies of training images?");
    page.paragraph(&format!(
        "The distance to the nearest training image, of samples and of real images ({}), as a difference \
         in every pixel (values from -1 to 1) or feature. Samples that are copies are nearer than real \
         images are.",
        r.real_images
    ));
    let mut rows = Vec::new();
    let mut add = |what: &str, nearness: &Nearness| {
        let row = |name: String, count: usize, values: &[f64]| {
            let values = values.iter().map(|v| number(*v));
            [vec![name, count.to_string()], values.collect()].concat()
        };
        let (samples, real) = (&nearness.sample_percentiles, &nearness.real_percentiles);
        rows.push(row(format!("samples, by {what}"), nearness.samples, samples));
        rows.push(row(format!("real images, by {what}"), nearness.real, real));
    };
    add("pixels", &r.pixels);
    add("features", &r.features);
    let names = PERCENTILES.map(|p| format!("{:.0} %", p * 100.0));
    let head: Vec<&str> = ["percentile of the distance", "images"]
        .into_iter()
        .chain(names.iter().map(String::as_str))
        .collect();
    page.table(&head, &rows);
    for (what, nearness) in [("pixels", &r.pixels), ("features", &r.features)] {
        let text = format!(
            "By {what}, {} of the samples are nearer than the nearest 1 % of real images, and {} nearer \
             than the nearest 5 %. {}",
            percent(nearness.share_below_real_1),
            percent(nearness.share_below_real_5),
            if nearness.suspicious {
                "That is more than chance makes: look at the pairs below for copies."
            } else {
                "That is what chance makes, or less."
            }
        );
        let class = if nearness.suspicious { " class=\"warn\"" } else { "" };
        page.add(&format!("<p{class}>{}</p>", escape(&text)));
    }
    page.paragraph(
        "The samples nearest to a training image; below each the nearest by pixels, and by features:",
    );
    page.picture(&pictures.nearest, "nearest samples, their nearest training images");
    let rows: Vec<Vec<String>> = r
        .nearest
        .iter()
        .map(|pair| {
            vec![
                format!("sample {}", pair.sample),
                pair.training_image.to_string(),
                number(pair.distance),
                percent(pair.real_nearer),
                pair.training_image_by_features.to_string(),
                number(pair.distance_by_features),
            ]
        })
        .collect();
    page.table(
        &["", "training image", "distance", "real images nearer", "by features", "distance"],
        &rows,
    );
    page.paragraph("The first samples, and their nearest training images in the same way:");
    page.picture(&pictures.first, "first samples, their nearest training images");
}

fn curve(page: &mut Page, r: &Results) {
    if r.curve.is_empty() {
        return;
    }
    page.heading("Steps");
    let mut names: Vec<&str> = Vec::new();
    for point in &r.curve {
        if !names.contains(&point.sampler.as_str()) {
            names.push(&point.sampler);
        }
    }
    let lines = |value: &dyn Fn(&Distance) -> f64| -> Vec<Line> {
        let line = |name: &&str| {
            let own = r.curve.iter().filter(|point| point.sampler == *name);
            let points = own.map(|point| (point.steps as f64, value(&point.distance))).collect();
            Line { name: name.to_string(), points }
        };
        names.iter().map(line).collect()
    };
    let levels = |value: &dyn Fn(&Distance) -> f64| -> Vec<Level> {
        let level = |d: &Distance| Level { name: d.what.clone(), y: value(d) };
        r.curve_floor.iter().map(level).collect()
    };
    page.add(&chart("steps", "Frechet distance", &lines(&|d| d.frechet), &levels(&|d| d.frechet)));
    page.add(&chart("steps", "kernel distance", &lines(&|d| d.kernel), &levels(&|d| d.kernel)));
    let option = |value: Option<f64>| value.map_or("–".to_string(), percent);
    let mut rows: Vec<Vec<String>> = r
        .curve
        .iter()
        .map(|point| {
            let head = vec![point.sampler.clone(), point.steps.to_string()];
            let tail = vec![option(point.class_accuracy), number(point.seconds)];
            [head, distance_cells(&point.distance), tail].concat()
        })
        .collect();
    if let Some(floor) = &r.curve_floor {
        let (head, tail) = (vec![floor.what.clone(), String::new()], vec![String::new(); 2]);
        rows.push([head, distance_cells(floor), tail].concat());
    }
    page.table(
        &["sampler", "steps", "Frechet", "kernel", "+-", "images each", "class right", "s"],
        &rows,
    );
}

fn classifier(page: &mut Page, r: &Results) {
    page.heading("The classifier");
    let c = &r.classifier;
    page.paragraph(&format!(
        "Trained for {} steps of {} on {} images, measured on {} others: it tells {} of {} {}, and intact \
         images from faulty ones in {}. The features are the {} values both answers are made from, scaled \
         to mean 0 and variance 1 over its training images.",
        c.lessons.steps,
        c.lessons.batch,
        c.train_images,
        c.held_out_images,
        percent(c.accuracy),
        c.names.len(),
        if c.knows_classes { "classes" } else { "groups of alike images" },
        percent(c.fault_accuracy),
        c.net.features
    ));
}
