//! `ddpm samplers`: what there is to choose from.

use std::fmt::Write as _;

use clap::Args;
use ddpm::error::Result;
use ddpm::sampler::Sampler;
use serde_json::json;

use crate::print;
use crate::sampler_options::{COMMON, options_of};

#[derive(Args)]
pub struct Samplers {
    /// Prints one JSON document
    #[arg(long)]
    json: bool,
}

impl Samplers {
    pub fn execute(self) -> Result<()> {
        if self.json {
            let all = Sampler::ALL.map(|sampler| {
                json!({
                    "name": sampler.name(),
                    "names": sampler.names().collect::<Vec<_>>(),
                    "summary": sampler.summary(),
                    "is_inverse": sampler.is_inverse(),
                    "options": options_of(sampler),
                })
            });
            return print(&json!({ "samplers": all, "common_options": COMMON }).to_string());
        }
        let mut text = String::new();
        for sampler in Sampler::ALL {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{:16} {}", sampler.name(), sampler.summary());
            let others: Vec<&str> = sampler.names().skip(1).collect();
            if !others.is_empty() {
                let _ = writeln!(text, "{:16} also {}", "", others.join(", "));
            }
            let options = options_of(sampler);
            if !options.is_empty() {
                let _ = writeln!(text, "{:16} {}", "", options.join(" "));
            }
        }
        let _ = write!(text, "\nEach of them takes {}", COMMON.join(" "));
        print(&text)
    }
}
