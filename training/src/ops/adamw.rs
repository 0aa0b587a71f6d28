//! A step of AdamW (Loshchilov and Hutter 2019, algorithm 2) and of the running average of the
//! weights, in place and in one pass over the memory of all weights.

use burn::backend::Flex;
use burn::tensor::{DType, Tensor};
use burn_flex::FlexTensor;
use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

/// Values that a thread takes at a time. Sums are taken by such pieces too, so that they do not
/// depend on the number of threads.
const PIECE: usize = 16 * 1024;

/// One weight tensor and what belongs to it; all flat, of one length.
pub struct Slot {
    pub weight: Tensor<1>,
    /// The running average of the weight.
    pub average: Tensor<1>,
    /// Running averages of the gradient and of its square.
    pub moment1: Tensor<1>,
    pub moment2: Tensor<1>,
    pub gradient: Tensor<1>,
    /// Whether the weight decays.
    pub decays: bool,
}

/// The numbers of one step.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// What gradients are multiplied by first.
    pub shorten: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
    /// The learning rate.
    pub rate: f64,
    /// One minus the powers of the betas: how much of a moment is there yet.
    pub unbias1: f64,
    pub unbias2: f64,
    pub weight_decay: f64,
    /// How much of the running average stays.
    pub average_decay: f64,
}

/// The tensor on the CPU, if it is there and is all of its memory.
fn flex(tensor: Tensor<1>) -> Option<FlexTensor> {
    let tensor = tensor.try_into_primitive::<Flex>().ok()?;
    let is_f32 = tensor.dtype() == DType::F32;
    let tensor = is_f32.then(|| tensor.to_contiguous())?;
    (tensor.storage::<f32>().len() == tensor.layout().num_elements()).then_some(tensor)
}

fn is_flex(slot: &Slot) -> bool {
    [&slot.weight, &slot.average, &slot.moment1, &slot.moment2, &slot.gradient]
        .into_iter()
        .all(|tensor| flex(tensor.clone()).is_some())
}

/// The sum of the squares of all values.
pub fn sum_of_squares(tensors: &[Tensor<1>]) -> f64 {
    let flat: Option<Vec<_>> = tensors.iter().map(|tensor| flex(tensor.clone())).collect();
    let Some(flat) = flat else {
        // One value comes back from the device, which waits for it.
        let squares = tensors.iter().map(|tensor| tensor.clone().square().sum()).collect();
        return f64::from(Tensor::cat(squares, 0).sum().into_scalar::<f32>());
    };
    let values = flat.iter().filter_map(|tensor| tensor.as_slice::<f32>());
    let pieces: Vec<&[f32]> = values.flat_map(|values| values.chunks(PIECE)).collect();
    let arch = Arch::new();
    let sums: Vec<f64> =
        pieces.into_par_iter().map(|piece| arch.dispatch(Squares(piece))).collect();
    sums.into_iter().sum()
}

struct Squares<'a>(&'a [f32]);

impl NullaryFnOnce for Squares<'_> {
    type Output = f64;

    #[inline(always)]
    fn call(self) -> f64 {
        let (chunks, rest) = self.0.as_chunks::<16>();
        let mut sums = [0.0; 16];
        for chunk in chunks {
            for i in 0..16 {
                let value = f64::from(chunk[i]);
                sums[i] += value * value;
            }
        }
        sums.iter().sum::<f64>() + rest.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>()
    }
}

/// Takes the step for every slot.
pub fn step(slots: &mut [Slot], rates: &Rates) {
    if !slots.iter().all(is_flex) {
        slots.iter_mut().for_each(|slot| composed(slot, rates));
        return;
    }
    let mut memory: Vec<_> = slots.iter_mut().filter_map(Memory::take).collect();
    let pieces: Vec<Piece> = memory.iter_mut().flat_map(|memory| memory.pieces(rates)).collect();
    let arch = Arch::new();
    pieces.into_par_iter().for_each(|piece| arch.dispatch(piece));
    for (slot, memory) in slots.iter_mut().zip(memory) {
        memory.give_back(slot);
    }
}

/// The tensors of a slot on the CPU.
struct Memory {
    weight: FlexTensor,
    average: FlexTensor,
    moment1: FlexTensor,
    moment2: FlexTensor,
    gradient: FlexTensor,
    decays: bool,
}

