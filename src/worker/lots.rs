//! Steps that the model makes whole: which streams' samples lie in which place, where the model runs.
//!
//! Streams that step together are a lot. As long as the same ones go on together their samples stay in the
//! lot's place; others, a state that a checkpoint or the host is to have, and steps that only the crate's own
//! kernel makes bring them home. This module must not know where the model runs.

use std::sync::{Arc, Weak};

use crate::error::{ErrorKind, Result};
use crate::model::{Batching, FusedAsk, FusedSteps, ModelConfig};
use crate::step::{RowMatrix, STATE_PARTS};

use super::batch::{Watch, repeat_first, reserve};
use super::request::Request;
use super::stream_core::{Preview, StreamCore};
use super::sync::{AtomicU64, Ordering};

/// Places that are kept. Streams that step by themselves have one each.
const MAX_PLACES: usize = 16;

/// Streams whose samples lie in one place, in this order.
#[derive(Default)]
struct Lot {
    /// What the runs are told that they are away with; 0 for none.
    id: u64,
    members: Vec<Weak<StreamCore>>,
    /// Samples in the place, those of members first.
    size: usize,
    /// The call it was last used in.
    used: u64,
}

/// See the module's text.
pub(super) struct Lots {
    /// Values in a sample.
    item: usize,
    /// A step that was to be made whole failed for a reason of its own: no more are tried.
    is_off: bool,
    /// By their places.
    lots: Vec<Lot>,
    calls: u64,
    /// States of samples that went to the model or came from there.
    copies: Arc<AtomicU64>,
    state: Vec<f32>,
    noise: Vec<f32>,
    shown: Vec<f32>,
    rows: Vec<RowMatrix>,
    timesteps: Vec<f64>,
    labels: Vec<i64>,
}

/// What became of a call.
enum Made {
    Steps,
    /// Nobody wanted it any more.
    Nothing,
    /// The crate's own kernel has to make it, or say why not.
    Otherwise,
}

impl Lots {
    /// Allocates nothing yet. `copies` is counted on.
    pub(super) fn new(model: &ModelConfig, copies: &Arc<AtomicU64>) -> Self {
        Self {
            item: model.channels * model.height * model.width,
            is_off: false,
            lots: Vec::new(),
            calls: 0,
            copies: Arc::clone(copies),
            state: Vec::new(),
            noise: Vec::new(),
            shown: Vec::new(),
            rows: Vec::new(),
            timesteps: Vec::new(),
            labels: Vec::new(),
        }
    }

    /// Makes steps for those of the requests that this can be done for, and puts them first. Gives their
    /// number; the others' samples are at home.
    pub(super) fn serve(
        &mut self,
        requests: &mut [Request],
        fused: &mut dyn FusedSteps,
        (rules, limit): (Batching, usize),
        watch: &Watch<'_>,
    ) -> usize {
        if self.is_off {
            return 0;
        }
        // In an order that is the same each time, so that the same streams find each other again.
        requests.sort_by_key(|request| Arc::as_ptr(request.core()));
        let mut able = 0;
        for index in 0..requests.len() {
            if self.is_able(&mut requests[index], fused) {
                requests[able..=index].rotate_right(1);
                able += 1;
            }
        }
        let mut done = 0;
        let mut start = 0;
        // One that fails brings all home, and there they stay.
        while start < able && !self.is_off {
            let end = start + length(&requests[start..able], rules, limit);
            match self.serve_lot(&mut requests[start..end], fused, rules.fixed, watch) {
                Made::Steps | Made::Nothing => {
                    requests[done..end].rotate_left(start - done);
                    done += end - start;
                }
                Made::Otherwise => {}
            }
            start = end;
        }
        done
    }

    /// Brings home the samples of a stream, or of all where none is given.
    pub(super) fn bring_home(&mut self, core: Option<&StreamCore>, fused: &mut dyn FusedSteps) {
        let away = core.and_then(|core| core.work.lock().run.away());
        for place in 0..self.lots.len() {
            if core.is_none() || (away == Some(self.lots[place].id)) {
                self.empty(place, fused);
            }
        }
    }

    /// Whether the request's next step is one that the model makes.
    fn is_able(&mut self, request: &mut Request, fused: &mut dyn FusedSteps) -> bool {
        if request.arrives_away() {
            self.bring_home(Some(request.core()), fused);
        }
        let asks = request.prepare().unwrap_or_else(|error| {
            request.fail(error);
            0
        });
        let core = Arc::clone(request.core());
        let is_plain = || {
            let shows_sample = core.options.preview == Preview::Sample;
            core.work.lock().run.row_matrix(shows_sample).is_some()
        };
        let is_able = asks == 1 && core.guests.load(Ordering::SeqCst) == 0 && is_plain();
        if !is_able {
            self.bring_home(Some(&core), fused);
        }
        is_able
    }

