//! `ddpm-train new`: looks at a folder of pictures and writes a configuration to train on it.

mod file;
mod look;
mod plan;
mod relative;

use std::path::Path;

use anyhow::{Context, Result};

use crate::config::Config;
use crate::console;
use crate::output;
use look::Survey;
use plan::Plan;

/// Writes a configuration for the pictures in `folder` to `path`, where nothing may be yet. Returns
/// what was found, what was chosen, and what comes next, in lines of text.
pub fn new(folder: &Path, path: &Path) -> Result<String> {
    let shown = path.display();
    let data_folder = relative::from_file(path, folder)?;
    output::check_new(path, "toml")?;
    let survey = Survey::of(folder).with_context(|| format!("{}", folder.display()))?;
    let plan = Plan::of(&survey);
    let name = relative::name(folder)?;
    let text = file::text(&survey, &plan, &data_folder, &name, path)?;
    // What is written is what can be read.
    let config: Config = toml::from_str(&text).context("the new configuration")?;
    config.validate().context("the new configuration")?;
    output::write_atomically(path, text.as_bytes())?;

    let mut lines = vec![format!("{}: {}", folder.display(), survey.summary())];
    lines.extend(survey.classes_summary());
    lines.extend(plan.remarks.iter().cloned());
    lines.push(format!(
        "wrote {shown}: a model of {}x{} {}, {} steps; look through it, then:",
        plan.width,
        plan.height,
        plan.color_name(),
        config.train.steps
    ));
    lines.push(format!("  ddpm-train fit --config {}", console::quoted(path)));
    Ok(lines.join("\n"))
}
