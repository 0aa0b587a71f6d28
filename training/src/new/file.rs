//! The text of a new configuration: a preset's, with a `[data]` section of its own.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

use crate::console;
use crate::data::config::{Filter, Fit, Pixels};

use super::look::Survey;
use super::plan::{Plan, Preset};

/// Where comments stand.
const COLUMN: usize = 35;

/// The whole file. `folder` is what `data.folder` becomes, `name` names the run, `path` is the file's.
pub fn text(survey: &Survey, plan: &Plan, folder: &str, name: &str, path: &Path) -> Result<String> {
    let preset = plan.preset.text();
    let start = preset.find("[model]").context("the preset has no [model]")?;
    let mut rest = preset[start..].to_string();
    if plan.preset == Preset::Textures64 {
        // The preset is for pictures that tile; these may have an up and a down.
        let line = rest.lines().find(|line| line.starts_with("padding")).context("no padding")?;
        let off = format!("# {line}");
        rest = rest.replace(line, &off);
    }
    let steps = value(&rest, "steps")? / plan.fewer_steps;
    set(&mut rest, "steps", steps)?;
    let warmup = value(&rest, "warmup_steps")?.min(steps / 20);
    set(&mut rest, "warmup_steps", warmup)?;
    let every = value(&rest, "sample_every")?.min(steps / 10);
    set(&mut rest, "sample_every", every)?;
    if plan.fewer_steps > 1 {
        set(&mut rest, "ema_decay", 0.999)?;
    }

    let mut out = String::new();
    let summary = survey.summary().replace(char::is_control, " ");
    let _ = writeln!(out, "# {summary}.");
    let _ = writeln!(
        out,
        "#   ddpm-train fit --config {}",
        console::quoted(path).replace(char::is_control, " ")
    );
    let _ =
        writeln!(out, "#   ddpm-train export out/{name}/checkpoint.safetensors -o {name}.onnx\n");
    line(&mut out, "seed = 1", "another one: other weights to start with, another order");
    line(&mut out, &format!("out = \"out/{name}\""), "relative to the folder the command runs in");
    out.push_str("\n[data]\n");
    data(&mut out, survey, plan, folder);
    out.push('\n');
    out.push_str(&rest);
    Ok(out)
}

fn data(out: &mut String, survey: &Survey, plan: &Plan, folder: &str) {
    let folder = if folder.is_empty() { "." } else { folder };
    let folder = toml::Value::String(folder.to_string());
    line(out, &format!("folder = {folder}"), "with all folders in it; relative to this file");
    let sides =
        format!("of the model's pictures, in pixels; a multiple of {}", plan.preset.multiple());
    line(out, &format!("width = {}", plan.width), &sides);
    line(out, &format!("height = {}", plan.height), "half the sides: a quarter of the work");
    line(
        out,
        &format!("color = \"{}\"", plan.color_name()),
        match plan.color {
            Pixels::Gray => "one channel | \"rgb\"",
            Pixels::Rgb => "\"gray\": one channel | \"rgba\": transparency is drawn too",
            Pixels::Rgba => "transparency is drawn too | \"rgb\": on `background`, without it",
        },
    );
    if plan.color == Pixels::Rgba {
        line(out, "# background = \"#ffffff\"", "for \"rgb\": what lies under transparent pixels");
    } else {
        line(out, "background = \"#ffffff\"", "what lies under transparent pixels, and what pads");
    }
    let (fit, why) = match plan.fit {
        Fit::Crop => ("crop", "scaled, the middle taken | \"pad\": scaled, all of it kept"),
        Fit::Pad => ("pad", "scaled until it fits | \"crop\": scaled, the middle taken"),
        Fit::Stretch => ("stretch", "scaled each way by itself"),
        Fit::Center => ("center", "not scaled, in the middle; larger pictures are left out"),
        Fit::Exact => ("exact", "a picture of another size is left out"),
    };
    line(out, &format!("fit = \"{fit}\""), why);
    let (filter, why) = match plan.filter {
        Filter::Triangle => ("triangle", "smooth | \"nearest\": enlarged pixel art"),
        Filter::Lanczos => ("lanczos", "sharp"),
        Filter::Nearest => ("nearest", "enlarged pixel art becomes its own pixels again"),
    };
    line(out, &format!("filter = \"{filter}\""), why);
    if plan.classes {
        let count = survey.classes.len();
        let why = format!("the {count} folders in it are classes, to be drawn on demand");
        line(out, "classes = true", &why);
    } else {
        line(out, "# classes = true", "where the folders in it are kinds of things");
    }
    let why = "mirrored, every other one; not for letters, or what faces one way";
    line(out, &format!("flip = {}", plan.flip), why);
    line(
        out,
        &format!("shift = {}", plan.shift),
        "moved by up to so many pixels; the edges are repeated",
    );
    let changes = match plan.color {
        Pixels::Gray => "# jitter = { brightness = 0.1, contrast = 0.1 }",
        _ => "# jitter = { brightness = 0.1, contrast = 0.1, saturation = 0.1, hue = 0.02 }",
    };
    out.push_str(
        "#   Colours changed by up to so much, so that few pictures are not learned by heart:\n",
    );
    out.push_str(changes);
    out.push('\n');
    line(out, "# flip_vertical = true", "upside down, every other one: textures");
    if plan.width == plan.height {
        line(out, "# rotate = true", "by quarter turns: textures");
    }
}

/// A setting with its comment at the column where comments stand.
fn line(out: &mut String, setting: &str, comment: &str) {
    let gap = if setting.len() < COLUMN { "" } else { "  " };
    let _ = writeln!(out, "{setting:<COLUMN$}{gap}# {comment}");
}

/// The text behind `key = ` at the start of a line, up to its comment, and where it stands.
fn find<'a>(text: &'a str, key: &str) -> Result<(usize, &'a str)> {
    let key = format!("\n{key} = ");
    let start = text.find(&key).with_context(|| format!("the preset has no{key}"))? + key.len();
    let line = text[start..].lines().next().unwrap_or_default();
    Ok((start, line.split('#').next().unwrap_or_default().trim_end()))
}

fn value(text: &str, key: &str) -> Result<usize> {
    let (_, value) = find(text, key)?;
    value.parse().with_context(|| format!("the preset's {key} is {value}"))
}

/// Changes the value of a key, its comment kept where it stands.
fn set(text: &mut String, key: &str, value: impl ToString) -> Result<()> {
    let (start, old) = find(text, key)?;
    let old_len = old.len();
    let value = value.to_string();
    let spaces =
        text[start + old_len..].len() - text[start + old_len..].trim_start_matches(' ').len();
    let gap = if spaces == 0 { 0 } else { (spaces + old_len).saturating_sub(value.len()).max(1) };
    text.replace_range(start..start + old_len + spaces, &format!("{value}{:gap$}", ""));
    Ok(())
}