    fn serve_lot(
        &mut self,
        requests: &mut [Request],
        fused: &mut dyn FusedSteps,
        fixed: Option<usize>,
        watch: &Watch<'_>,
    ) -> Made {
        self.calls += 1;
        let stays = self.place_of(requests);
        let place = stays.unwrap_or_else(|| self.new_place(requests, fused));
        let outcome = self.call(requests, fused, (place, stays.is_some(), fixed), watch);
        let id = self.lots[place].id;
        match outcome {
            Ok(Made::Steps) => {
                for (request, shown) in requests.iter_mut().zip(self.shown.chunks(self.item)) {
                    if let Err(error) = request.answer_away(id, shown) {
                        request.fail(error);
                    }
                }
                self.keep_checkpoints(place, fused);
                Made::Steps
            }
            outcome => {
                match stays {
                    Some(_) => self.empty(place, fused),
                    // What is at home is what was sent.
                    None => self.forget(place),
                }
                match outcome {
                    Ok(Made::Nothing) => {
                        requests.iter_mut().for_each(Request::drop_unwanted);
                        Made::Nothing
                    }
                    Err(error) if (watch.closing)().is_some() => {
                        requests.iter_mut().for_each(|request| request.fail(error.clone()));
                        Made::Nothing
                    }
                    Err(error) => {
                        // What one stream asks for is not the device's fault. The model has logged it.
                        let is_asked_for = matches!(
                            error.kind(),
                            ErrorKind::InvalidArgument | ErrorKind::Unsupported
                        );
                        if !is_asked_for {
                            self.bring_home(None, fused);
                            self.is_off = true;
                        }
                        Made::Otherwise
                    }
                    Ok(_) => Made::Otherwise,
                }
            }
        }
    }

    /// The place where the samples of just these requests lie.
    fn place_of(&self, requests: &[Request]) -> Option<usize> {
        let away = |request: &Request| request.core().work.lock().run.away();
        let id = away(requests.first()?)?;
        let place = self.lots.iter().position(|lot| lot.id == id)?;
        let members = &self.lots[place].members;
        let is_same = members.len() == requests.len()
            && members.iter().zip(requests).all(|(member, request)| {
                std::ptr::eq(member.as_ptr(), Arc::as_ptr(request.core()))
                    && away(request) == Some(id)
            });
        is_same.then_some(place)
    }

    /// A place for these requests, whose samples are at home then.
    fn new_place(&mut self, requests: &[Request], fused: &mut dyn FusedSteps) -> usize {
        for request in requests {
            self.bring_home(Some(request.core()), fused);
        }
        let is_free = |lot: &Lot| {
            lot.members.iter().all(|member| {
                let away = member.upgrade().and_then(|core| core.work.lock().run.away());
                away != Some(lot.id)
            })
        };
        let free = self.lots.iter().position(is_free);
        let place = match free {
            Some(place) => place,
            None if self.lots.len() < MAX_PLACES => {
                self.lots.push(Lot::default());
                self.lots.len() - 1
            }
            None => {
                let oldest = (0..self.lots.len()).min_by_key(|&place| self.lots[place].used);
                let oldest = oldest.unwrap_or(0);
                self.empty(oldest, fused);
                oldest
            }
        };
        let members = requests.iter().map(|request| Arc::downgrade(request.core())).collect();
        self.lots[place] = Lot { id: self.calls, members, size: 0, used: self.calls };
        place
    }