impl Memory {
    fn take(slot: &mut Slot) -> Option<Self> {
        // The slot lets go of its tensors: one that nobody else holds changes in place.
        let take = |tensor: &mut Tensor<1>| {
            let empty = Tensor::empty([0], &tensor.device());
            flex(std::mem::replace(tensor, empty))
        };
        Some(Self {
            weight: take(&mut slot.weight)?,
            average: take(&mut slot.average)?,
            moment1: take(&mut slot.moment1)?,
            moment2: take(&mut slot.moment2)?,
            gradient: flex(slot.gradient.clone())?,
            decays: slot.decays,
        })
    }

    fn pieces<'a>(&'a mut self, rates: &'a Rates) -> impl Iterator<Item = Piece<'a>> {
        let keep = if self.decays { 1.0 - rates.rate * rates.weight_decay } else { 1.0 };
        let gradient = self.gradient.as_slice::<f32>().unwrap_or(&[]);
        let pieces = self.weight.storage_mut::<f32>().chunks_mut(PIECE);
        pieces
            .zip(self.average.storage_mut::<f32>().chunks_mut(PIECE))
            .zip(self.moment1.storage_mut::<f32>().chunks_mut(PIECE))
            .zip(self.moment2.storage_mut::<f32>().chunks_mut(PIECE))
            .zip(gradient.chunks(PIECE))
            .map(move |((((weight, average), moment1), moment2), gradient)| Piece {
                weight,
                average,
                moment1,
                moment2,
                gradient,
                keep: keep as f32,
                rates,
            })
    }

    fn give_back(self, slot: &mut Slot) {
        slot.weight = Tensor::from_primitive::<Flex>(self.weight);
        slot.average = Tensor::from_primitive::<Flex>(self.average);
        slot.moment1 = Tensor::from_primitive::<Flex>(self.moment1);
        slot.moment2 = Tensor::from_primitive::<Flex>(self.moment2);
    }
}

struct Piece<'a> {
    weight: &'a mut [f32],
    average: &'a mut [f32],
    moment1: &'a mut [f32],
    moment2: &'a mut [f32],
    gradient: &'a [f32],
    keep: f32,
    rates: &'a Rates,
}

impl NullaryFnOnce for Piece<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { weight, average, moment1, moment2, gradient, keep, rates: r } = self;
        let shorten = r.shorten as f32;
        let (beta1, rest1) = (r.beta1 as f32, (1.0 - r.beta1) as f32);
        let (beta2, rest2) = (r.beta2 as f32, (1.0 - r.beta2) as f32);
        let (rate, unbias2) = ((r.rate / r.unbias1) as f32, (1.0 / r.unbias2) as f32);
        let (decay, rest) = (r.average_decay as f32, (1.0 - r.average_decay) as f32);
        let epsilon = r.epsilon as f32;
        let len = weight.len();
        let (average, gradient) = (&mut average[..len], &gradient[..len]);
        let (moment1, moment2) = (&mut moment1[..len], &mut moment2[..len]);
        for i in 0..len {
            let g = gradient[i] * shorten;
            let m = moment1[i] * beta1 + g * rest1;
            let v = moment2[i] * beta2 + g * g * rest2;
            let w = weight[i] * keep - m * rate / ((v * unbias2).sqrt() + epsilon);
            (moment1[i], moment2[i], weight[i]) = (m, v, w);
            average[i] = average[i] * decay + w * rest;
        }
    }
}

/// The step with burn's own operations: for other backends.
fn composed(slot: &mut Slot, r: &Rates) {
    let grad = slot.gradient.clone() * r.shorten;
    let keep = if slot.decays { 1.0 - r.rate * r.weight_decay } else { 1.0 };
    let m = slot.moment1.clone() * r.beta1 + grad.clone() * (1.0 - r.beta1);
    let v = slot.moment2.clone() * r.beta2 + grad.square() * (1.0 - r.beta2);
    let update =
        m.clone() * (r.rate / r.unbias1) / ((v.clone() * (1.0 / r.unbias2)).sqrt() + r.epsilon);
    slot.weight = slot.weight.clone() * keep - update;
    slot.average =
        slot.average.clone() * r.average_decay + slot.weight.clone() * (1.0 - r.average_decay);
    (slot.moment1, slot.moment2) = (m, v);
}
