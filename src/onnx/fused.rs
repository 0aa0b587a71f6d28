//! The tensors that fused steps work on: what a sample keeps stays in one of two buffers where the model
//! runs, and goes from the one to the other with each step.
//!
//! See `fuse` for what the graph takes and gives. Only what is small goes to the device with every step:
//! timesteps, coefficients, and the noise of rows that draw some; only whether all is finite comes back, and
//! the pictures where they are wanted.

use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{IoBinding, RunOptions, Session};
use ort::value::Tensor;

use crate::error::{Error, ErrorKind, Result};
use crate::model::{FusedAsk, ModelConfig};
use crate::step::{MATRIX_COLUMNS, MATRIX_ROWS, STATE_PARTS, TERMS};

use super::binding::{Conditions, ImageTensor};
use super::fuse::{
    FINITE_OUTPUT, FINITE_SAMPLE, MATRIX, NEXT_SAMPLE, NEXT_STATE, NOISE, SHOWN, STATE, TERM,
};
use super::roles::Roles;

/// What a graph with a fused step takes beside the model's inputs, in the memory of the host.
#[derive(Debug)]
pub(super) struct Extra {
    state: Tensor<f32>,
    noise: Tensor<f32>,
    terms: Tensor<f64>,
    matrix: Tensor<f64>,
}

impl Extra {
    /// All 0, for `batch` samples of `item` values.
    pub(super) fn zeros(batch: usize, item: usize) -> ort::Result<Self> {
        Self::new(batch, item, &Allocator::default())
    }

    fn new(batch: usize, item: usize, host: &Allocator) -> ort::Result<Self> {
        let mut extra = Self {
            state: Tensor::new(host, [batch, STATE_PARTS, item])?,
            noise: Tensor::new(host, [batch, 1, item])?,
            terms: Tensor::new(host, [batch, TERMS, 1])?,
            matrix: Tensor::new(host, [batch, MATRIX_ROWS, MATRIX_COLUMNS])?,
        };
        extra.state.extract_tensor_mut().1.fill(0.0);
        extra.noise.extract_tensor_mut().1.fill(0.0);
        extra.terms.extract_tensor_mut().1.fill(0.0);
        extra.matrix.extract_tensor_mut().1.fill(0.0);
        Ok(extra)
    }

    pub(super) fn bind(&self, binding: &mut IoBinding) -> ort::Result<()> {
        binding.bind_input(STATE, &self.state)?;
        binding.bind_input(NOISE, &self.noise)?;
        self.bind_small(binding)
    }

    fn bind_small(&self, binding: &mut IoBinding) -> ort::Result<()> {
        binding.bind_input(TERM, &self.terms)?;
        binding.bind_input(MATRIX, &self.matrix)
    }
}

/// Where the model runs, and where that can be written to from here.
struct Memories {
    device: Allocator,
    host: Allocator,
}

impl Memories {
    fn of(session: &Session, device: Option<i32>) -> ort::Result<Self> {
        let Some(id) = device else {
            return Ok(Self { device: Allocator::default(), host: Allocator::default() });
        };
        let memory = |place, kind| MemoryInfo::new(place, id, AllocatorType::Device, kind);
        let device = memory(AllocationDevice::CUDA, MemoryType::Default)?;
        let pinned = memory(AllocationDevice::CUDA_PINNED, MemoryType::CPUOutput)?;
        let pinned = Allocator::new(session, pinned)?;
        // Some version may not say that it can be read here, and then it could not.
        let host =
            if pinned.memory_info().is_cpu_accessible() { pinned } else { Allocator::default() };
        Ok(Self { device: Allocator::new(session, device)?, host })
    }
}

/// The places of one model.
pub(super) struct Places {
    places: Vec<Option<Place>>,
    /// The CUDA device that the model runs on; none where it is the CPU.
    device: Option<i32>,
}

