//! Many streams' steps in one call of the model: continuous batching.
//!
//! What waits when the worker is free runs together; each stream keeps its own timestep, sampler, seed
//! and class. This module must not know the queue.

use std::ops::Range;
use std::sync::Arc;

use ndarray::{ArrayView4, ArrayViewMut4};

use crate::error::{Error, ErrorKind, Result};
use crate::model::{Batching, Denoiser, ModelConfig, Stopper};

use super::calls::Calls;
use super::contained;
use super::lots::Lots;
use super::request::Request;
use super::stream_core::StreamCore;
use super::sync::{AtomicU64, Ordering};

/// What a call of the model is watched by.
pub(super) struct Watch<'a> {
    /// Who still wants it.
    pub(super) calls: &'a Calls,
    /// What breaks it off.
    pub(super) stopper: &'a dyn Stopper,
    /// The error of a worker that closes; none where it does not.
    pub(super) closing: &'a dyn Fn() -> Option<Error>,
}

impl Watch<'_> {
    /// Makes a call for these requests that is broken off when no stream wants it any more, and is not made
    /// where none does. Whether it was made.
    pub(super) fn over(
        &self,
        members: &[&Request],
        mut call: impl FnMut() -> Result<()>,
    ) -> Result<bool> {
        loop {
            let number = self.calls.begin(members.len());
            members.iter().for_each(|request| request.join(self.calls, number));
            // Asked for after all have joined: one that did may have left while others joined.
            let outcome = self.calls.is_wanted().then(&mut call);
            self.calls.end();
            match outcome {
                Some(Ok(())) => return Ok(true),
                Some(Err(error)) => match (self.closing)() {
                    // The interrupt of a close shows up as a failure of the model; it is none.
                    Some(closed) => return Err(closed),
                    None if !self.stopper.was_broken_off() => return Err(error),
                    None => {}
                },
                None => {}
            }
            // What ended it may have been meant for a call before this one, and a moment late: once more.
            if !members.iter().any(|request| request.is_wanted()) {
                return Ok(false);
            }
        }
    }
}

/// The buffers of the model's calls, and how many samples one call may have.
pub(super) struct Batch {
    limit: usize,
    shape: [usize; 3],
    output_channels: usize,
    takes_labels: bool,
    rules: Batching,
    queries: Vec<Query>,
    sample: Vec<f32>,
    timesteps: Vec<f64>,
    labels: Vec<i64>,
    output: Vec<f32>,
    /// The samples of one call where the model takes a fixed number, filled up.
    padded: Padded,
    /// Samples that lie where the model runs.
    lots: Lots,
    /// How often a sample, or all that is kept of one, has gone to the model or come from there.
    copies: Arc<AtomicU64>,
}

#[derive(Default)]
struct Padded {
    sample: Vec<f32>,
    timesteps: Vec<f64>,
    labels: Vec<i64>,
    output: Vec<f32>,
}

/// One sample that the model is asked about.
struct Query {
    /// The request it belongs to.
    request: usize,
    answered: Result<()>,
}

impl Batch {
    /// Allocates nothing yet. `copies` is counted on.
    pub(super) fn new(denoiser: &dyn Denoiser, limit: usize, copies: &Arc<AtomicU64>) -> Self {
        let ModelConfig { channels, height, width, .. } = *denoiser.config();
        Self {
            limit: limit.max(1),
            shape: [channels, height, width],
            output_channels: denoiser.config().output_channels(),
            takes_labels: denoiser.config().classes.is_some(),
            rules: denoiser.batching(),
            queries: Vec::new(),
            sample: Vec::new(),
            timesteps: Vec::new(),
            labels: Vec::new(),
            output: Vec::new(),
            padded: Padded::default(),
            lots: Lots::new(denoiser.config(), copies),
            copies: Arc::clone(copies),
        }
    }

    /// The sizes worth a first call before they are needed, smallest first; 1 has had its own.
    pub(super) fn sizes_to_warm(&self) -> Vec<usize> {
        match self.rules.fixed {
            Some(_) => Vec::new(),
            None => {
                (1..).map(|power| 1usize << power).take_while(|&size| size <= self.limit).collect()
            }
        }
    }

    /// Keeps calls below `size` from now on: the model does not take so many.
    pub(super) fn stay_below(&mut self, size: usize) {
        self.limit = self.limit.min((size / 2).max(1));
    }

    /// Takes out of the requests those that go into the next run: the ones of the highest rank, and with
    /// one timestep for all samples only those of the first one's.
    pub(super) fn choose(&self, requests: &mut Vec<Request>) -> Vec<Request> {
        // Stable: those of one rank keep their turns.
        requests.sort_by_key(Request::rank);
        let first = requests.first().and_then(Request::timestep);
        let goes_along =
            |request: &Request| !self.rules.shared_timestep || request.timestep() == first;
        let mut chosen = Vec::new();
        let mut index = 0;
        while index < requests.len() && chosen.len() < self.limit {
            if goes_along(&requests[index]) {
                chosen.push(requests.remove(index));
            } else {
                index += 1;
            }
        }
        chosen
    }

