//! The drawings of `ddpm plot`.

use std::path::Path;

use ddpm::noise_schedule::NoiseSchedule;
use ddpm::prediction::PredictionType;
use ddpm::sampler::{Sampler, SamplerConfig, step_table};

use crate::common::{Folder, model};
use crate::{ddpm, text, words};

/// The SVG that `ddpm plot` makes of `options`, checked to be well-formed.
fn plot(folder: &Path, options: &str) -> String {
    let file = folder.join("plot.svg");
    let mut arguments = words(&format!("plot {options}"));
    arguments.extend(["-o".to_owned(), text(&file)]);
    ddpm(arguments).ok();
    let svg = std::fs::read_to_string(file).unwrap();
    check_well_formed(&svg);
    svg
}

/// Every tag is closed, in the order of XML, and no text has a bare `<` or `&`.
fn check_well_formed(svg: &str) {
    let mut open = Vec::new();
    for piece in svg.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').unwrap_or_else(|| panic!("<{piece}"));
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        assert_eq!(tag.matches('"').count() % 2, 0, "<{tag}>");
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "<{tag}>");
        } else if !tag.ends_with('/') {
            open.push(name);
        }
        for entity in text.split('&').skip(1) {
            assert!(
                ["amp;", "lt;", "gt;", "quot;"].iter().any(|e| entity.starts_with(e)),
                "{text}"
            );
        }
    }
    assert!(open.is_empty() && svg.trim_end().ends_with("</svg>"), "{open:?}");
}

/// The dots of a series: one on each curve for a row.
fn dots(svg: &str, series: usize) -> usize {
    svg.matches(&format!("<circle class=\"series{series}-fill\"")).count()
}

/// The ticks on the line of a series.
fn ticks(svg: &str, series: usize) -> usize {
    svg.matches(&format!("<line class=\"series{series}-stroke\"")).count()
}

#[test]
fn every_sampler_has_a_mark_for_each_row_on_both_curves() {
    let folder = Folder::new("cli-plot-rows");
    for sampler in Sampler::ALL {
        let svg = plot(&folder.0, &format!("--sampler {sampler} --steps 7"));
        let config = SamplerConfig { steps: 7, ..SamplerConfig::default().with_kind(sampler) };
        let table = step_table(&NoiseSchedule::ddpm(), PredictionType::Epsilon, &config).unwrap();
        assert_eq!(dots(&svg, 0), 2 * table.rows().len(), "{sampler}");
        assert_eq!(ticks(&svg, 0), table.rows().len(), "{sampler}");
        assert!(svg.contains(">alphas_cumprod<") && svg.contains(">sigma (logarithmic)<"));
        assert!(svg.contains(&format!(">{sampler}")) && svg.contains("prefers-color-scheme: dark"));
    }
}

#[test]
fn samplers_are_compared_in_one_drawing() {
    let folder = Folder::new("cli-plot-compare");
    let svg = plot(&folder.0, "--sampler heun --sampler ddim --steps 5 --spacing linspace");
    assert_eq!((ticks(&svg, 0), ticks(&svg, 1)), (9, 5));
    let many = "plot --sampler ddim ".to_owned() + &"--sampler ddpm ".repeat(6) + "-o x.svg";
    let refused = ddpm(words(&many));
    assert!(refused.code == 2 && refused.stderr.contains("found 7 of them"), "{refused:?}");
}

#[test]
fn the_schedule_is_the_one_asked_for() {
    let folder = Folder::new("cli-plot-schedule");
    let svg = plot(
        &folder.0,
        "--sampler ddim --timesteps 499,250,0 --num-train-timesteps 500 --zero-snr \
         --beta-schedule scaled_linear --beta-start 0.00085 --beta-end 0.012",
    );
    let title = "scaled_linear betas 0.00085 to 0.012, 500 timesteps, rescaled to zero SNR";
    assert!(svg.contains(&format!(">{title}<")), "{svg}");
    assert_eq!(ticks(&svg, 0), 3);
    // At t = 499 nothing is left of the picture: its sigma has no place on the axis but the edge.
    assert!(svg.contains("t = 499, alpha_bar = 0.0000e0, sigma = inf"), "{svg}");
    assert!(!svg.contains("NaN") && !svg.contains("=\"inf"), "{svg}");
}

#[test]
fn a_models_own_schedule_and_sampler_are_drawn() {
    let folder = Folder::new("cli-plot-model");
    let svg = plot(&folder.0, &format!("{} --provider cpu", text(&model("lin"))));
    assert_eq!(ticks(&svg, 0), 50);
    assert!(svg.contains(">ddpm, 50 trailing steps<"), "{svg}");
}

#[test]
fn without_a_model_no_runtime_is_needed_and_its_flags_are_refused() {
    let folder = Folder::new("cli-plot-no-runtime");
    let file = text(&folder.0.join("plot.svg"));
    let nowhere = [("DDPM_ONNXRUNTIME", "/no/such/library")];
    crate::ddpm_with(&nowhere, ["plot", "-o", &file]).ok();
    let refused = ddpm(["plot", "--width", "8", "-o", &file]);
    assert!(refused.code == 2 && refused.stderr.contains("--width: found without a MODEL"));
}