    /// Asks the runs, and the model. With `stays` the samples lie in the place already.
    fn call(
        &mut self,
        requests: &[Request],
        fused: &mut dyn FusedSteps,
        (place, stays, fixed): (usize, bool, Option<usize>),
        watch: &Watch<'_>,
    ) -> Result<Made> {
        let (item, size) = (self.item, fixed.unwrap_or(requests.len()));
        let packed = STATE_PARTS * item;
        reserve(&mut self.state, size * packed)?;
        reserve(&mut self.noise, size * item)?;
        reserve(&mut self.shown, size * item)?;
        self.state.resize(requests.len() * packed, 0.0);
        self.noise.resize(requests.len() * item, 0.0);
        self.shown.resize(size * item, 0.0);
        self.rows.clear();
        self.timesteps.clear();
        self.labels.clear();
        (self.lots[place].used, self.lots[place].size) = (self.calls, size);
        let id = self.lots[place].id;
        let (mut draws, mut shows) = (false, false);
        let slots = self.state.chunks_mut(packed).zip(self.noise.chunks_mut(item));
        for (request, (state, noise)) in requests.iter().zip(slots) {
            shows |= request.shows_next();
            let core = request.core();
            let mut work = core.work.lock();
            let run = &mut work.run;
            let row = run.row_matrix(core.options.preview == Preview::Sample);
            // A reset in this very moment: its ticket is worth nothing, so anything will do.
            let (Some(row), Some(timestep)) = (row, run.timestep()) else {
                return Ok(Made::Otherwise);
            };
            if !stays {
                run.pack(state)?;
                run.leave(id);
            }
            match run.next_noise(noise) {
                true => draws = true,
                false => noise.fill(0.0),
            }
            self.rows.push(row);
            self.timesteps.push(timestep);
            self.labels.extend(run.label());
        }
        // A fixed batch is filled up.
        repeat_first(&mut self.rows, size, 1);
        repeat_first(&mut self.timesteps, size, 1);
        repeat_first(&mut self.labels, size, 1);
        repeat_first(&mut self.state, size * packed, packed);
        repeat_first(&mut self.noise, size * item, item);
        let mut is_finite = false;
        let members: Vec<&Request> = requests.iter().collect();
        let was_made = watch.over(&members, || {
            let ask = FusedAsk {
                rows: &self.rows,
                timesteps: &self.timesteps,
                labels: &self.labels,
                state: (!stays).then_some(&self.state),
                noise: draws.then_some(&self.noise),
                shown: shows.then_some(&mut self.shown),
            };
            is_finite = fused.step(place, ask)?;
            Ok(())
        })?;
        if !stays {
            self.copies.fetch_add(requests.len() as u64, Ordering::Relaxed);
        }
        Ok(match (was_made, is_finite) {
            (false, _) => Made::Nothing,
            (true, true) => Made::Steps,
            (true, false) => Made::Otherwise,
        })
    }

    /// Lets those who want a checkpoint of where they stand now have it; their samples stay away.
    fn keep_checkpoints(&mut self, place: usize, fused: &mut dyn FusedSteps) {
        let (id, size) = (self.lots[place].id, self.lots[place].size);
        let wants = |core: &StreamCore| {
            let work = core.work.lock();
            work.run.away() == Some(id) && work.checkpoints.wants(&work.run)
        };
        let members: Vec<_> = self.lots[place].members.iter().map(Weak::upgrade).collect();
        if !members.iter().flatten().any(|core| wants(core))
            || self.fetch(place, size, fused).is_err()
        {
            return;
        }
        let states = self.state.chunks(STATE_PARTS * self.item);
        for (core, state) in members.iter().zip(states) {
            let Some(core) = core.as_ref().filter(|core| wants(core)) else {
                continue;
            };
            let work = &mut *core.work.lock();
            if work.run.away() == Some(id) && work.run.take_home(state).is_ok() {
                work.checkpoints.record(&work.run);
                work.run.leave(id);
            }
        }
    }

    /// Copies what so many samples in a place keep to `state`.
    fn fetch(&mut self, place: usize, size: usize, fused: &mut dyn FusedSteps) -> Result<()> {
        let len = size * STATE_PARTS * self.item;
        reserve(&mut self.state, len)?;
        self.state.resize(len, 0.0);
        self.copies.fetch_add(size as u64, Ordering::Relaxed);
        fused.fetch(place, &mut self.state)
    }

    /// Brings home what lies in a place.
    fn empty(&mut self, place: usize, fused: &mut dyn FusedSteps) {
        let Lot { id, members, size, .. } = std::mem::take(&mut self.lots[place]);
        let cores: Vec<_> = members.iter().map(Weak::upgrade).collect();
        let is_away = |core: &Arc<StreamCore>| core.work.lock().run.away() == Some(id);
        if !cores.iter().flatten().any(is_away) {
            return;
        }
        let fetched = self.fetch(place, size, fused);
        let states = self.state.chunks(STATE_PARTS * self.item);
        for (core, state) in cores.iter().zip(states) {
            let Some(core) = core else { continue };
            let run = &mut core.work.lock().run;
            if run.away() == Some(id) && (fetched.is_err() || run.take_home(state).is_err()) {
                run.lose();
            }
        }
    }

    /// The samples in a place are as they were at home.
    fn forget(&mut self, place: usize) {
        let Lot { id, members, .. } = std::mem::take(&mut self.lots[place]);
        for core in members.iter().filter_map(Weak::upgrade) {
            core.work.lock().run.return_as_left(id);
        }
    }
}

/// How many of the requests, from the first on, go into one call.
fn length(requests: &[Request], rules: Batching, limit: usize) -> usize {
    let condition = |request: &Request| {
        let work = request.core().work.lock();
        let timestep = rules.shared_timestep.then(|| work.run.timestep());
        (timestep, rules.shared_label.then(|| work.run.label()))
    };
    let first = requests.first().map(condition);
    let alike = requests.iter().take_while(|request| Some(condition(request)) == first).count();
    match rules.fixed {
        Some(fixed) => alike.min(fixed),
        None => 1 << alike.min(limit).max(1).ilog2(),
    }
}