    /// Makes the steps. Every request is settled, with its step made or with its own error, or is on to
    /// what its stream wants next.
    ///
    /// Errors: the panic of a call of the model or of a step, after which the model must not be called
    /// again.
    pub(super) fn serve(
        &mut self,
        requests: &mut [Request],
        denoiser: &mut dyn Denoiser,
        watch: &Watch<'_>,
    ) -> Result<()> {
        let done = contained("a step", || {
            self.serve_all(requests, denoiser, watch);
            Ok(())
        });
        if let Err(panic) = &done {
            requests.iter_mut().for_each(|request| request.fail(panic.clone()));
        }
        done
    }

    fn serve_all(
        &mut self,
        requests: &mut [Request],
        denoiser: &mut dyn Denoiser,
        watch: &Watch<'_>,
    ) {
        let mut requests = requests;
        if let Some(fused) = denoiser.fused() {
            let made = self.lots.serve(requests, fused, (self.rules, self.limit), watch);
            requests = &mut requests[made..];
        }
        self.collect(requests);
        let mut start = 0;
        while start < self.queries.len() {
            let end = start + self.call_length(start);
            match self.watched_call(start..end, requests, denoiser, watch) {
                // One bad sample must not take the others with it.
                Err(_) if end - start > 1 && (watch.closing)().is_none() => {
                    self.call_each(start..end, requests, denoiser, watch);
                }
                outcome => {
                    for query in &mut self.queries[start..end] {
                        query.answered = outcome.clone();
                    }
                }
            }
            self.hand_out(requests, start, end);
            start = end;
        }
    }

    /// Asks every request what it wants to know, in the order they came.
    fn collect(&mut self, requests: &mut [Request]) {
        let item = self.shape.iter().product::<usize>();
        let output_item = self.output_channels * self.shape[1] * self.shape[2];
        self.queries.clear();
        self.sample.clear();
        self.timesteps.clear();
        self.labels.clear();
        for (index, request) in requests.iter_mut().enumerate() {
            let before = self.queries.len();
            let prepared = request.prepare().and_then(|asks| {
                reserve(&mut self.sample, (before + asks) * item)?;
                reserve(&mut self.output, (before + asks) * output_item)?;
                Ok(asks)
            });
            let asks = prepared.unwrap_or_else(|error| {
                request.fail(error);
                0
            });
            let total = before + asks;
            self.sample.resize(total * item, 0.0);
            self.timesteps.resize(total, 0.0);
            self.labels.resize(if self.takes_labels { total } else { 0 }, 0);
            let labels = before.min(self.labels.len());
            if asks == 0 {
                continue;
            }
            let asked = request.ask(
                &mut self.sample[before * item..],
                &mut self.timesteps[before..],
                &mut self.labels[labels..],
            );
            match asked {
                Ok(()) => {
                    let query = |_| Query { request: index, answered: Ok(()) };
                    self.queries.extend((before..total).map(query));
                }
                Err(error) => request.fail(error),
            }
        }
        self.sample.truncate(self.queries.len() * item);
        self.timesteps.truncate(self.queries.len());
        self.labels.truncate(self.queries.len());
        self.output.resize(self.queries.len() * output_item, 0.0);
    }

    /// How many queries from `start` on go into one call: what the model allows, and else the
    /// greatest power of two there are, so that few sizes occur and nothing is computed in vain.
    fn call_length(&self, start: usize) -> usize {
        let Batching { fixed, shared_timestep, shared_label } = self.rules;
        let goes_along = |&index: &usize| {
            (!shared_timestep || self.timesteps[index] == self.timesteps[start])
                && (!shared_label || self.labels.get(index) == self.labels.get(start))
        };
        let alike = (start..self.queries.len()).take_while(goes_along).count();
        match fixed {
            Some(fixed) => alike.min(fixed),
            None => {
                let most = alike.min(self.limit);
                1 << most.ilog2()
            }
        }
    }

