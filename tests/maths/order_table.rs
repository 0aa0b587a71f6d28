//! `orders.md`, the table of what is measured, is what is measured.

use super::laws::{Law, Mixture};
use super::ode_orders::{self, CLAIMS, Claim, GAUSSIAN, STEPS, orders};
use super::sde_orders;

/// The error at 8, 16, 32 and 64 steps.
fn cells(errors: &[f64]) -> String {
    let cell = |error: &f64| format!("{error:.1e}");
    errors[..4].iter().map(cell).collect::<Vec<_>>().join(" ")
}

fn order(errors: &[f64]) -> String {
    format!("{:.1}", orders(errors).last().unwrap())
}

fn table() -> String {
    assert_eq!(STEPS[..4], [8, 16, 32, 64]);
    let mut text = String::from(
        "| sampler | paper's order | order, Gaussian | order, mixture \
         | error, Gaussian: 8 16 32 64 steps | error, mixture: 8 16 32 64 steps |\n\
         | --- | --- | --- | --- | --- | --- |\n",
    );
    for Claim { form, papers, .. } in &CLAIMS {
        let [gaussian, mixture] =
            [&GAUSSIAN as &dyn Law, &Mixture::TWO].map(|law| ode_orders::errors(*form, law));
        text += &format!(
            "| {} | {papers} | {} | {} | {} | {} |\n",
            form.name(),
            order(&gaussian),
            order(&mixture),
            cells(&gaussian),
            cells(&mixture)
        );
    }
    for (name, config) in sde_orders::configs() {
        let errors = sde_orders::errors(&config, GAUSSIAN);
        text += &format!(
            "| {name} (moments) | {} | {} | | {} | |\n",
            sde_orders::papers(&config),
            order(&errors),
            cells(&errors)
        );
    }
    text
}

#[test]
fn table_of_orders_is_what_is_measured() {
    let committed = include_str!("orders.md");
    let measured = table();
    let lines = |text: &str| -> Vec<String> {
        text.lines().filter(|line| line.starts_with('|')).map(str::to_owned).collect()
    };
    assert_eq!(lines(committed), lines(&measured), "the table measured is\n{measured}");
}