/// One batch of samples.
pub(super) struct Place {
    batch: usize,
    item: usize,
    binding: IoBinding,
    /// By which a state gets there.
    extra: Extra,
    sample: ImageTensor,
    conditions: Conditions,
    states: [Tensor<f32>; 2],
    samples: [ImageTensor; 2],
    /// The buffer that holds their state; none before the first step.
    front: Option<usize>,
    /// The step that runs takes what was given, and not what is held.
    is_given: bool,
    noise_is_bound: bool,
    shown: Tensor<f32>,
    unseen: Tensor<f32>,
    finite_output: Tensor<f64>,
    finite_sample: Tensor<f32>,
}

impl Places {
    pub(super) fn on(device: Option<i32>) -> Self {
        Self { places: Vec::new(), device }
    }

    /// The place with this number, for so many samples.
    ///
    /// Errors: `OutOfMemory` where the device has no room for it.
    pub(super) fn get(
        &mut self,
        place: usize,
        batch: usize,
        session: &Session,
        roles: &Roles,
        model: &ModelConfig,
    ) -> Result<&mut Place> {
        if self.places.len() <= place {
            self.places.resize_with(place + 1, || None);
        }
        let slot = &mut self.places[place];
        if slot.as_ref().is_some_and(|place| place.batch != batch) {
            *slot = None;
        }
        let made = match slot.take() {
            Some(place) => place,
            None => Memories::of(session, self.device)
                .and_then(|memories| Place::new(&memories, batch, session, roles, model))
                .map_err(|error| Error::new(ErrorKind::OutOfMemory, text(&error)))?,
        };
        Ok(slot.insert(made))
    }

    /// See `FusedSteps::fetch`.
    pub(super) fn fetch(&mut self, place: usize, state: &mut [f32]) -> Result<()> {
        let refuse = |message: String| Err(Error::invalid_argument(message));
        let Some(Some(place)) = self.places.get_mut(place) else {
            return refuse(format!("fused step: found no place {place}, expected one"));
        };
        let Some(front) = place.front else {
            return refuse("fused step: found a place that holds nothing, expected a state".into());
        };
        let expected = place.batch * STATE_PARTS * place.item;
        if state.len() != expected {
            let found = state.len();
            return refuse(format!("state: found {found} values, expected {expected}"));
        }
        if self.device.is_none() {
            state.copy_from_slice(place.states[front].extract_tensor().1);
            return Ok(());
        }
        // Seldom, so that it need not be by way of pinned memory.
        let copied = place.states[front].to(AllocationDevice::CPU, 0);
        let copied = copied.map_err(|error| Error::new(ErrorKind::Inference, text(&error)))?;
        state.copy_from_slice(copied.extract_tensor().1);
        Ok(())
    }
}

impl Place {
    fn new(
        memories: &Memories,
        batch: usize,
        session: &Session,
        roles: &Roles,
        model: &ModelConfig,
    ) -> ort::Result<Self> {
        let ModelConfig { channels, height, width, .. } = *model;
        let (dims, item) = ([batch, channels, height, width], channels * height * width);
        let Memories { device, host } = memories;
        let state = || Tensor::new(device, [batch, STATE_PARTS, item]);
        let sample = |memory| ImageTensor::new(&roles.sample, dims, memory);
        let mut place = Self {
            batch,
            item,
            binding: session.create_binding()?,
            extra: Extra::new(batch, item, host)?,
            sample: sample(host)?,
            conditions: Conditions::new(roles, batch)?,
            states: [state()?, state()?],
            samples: [sample(device)?, sample(device)?],
            front: None,
            is_given: false,
            noise_is_bound: false,
            shown: Tensor::new(host, [batch, 1, item])?,
            unseen: Tensor::new(device, [batch, 1, item])?,
            finite_output: Tensor::new(host, [batch])?,
            finite_sample: Tensor::new(host, [batch])?,
        };
        place.binding.bind_output(FINITE_OUTPUT, &mut place.finite_output)?;
        place.binding.bind_output(FINITE_SAMPLE, &mut place.finite_sample)?;
        Ok(place)
    }

