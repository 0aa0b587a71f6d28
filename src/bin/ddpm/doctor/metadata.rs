//! What is said of the model against what its graph is, as far as a load passes it over or only warns.

use ddpm::log::LogLevel;

use super::inputs::one_line;
use super::probe::Probe;
use super::report::Report;

/// The defaults that a load said it takes.
pub fn defaults(said: &[(LogLevel, String)]) -> impl Iterator<Item = &str> {
    let texts = said.iter().filter(|(level, _)| *level == LogLevel::Info);
    texts.map(|(_, text)| text.as_str()).filter(|text| text.contains("taking "))
}

/// `said` is what the library said while it loaded the model, which it calls `name`.
pub fn check(probe: &Probe, (name, said): (&str, &[(LogLevel, String)]), report: &mut Report) {
    let model = probe.model();
    let name = format!("{name}: ");
    let own = |text: &str| one_line(text.strip_prefix(&name).unwrap_or(text));
    for (level, text) in said {
        // What the CPU is used for is said of the runtime.
        if matches!(level, LogLevel::Warning | LogLevel::Error)
            && !text.starts_with("using the CPU: ")
        {
            report.warning("metadata", own(text), "make the export say what is meant");
        }
    }
    if model.gives_variance && !model.sampler.variance_type.is_learned() {
        report.note(
            "metadata",
            format!("the output has {} channels, and half of them, a variance, is not used as variance_type is {}", model.output_channels(), model.sampler.variance_type.name()),
            "say learned or learned_range if it was trained so",
        );
    }
    let taken: Vec<String> = defaults(said)
        .map(|text| {
            let text = own(text);
            let short = text.strip_prefix("no ddpm.").and_then(|text| text.split_once(", taking "));
            short.map_or(text.clone(), |(key, value)| format!("{key} {value}"))
        })
        .collect();
    if !taken.is_empty() {
        report.note(
            "metadata",
            format!("not said, so taken by default: {}", taken.join(", ")),
            "have the export say it, or lay a scheduler_config.json beside; --images checks the most of it",
        );
    }
}