    /// One call of the model for these queries; the answers go to their places.
    fn call(&mut self, range: Range<usize>, denoiser: &mut dyn Denoiser) -> Result<()> {
        let [channels, height, width] = self.shape;
        let item = channels * height * width;
        let output_item = self.output_channels * height * width;
        let labels = if self.takes_labels { range.clone() } else { 0..0 };
        let sample = &self.sample[range.start * item..range.end * item];
        let timesteps = &self.timesteps[range.clone()];
        let labels = &self.labels[labels];
        let output = &mut self.output[range.start * output_item..range.end * output_item];
        let size = self.rules.fixed.unwrap_or(range.len());
        self.copies.fetch_add(2 * range.len() as u64, Ordering::Relaxed);
        let predict = |denoiser: &mut dyn Denoiser,
                       sample: &[f32],
                       timesteps: &[f64],
                       labels: &[i64],
                       output: &mut [f32]| {
            let sample = ArrayView4::from_shape([size, channels, height, width], sample);
            let output =
                ArrayViewMut4::from_shape([size, self.output_channels, height, width], output);
            let (Ok(sample), Ok(output)) = (sample, output) else {
                return Err(Error::new(ErrorKind::Internal, "batch: its buffers do not fit"));
            };
            denoiser.predict(sample, timesteps, labels, output)
        };
        if size == range.len() {
            return predict(denoiser, sample, timesteps, labels, output);
        }
        let Padded { sample: all, timesteps: times, labels: classes, output: answers } =
            &mut self.padded;
        reserve(all, size * item)?;
        reserve(answers, size * output_item)?;
        fill_up(all, sample, size * item, item);
        fill_up(times, timesteps, size, 1);
        fill_up(classes, labels, size, 1);
        answers.resize(size * output_item, 0.0);
        predict(denoiser, all, times, classes, answers)?;
        output.copy_from_slice(&answers[..output.len()]);
        Ok(())
    }

    fn watched_call(
        &mut self,
        range: Range<usize>,
        requests: &[Request],
        denoiser: &mut dyn Denoiser,
        watch: &Watch<'_>,
    ) -> Result<()> {
        let mut members: Vec<usize> =
            self.queries[range.clone()].iter().map(|query| query.request).collect();
        // Those of one request stand side by side.
        members.dedup();
        let members: Vec<&Request> = members.into_iter().map(|index| &requests[index]).collect();
        watch.over(&members, || self.call(range.clone(), denoiser)).map(|_| ())
    }

    /// Brings home the samples of a stream, or of all where none is given.
    pub(super) fn bring_home(&mut self, core: Option<&StreamCore>, denoiser: &mut dyn Denoiser) {
        if let Some(fused) = denoiser.fused() {
            self.lots.bring_home(core, fused);
        }
    }

    /// A call for each of these queries, after one for all of them failed.
    fn call_each(
        &mut self,
        range: Range<usize>,
        requests: &[Request],
        denoiser: &mut dyn Denoiser,
        watch: &Watch<'_>,
    ) {
        for query in range.clone() {
            let alone = self.watched_call(query..query + 1, requests, denoiser, watch);
            self.queries[query].answered = alone;
        }
        let is_well = |query: &Query| query.answered.is_ok() && requests[query.request].is_wanted();
        if self.queries[range.clone()].iter().all(is_well) {
            // None was at fault: it was their number.
            self.stay_below(range.len());
        }
    }

    /// Ends the steps whose last query is in this range.
    fn hand_out(&mut self, requests: &mut [Request], start: usize, end: usize) {
        let output_item = self.output_channels * self.shape[1] * self.shape[2];
        for last in start..end {
            let request = self.queries[last].request;
            let belongs = |query: &Query| query.request == request;
            if self.queries.get(last + 1).is_some_and(belongs) {
                continue;
            }
            let first = self.queries[..last].iter().rposition(|query| !belongs(query));
            let first = first.map_or(0, |before| before + 1);
            let failed =
                self.queries[first..=last].iter().find_map(|query| query.answered.clone().err());
            let output = &self.output[first * output_item..(last + 1) * output_item];
            let outcome = match failed {
                Some(error) => Err(error),
                None => requests[request].answer(output),
            };
            if let Err(error) = outcome {
                requests[request].fail(error);
            }
        }
    }
}

/// Room for `len` values. Errors: `OutOfMemory`, where growing would end the process.
pub(super) fn reserve(values: &mut Vec<f32>, len: usize) -> Result<()> {
    values.try_reserve_exact(len.saturating_sub(values.len())).map_err(|_| {
        let bytes = len.saturating_mul(size_of::<f32>());
        let text = format!("batch: {bytes} bytes for its samples could not be had");
        Error::new(ErrorKind::OutOfMemory, text)
    })
}

/// Copies `values`, and repeats their first item behind them.
fn fill_up<T: Copy>(to: &mut Vec<T>, values: &[T], len: usize, item: usize) {
    to.clear();
    to.extend_from_slice(values);
    repeat_first(to, len, item);
}

/// Adds as many copies of the first `item` values as it takes to be `len` long; of none there are none.
pub(super) fn repeat_first<T: Copy>(values: &mut Vec<T>, len: usize, item: usize) {
    while !values.is_empty() && values.len() < len {
        values.extend_from_within(..item);
    }
}