    /// Writes what the next run is given.
    pub(super) fn feed(&mut self, roles: &Roles, ask: &FusedAsk<'_>) -> Result<()> {
        let (batch, item) = (self.batch, self.item);
        let lengths = [
            ("timesteps", Some(ask.timesteps.len()), batch),
            ("state", ask.state.map(<[f32]>::len), batch * STATE_PARTS * item),
            ("noise", ask.noise.map(<[f32]>::len), batch * item),
            ("shown", ask.shown.as_ref().map(|shown| shown.len()), batch * item),
        ];
        for (what, found, expected) in lengths {
            if let Some(found) = found
                && found != expected
            {
                return Err(Error::invalid_argument(format!(
                    "fused step: {what}: found {found} values, expected {expected}"
                )));
            }
        }
        if ask.state.is_none() && self.front.is_none() {
            return Err(Error::invalid_argument(
                "fused step: found no state, expected one for a place that holds none",
            ));
        }
        self.conditions.write(roles, ask.timesteps, ask.labels)?;
        let terms = self.extra.terms.extract_tensor_mut().1.chunks_mut(TERMS);
        for (to, row) in terms.zip(ask.rows) {
            to.copy_from_slice(&row.terms);
        }
        let matrices = self.extra.matrix.extract_tensor_mut().1.chunks_mut(MATRIX_COLUMNS);
        for (to, row) in matrices.zip(ask.rows.iter().flat_map(|row| &row.matrix)) {
            to.copy_from_slice(row);
        }
        if let Some(noise) = ask.noise {
            self.extra.noise.extract_tensor_mut().1.copy_from_slice(noise);
        }
        self.is_given = ask.state.is_some();
        if let Some(state) = ask.state {
            self.extra.state.extract_tensor_mut().1.copy_from_slice(state);
            let parts = state.chunks(STATE_PARTS * item).flat_map(|state| &state[..item]);
            self.sample.write_all(parts.copied());
        }
        Ok(())
    }

    /// Makes the step in the other buffer.
    pub(super) fn run(
        &mut self,
        session: &mut Session,
        options: &RunOptions,
        roles: &Roles,
        ask: &FusedAsk<'_>,
    ) -> Result<()> {
        let fault = |error: ort::Error| Error::new(ErrorKind::Inference, text(&error));
        self.bind(roles, ask).map_err(fault)?;
        session.run_binding_with_options(&self.binding, options).map(drop).map_err(fault)
    }

    fn bind(&mut self, roles: &Roles, ask: &FusedAsk<'_>) -> ort::Result<()> {
        let back = self.back();
        let binding = &mut self.binding;
        self.conditions.bind(binding, roles)?;
        self.extra.bind_small(binding)?;
        // What was bound is still there, and times 0.
        if ask.noise.is_some() || !self.noise_is_bound {
            binding.bind_input(NOISE, &self.extra.noise)?;
            self.noise_is_bound = true;
        }
        let (state, sample) = match self.front {
            Some(front) if !self.is_given => (&self.states[front], &self.samples[front]),
            _ => (&self.extra.state, &self.sample),
        };
        binding.bind_input(STATE, state)?;
        sample.bind_input(binding, &roles.sample.name)?;
        binding.bind_output(NEXT_STATE, &mut self.states[back])?;
        self.samples[back].bind_output(binding, NEXT_SAMPLE)?;
        let shown = if ask.shown.is_some() { &mut self.shown } else { &mut self.unseen };
        binding.bind_output(SHOWN, shown)
    }

    /// After a run: makes the step count, if all is finite, and copies the pictures out.
    pub(super) fn finish(&mut self, shown: Option<&mut [f32]>) -> bool {
        let is_finite = self.finite_output.extract_tensor().1.iter().all(|&sum| sum == 0.0)
            && self.finite_sample.extract_tensor().1.iter().all(|&sum| sum == 0.0);
        if is_finite {
            self.front = Some(self.back());
            if let Some(to) = shown {
                to.copy_from_slice(self.shown.extract_tensor().1);
            }
        }
        is_finite
    }

    /// The buffer that the next step is made in.
    fn back(&self) -> usize {
        self.front.map_or(0, |front| 1 - front)
    }
}

fn text(error: &ort::Error) -> String {
    format!("fused step: {}", error.message().trim_end())
}
