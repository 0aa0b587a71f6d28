//! One thread that loads a model and then makes the steps that its streams ask for.
//!
//! The only module that names threads, channels and locks. It must not know ONNX: what it loads is
//! a [`Denoiser`] and whatever description comes with it.
//!
//! Streams that want something stand in one bounded queue (see [`inbox`]). Each has one request at most;
//! when the worker is free it takes what waits, up to a limit, into as few calls of the model as can
//! be (see [`batch`]), and a stream that wants more steps stays in its hands.

mod batch;
#[cfg(test)]
mod batch_tests;
mod calls;
mod director;
mod frame_format;
mod frames;
mod inbox;
mod link;
#[cfg(all(test, loom))]
mod loom_frames;
#[cfg(all(test, loom))]
mod loom_streams;
#[cfg(all(test, loom))]
mod loom_sync;
mod lots;
#[cfg(test)]
mod lots_tests;
mod playback;
mod progress;
mod request;
mod stream_core;
mod sync;
#[cfg(test)]
mod tests;
mod threads;
mod trajectory;
#[cfg(test)]
mod trajectory_tests;
mod triple_buffer;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::model::{Denoiser, Stopper};

pub use frame_format::FrameFormat;
pub use frames::{FrameGuard, FrameInfo};
pub(crate) use link::Link;
pub use playback::{DEFAULT_FEWEST_STEPS, PlaybackConfig};
pub use progress::StreamState;
pub(crate) use stream_core::{Options, StreamCore};
pub use stream_core::{Preview, Priority, StepOutcome, StreamStatus};
pub use threads::ThreadPriority;
pub(crate) use threads::{helpers, set_own_priority};

use batch::{Batch, Watch};
use calls::Calls;
use director::Director;
use inbox::{Inbox, Outbox, inbox, rouse};
use link::Shown;
use request::Request;
use sync::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Condvar, Mutex, Ordering};

/// The thread's name, as debuggers and profilers show it.
const THREAD_NAME: &str = "ddpm-worker";

/// The most streams of one engine.
const MAX_STREAMS: usize = 4096;

/// How fast a new measurement of the worker's pace counts.
const FORGET: f64 = 0.25;

/// What loading a model gives: something to call, and a description for the host.
pub(crate) struct Loaded<I> {
    pub(crate) denoiser: Box<dyn Denoiser>,
    pub(crate) info: I,
}

/// How far loading is.
enum LoadState<I> {
    Loading,
    Ready(Arc<I>),
    Failed(Error),
    Closed,
}

/// How far loading is, without what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineState {
    /// The model is being loaded.
    Loading,
    /// Streams can be made.
    Ready,
    /// Loading failed, or the worker did; `wait` and `info` give the error.
    Failed,
    /// The engine was closed.
    Closed,
}

/// What the worker, its owner and the links to it share.
struct Shared<I> {
    state: Mutex<LoadState<I>>,
    /// What `state` is, to be seen without the lock.
    phase: AtomicU8,
    changed: Condvar,
    closing: AtomicBool,
    calls: Calls,
    stopper: Arc<dyn Stopper>,
    /// Streams there are, those in the queue among them.
    streams: Arc<AtomicUsize>,
    /// Seconds that a step takes lately, an f64; 0 until one was made.
    step_time: AtomicU64,
    /// See [`Worker::copies`].
    copies: Arc<AtomicU64>,
}

/// The thread and its queue. Dropping it closes it.
pub(crate) struct Worker<I> {
    shared: Arc<Shared<I>>,
    outbox: Outbox<Shown>,
    thread: Mutex<Option<JoinHandle<()>>>,
    thread_handle: Thread,
}

