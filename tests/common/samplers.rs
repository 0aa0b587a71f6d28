//! Every sampler with its orders and solver types, as the tests go through them.

use ddpm::sampler::{Sampler, SamplerConfig, SolverType, Thresholding};

/// A sampler in one of its forms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Form {
    pub kind: Sampler,
    pub order: Option<u32>,
    pub solver_type: Option<SolverType>,
    pub eta: Option<f64>,
}

impl Form {
    pub const fn new(kind: Sampler) -> Self {
        Self { kind, order: None, solver_type: None, eta: None }
    }

    pub const fn with_order(self, order: u32) -> Self {
        Self { order: Some(order), ..self }
    }

    pub const fn with_solver(self, solver_type: SolverType) -> Self {
        Self { solver_type: Some(solver_type), ..self }
    }

    pub const fn with_eta(self, eta: f64) -> Self {
        Self { eta: Some(eta), ..self }
    }

    /// Unclipped, everything else as it is by default.
    pub fn config(self) -> SamplerConfig {
        SamplerConfig {
            kind: self.kind,
            order: self.order,
            solver_type: self.solver_type,
            eta: self.eta,
            thresholding: Thresholding::Off,
            ..SamplerConfig::default()
        }
    }

    /// Whether it draws noise.
    pub fn is_random(self) -> bool {
        let Self { kind, eta, .. } = self;
        match kind {
            Sampler::Ddpm | Sampler::DpmppSde | Sampler::EulerAncestral | Sampler::Lcm => true,
            _ => eta.is_some_and(|eta| eta > 0.0),
        }
    }

    /// As `ddim eta 1` or `unipc-3 bh1`.
    pub fn name(self) -> String {
        let mut name = self.kind.name().to_owned();
        if let Some(order) = self.order {
            name += &format!("-{order}");
        }
        if let Some(solver_type) = self.solver_type {
            name += &format!(" {}", solver_type.name());
        }
        if let Some(eta) = self.eta {
            name += &format!(" eta {eta}");
        }
        name
    }
}

/// Everything there is: every sampler with each of its orders and solver types, and eta at its ends
/// and between.
pub fn all_forms() -> Vec<Form> {
    let mut forms = Vec::new();
    for kind in Sampler::ALL {
        let plain = Form::new(kind);
        let is_valid = |form: &Form| form.config().validate().is_ok();
        let or_plain = |forms: Vec<Form>| if forms.is_empty() { vec![plain] } else { forms };
        let orders = (1..=3).map(|order| plain.with_order(order)).filter(is_valid).collect();
        for form in or_plain(orders) {
            let solvers = SolverType::ALL.iter().map(|&solver| form.with_solver(solver));
            let solvers: Vec<Form> = solvers.filter(is_valid).collect();
            forms.extend(if solvers.is_empty() { vec![form] } else { solvers });
        }
        let etas = [0.0, 0.5, 1.0].map(|eta| plain.with_eta(eta));
        // 0 is taken by samplers that have no eta, too.
        if is_valid(&etas[2]) {
            forms.pop();
            forms.extend(etas);
        }
    }
    forms
}