impl<I: Send + Sync + 'static> Worker<I> {
    /// Starts the thread, which calls `load` first. Returns at once.
    ///
    /// Errors: `Internal` where the system gives no thread.
    pub(crate) fn spawn(
        stopper: Arc<dyn Stopper>,
        max_batch: usize,
        load: impl FnOnce() -> Result<Loaded<I>> + Send + 'static,
    ) -> Result<Self> {
        let shared = Arc::new(Shared::new(stopper));
        let (outbox, mut inbox) = inbox(MAX_STREAMS);
        let own = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name(THREAD_NAME.to_owned())
            .spawn(move || live(&own, &mut inbox, max_batch, load))
            .map_err(|error| {
                Error::new(ErrorKind::Internal, format!("no thread for the worker: {error}"))
            })?;
        let thread_handle = thread.thread().clone();
        Ok(Self { shared, outbox, thread: Mutex::new(Some(thread)), thread_handle })
    }

    /// Takes no lock.
    pub(crate) fn state(&self) -> EngineState {
        if self.shared.closing.load(Ordering::SeqCst) {
            return EngineState::Closed;
        }
        const ALL: [EngineState; 3] =
            [EngineState::Loading, EngineState::Ready, EngineState::Failed];
        let phase = self.shared.phase.load(Ordering::SeqCst);
        ALL.into_iter().find(|&state| state as u8 == phase).unwrap_or(EngineState::Closed)
    }

    /// How often a stream's sample, or all that is kept of it, has gone to where the model runs or come
    /// from there. Takes no lock.
    pub(crate) fn copies(&self) -> u64 {
        self.shared.copies.load(Ordering::Relaxed)
    }

    /// Waits until loading is over; false where `timeout` passed first.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut state = self.shared.state.lock();
        while let LoadState::Loading = *state {
            match deadline {
                None => self.shared.changed.wait(&mut state),
                Some(at) if self.shared.changed.wait_until(&mut state, at).timed_out() => break,
                Some(_) => {}
            }
        }
        match state.info() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::EngineLoading => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What came with the model. Errors: `EngineLoading`, `EngineClosed`, or why loading failed.
    pub(crate) fn info(&self) -> Result<Arc<I>> {
        self.shared.state.lock().info()
    }

    /// A way to the worker, for one stream. Errors: `OutOfMemory` where there are 4,096.
    pub(crate) fn link(&self) -> Result<Link<I>> {
        // On a thread's first send the channel asks for that thread's handle, which allocates once
        // where Rust did not start the thread. Hosts mostly step a stream where they made it, so
        // let it happen here and not in a frame.
        drop(thread::current());
        Link::new(&self.shared, &self.outbox, &self.thread_handle)
    }

    /// Stops what runs, ends the thread and waits for it. A second call does nothing.
    ///
    /// Errors: `InvalidArgument` on the worker's own thread, which would wait for itself.
    pub(crate) fn close(&self) -> Result<()> {
        if thread::current().id() == self.thread_handle.id() {
            return Err(Error::invalid_argument(
                "the engine cannot be closed from its own log callback: close it from another thread",
            ));
        }
        self.ask_to_stop();
        // Held over the join, so that every thread that closes comes back to a closed engine.
        let mut thread = self.thread.lock();
        if let Some(thread) = thread.take() {
            // The thread contains its panics; if one got out, there is nothing left to stop.
            let _ = thread.join();
        }
        Ok(())
    }
}

impl<I> Worker<I> {
    fn ask_to_stop(&self) {
        self.shared.close(&self.outbox);
        rouse(&self.thread_handle);
    }
}

impl<I> Drop for Worker<I> {
    fn drop(&mut self) {
        self.ask_to_stop();
        // On the worker's own thread the thread ends by itself; waiting for it would be for ever.
        if thread::current().id() != self.thread_handle.id()
            && let Some(thread) = self.thread.get_mut().take()
        {
            let _ = thread.join();
        }
    }
}

impl<I> LoadState<I> {
    fn info(&self) -> Result<Arc<I>> {
        match self {
            Self::Ready(info) => Ok(Arc::clone(info)),
            Self::Failed(error) => Err(error.clone()),
            Self::Loading => {
                Err(Error::new(ErrorKind::EngineLoading, "the engine still loads its model"))
            }
            Self::Closed => Err(closed()),
        }
    }
}

impl<I> Shared<I> {
    fn new(stopper: Arc<dyn Stopper>) -> Self {
        Self {
            state: Mutex::new(LoadState::Loading),
            phase: AtomicU8::new(EngineState::Loading as u8),
            changed: Condvar::new(),
            closing: AtomicBool::new(false),
            calls: Calls::default(),
            stopper,
            streams: Arc::new(AtomicUsize::new(0)),
            step_time: AtomicU64::new(0),
            copies: Arc::default(),
        }
    }

    /// Makes the worker end soon.
    fn close(&self, outbox: &Outbox<Shown>) {
        self.closing.store(true, Ordering::SeqCst);
        self.stopper.stop();
        outbox.wake();
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    fn measure(&self, time: Duration) {
        let (old, found) =
            (f64::from_bits(self.step_time.load(Ordering::Relaxed)), time.as_secs_f64());
        let time = if old > 0.0 { old + FORGET * (found - old) } else { found };
        self.step_time.store(time.to_bits(), Ordering::Relaxed);
    }

    fn set(&self, state: LoadState<I>) {
        let mut current = self.state.lock();
        let phase = match state {
            LoadState::Loading => EngineState::Loading,
            LoadState::Ready(_) => EngineState::Ready,
            LoadState::Failed(_) => EngineState::Failed,
            LoadState::Closed => EngineState::Closed,
        };
        *current = state;
        // Under the lock: whoever sees the phase and then takes the lock finds what belongs to it.
        self.phase.store(phase as u8, Ordering::SeqCst);
        drop(current);
        self.changed.notify_all();
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::EngineClosed, "the engine was closed")
}

fn internal(what: &str) -> Error {
    Error::new(ErrorKind::Internal, format!("internal fault: {what}"))
}

/// The life of the thread.
fn live<I>(
    shared: &Shared<I>,
    inbox: &mut Inbox<Shown>,
    max_batch: usize,
    load: impl FnOnce() -> Result<Loaded<I>>,
) {
    // What panics is contained where it is called; this is for what nobody thought of.
    let served = contained("the worker", || {
        serve(shared, inbox, max_batch, load);
        Ok(())
    });
    if let Err(error) = served {
        fail_until_closed(shared, inbox, Vec::new(), error);
    }
    // The queue lives as long as the streams do, and keeps what is in it: whoever waits for one of
    // these must not wait any longer. See also `Link::show`.
    let mut requests = Vec::new();
    take_in(&mut requests, inbox.drain()).into_iter().for_each(lose);
    drop(requests);
    shared.set(LoadState::Closed);
}

/// Serves streams until the engine closes.
fn serve<I>(
    shared: &Shared<I>,
    inbox: &mut Inbox<Shown>,
    max_batch: usize,
    load: impl FnOnce() -> Result<Loaded<I>>,
) {
    let mut denoiser = match contained("loading the model", load) {
        Ok(loaded) => {
            shared.set(LoadState::Ready(Arc::new(loaded.info)));
            loaded.denoiser
        }
        Err(error) => return fail_until_closed(shared, inbox, Vec::new(), error),
    };
    let mut batch = Batch::new(denoiser.as_ref(), max_batch, &shared.copies);
    let mut to_warm = batch.sizes_to_warm().into_iter().peekable();
    let mut director = Director::default();
    let (mut requests, mut called) = (Vec::new(), Vec::new());
    while !shared.is_closing() {
        called.append(&mut take_in(&mut requests, inbox.drain()));
        for core in called.drain(..) {
            batch.bring_home(Some(&core.0), denoiser.as_mut());
        }
        requests.retain_mut(Request::renew);
        if requests.is_empty() {
            // While nobody asks for a step, the first calls of the other sizes are made, which are slow.
            let Some(&size) = to_warm.peek() else {
                called = take_in(&mut requests, inbox.wait(|| shared.is_closing()));
                continue;
            };
            match contained("a first call", || Ok(denoiser.warm_up(size))) {
                Ok(Ok(())) => _ = to_warm.next(),
                // Meant for a step before it, and says nothing about the size: once more.
                Ok(Err(_)) if shared.stopper.was_broken_off() => {}
                Ok(Err(_)) => {
                    batch.stay_below(size);
                    to_warm = Vec::new().into_iter().peekable();
                }
                Err(panic) => return fail_until_closed(shared, inbox, requests, panic),
            }
            continue;
        }
        let served =
            serve_once(shared, &mut requests, &mut batch, &mut director, denoiser.as_mut());
        if let Err(panic) = served {
            // What the panic left behind in the model is unknown, so it is not called again.
            return fail_until_closed(shared, inbox, requests, panic);
        }
        inbox.worked();
    }
    batch.bring_home(None, denoiser.as_mut());
}

/// A stream whose samples are called home. Whoever waits for them is told when this is dropped, whatever
/// came of it.
struct Called(Arc<StreamCore>);

impl Drop for Called {
    fn drop(&mut self) {
        self.0.came_home();
    }
}

/// Makes a step for as many of the requests as go into one run of the model. Those that are settled are
/// gone then, the others in the order of their turns.
///
/// Errors: a panic.
fn serve_once<I>(
    shared: &Shared<I>,
    requests: &mut Vec<Request>,
    batch: &mut Batch,
    director: &mut Director,
    denoiser: &mut dyn Denoiser,
) -> Result<()> {
    let began = Instant::now();
    let closing = || shared.is_closing().then(closed);
    let watch = Watch { calls: &shared.calls, stopper: &*shared.stopper, closing: &closing };
    let mut waiting = Vec::new();
    let mut ready = Vec::new();
    for mut request in requests.drain(..) {
        let admitted = director.admits(&mut request, denoiser);
        if admitted { &mut ready } else { &mut waiting }.push(request);
    }
    let mut chosen = batch.choose(&mut ready);
    requests.extend(ready.into_iter().chain(waiting));
    requests.iter_mut().for_each(Request::was_left_out);
    let served = batch.serve(&mut chosen, denoiser, &watch);
    if !chosen.is_empty() {
        shared.measure(began.elapsed());
    }
    requests.append(&mut chosen);
    served?;
    let flown = contained("a pilot run", || Ok(director.fly(denoiser, watch.stopper)))?;
    if let Some((kind, error)) = flown {
        let error = closing().unwrap_or(error);
        let of_kind = |request: &&mut Request| request.core().awaits_director_of(&kind);
        requests.iter_mut().filter(of_kind).for_each(|request| request.fail(error.clone()));
    }
    requests.retain(|request| !request.is_settled());
    Ok(())
}

/// Adds what streams ask for; a stream that is there already stays in its place. Gives those whose samples
/// are called home.
fn take_in(requests: &mut Vec<Request>, shown: impl IntoIterator<Item = Shown>) -> Vec<Called> {
    let mut called = Vec::new();
    for shown in shown {
        let core = Arc::clone(shown.core());
        match requests.iter().any(|request| request.is_of(&core)) {
            true => shown.set_seen(),
            false => requests.extend(shown.request()),
        }
        if core.is_called_home.load(Ordering::SeqCst) {
            called.push(Called(core));
        }
    }
    called
}

fn fail_until_closed<I>(
    shared: &Shared<I>,
    inbox: &mut Inbox<Shown>,
    mut requests: Vec<Request>,
    error: Error,
) {
    shared.set(LoadState::Failed(error.clone()));
    let mut called = Vec::new();
    while !shared.is_closing() {
        requests.iter_mut().for_each(|request| request.fail(error.clone()));
        requests.clear();
        called.drain(..).for_each(lose);
        called = take_in(&mut requests, inbox.wait(|| shared.is_closing()));
    }
    called.into_iter().for_each(lose);
}

/// The worker cannot get at the samples of this stream any more, where they are away.
fn lose(core: Called) {
    let mut work = core.0.work.lock();
    if work.run.away().is_some() {
        work.run.lose();
    }
}

/// Calls `work`; a panic becomes an `Internal` error.
fn contained<T>(doing: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".to_owned());
        Err(Error::new(ErrorKind::Internal, format!("internal fault in {doing}: {text}")))
    })
}
