//! One thread that loads a model and then makes the steps that its streams ask for.
//!
//! The only module that names threads, channels and locks. It must not know ONNX: what it loads is
//! a [`Denoiser`] and whatever description comes with it.
//!
//! Requests wait in one bounded queue, in the order they came. A stream has one step in flight at
//! most; when the worker is free it takes what waits, up to a limit, into as few calls of the model as
//! can be (see [`batch`]).

mod batch;
#[cfg(test)]
mod batch_tests;
mod frame_format;
mod frames;
mod progress;
mod stream_core;
#[cfg(test)]
mod tests;
mod triple_buffer;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use parking_lot::{Condvar, Mutex};

use crate::error::{Error, ErrorKind, Result};
use crate::model::{Denoiser, Stopper};

pub use frame_format::FrameFormat;
pub use frames::{FrameGuard, FrameInfo};
pub use progress::StreamState;
pub(crate) use stream_core::StreamCore;
pub use stream_core::{Preview, StepOutcome, StreamStatus};

use batch::Batch;
use stream_core::Request;

/// The thread's name, as debuggers and profilers show it.
const THREAD_NAME: &str = "ddpm-worker";

/// Steps that may wait at once, over all streams of an engine. More is `Busy`.
const QUEUE: usize = 256;

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

enum Message {
    Step(Request),
    /// Nothing to do but to look at `closing`.
    Wake,
}

struct Shared<I> {
    state: Mutex<LoadState<I>>,
    /// What `state` is, to be seen without the lock.
    phase: AtomicU8,
    changed: Condvar,
    closing: AtomicBool,
}

/// The thread and its queue. Dropping it closes it.
pub(crate) struct Worker<I> {
    shared: Arc<Shared<I>>,
    queue: Sender<Message>,
    stopper: Arc<dyn Stopper>,
    thread: Mutex<Option<JoinHandle<()>>>,
    thread_id: ThreadId,
}

/// The way from one stream to the worker. Outlives the worker.
pub(crate) struct Link<I> {
    shared: Arc<Shared<I>>,
    queue: Sender<Message>,
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
        let shared = Arc::new(Shared {
            state: Mutex::new(LoadState::Loading),
            phase: AtomicU8::new(EngineState::Loading as u8),
            changed: Condvar::new(),
            closing: AtomicBool::new(false),
        });
        let (queue, requests) = bounded(QUEUE);
        let own = Arc::clone(&shared);
        let breaker = Arc::clone(&stopper);
        let thread = thread::Builder::new()
            .name(THREAD_NAME.to_owned())
            .spawn(move || {
                serve(&own, &*breaker, &requests, max_batch, load);
                // The queue lives as long as the streams do, and keeps what is in it: whoever waits
                // for one of these steps must not wait any longer. See also `Link::step`.
                requests.try_iter().for_each(drop);
                own.set(LoadState::Closed);
            })
            .map_err(|error| {
                Error::new(ErrorKind::Internal, format!("no thread for the worker: {error}"))
            })?;
        let thread_id = thread.thread().id();
        Ok(Self { shared, queue, stopper, thread: Mutex::new(Some(thread)), thread_id })
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

    pub(crate) fn link(&self) -> Link<I> {
        // On a thread's first send the channel asks for that thread's handle, which allocates once
        // where Rust did not start the thread. Hosts mostly step a stream where they made it, so
        // let it happen here and not in a frame.
        drop(thread::current());
        Link { shared: Arc::clone(&self.shared), queue: self.queue.clone() }
    }

    /// Stops what runs, ends the thread and waits for it. A second call does nothing.
    ///
    /// Errors: `InvalidArgument` on the worker's own thread, which would wait for itself.
    pub(crate) fn close(&self) -> Result<()> {
        if thread::current().id() == self.thread_id {
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
        self.shared.closing.store(true, Ordering::SeqCst);
        self.stopper.stop();
        // A full queue wakes the worker as well.
        let _ = self.queue.try_send(Message::Wake);
    }
}

impl<I> Drop for Worker<I> {
    fn drop(&mut self) {
        self.ask_to_stop();
        // On the worker's own thread the thread ends by itself; waiting for it would be for ever.
        if thread::current().id() != self.thread_id
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
    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
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

impl<I> Link<I> {
    /// Queues a step of `core`. Does not block or allocate.
    pub(crate) fn step(&self, core: &Arc<StreamCore>) -> Result<StepOutcome> {
        self.check_open()?;
        let ticket = match core.begin()? {
            Ok(ticket) => ticket,
            Err(outcome) => return Ok(outcome),
        };
        let request = Request::new(Arc::clone(core), ticket);
        match self.queue.try_send(Message::Step(request)) {
            Ok(()) => {
                // The worker empties the queue after it has seen `closing`. A step that was queued
                // behind its back ends here.
                self.check_open().inspect_err(|error| core.fail(ticket, error.clone()))?;
                Ok(StepOutcome::Accepted)
            }
            Err(TrySendError::Full(Message::Step(request))) => {
                request.give_back();
                Ok(StepOutcome::Busy)
            }
            Err(TrySendError::Full(Message::Wake) | TrySendError::Disconnected(_)) => Err(closed()),
        }
    }

    /// Errors: `EngineClosed`.
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.shared.closing.load(Ordering::SeqCst) { Err(closed()) } else { Ok(()) }
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::EngineClosed, "the engine was closed")
}

fn internal(what: &str) -> Error {
    Error::new(ErrorKind::Internal, format!("internal fault: {what}"))
}

/// The life of the thread.
fn serve<I>(
    shared: &Shared<I>,
    stopper: &dyn Stopper,
    queue: &Receiver<Message>,
    max_batch: usize,
    load: impl FnOnce() -> Result<Loaded<I>>,
) {
    let mut denoiser = match contained("loading the model", load) {
        Ok(loaded) => {
            shared.set(LoadState::Ready(Arc::new(loaded.info)));
            loaded.denoiser
        }
        Err(error) => return fail_until_closed(shared, queue, error),
    };
    let mut batch = Batch::new(denoiser.as_ref(), max_batch);
    let mut to_warm = batch.sizes_to_warm().into_iter().peekable();
    let closing = || shared.is_closing().then(closed);
    loop {
        // While nobody asks for a step, the first calls of the other sizes are made, which are slow.
        while queue.is_empty() && !shared.is_closing() {
            let Some(&size) = to_warm.peek() else { break };
            match contained("a first call", || Ok(denoiser.warm_up(size))) {
                Ok(Ok(())) => {
                    to_warm.next();
                }
                // It was meant for a step, and this call is made again.
                Ok(Err(_)) if stopper.was_broken_off() => {}
                Ok(Err(_)) => {
                    batch.stay_below(size);
                    to_warm = Vec::new().into_iter().peekable();
                }
                Err(panic) => return fail_until_closed(shared, queue, panic),
            }
        }
        let Some(requests) = next(shared, queue, batch.limit()) else {
            return;
        };
        if let Err(panic) = batch.serve(requests, denoiser.as_mut(), &closing) {
            // What the panic left behind in the model is unknown, so it is not called again.
            return fail_until_closed(shared, queue, panic);
        }
    }
}

fn fail_until_closed<I>(shared: &Shared<I>, queue: &Receiver<Message>, error: Error) {
    shared.set(LoadState::Failed(error.clone()));
    while let Some(requests) = next(shared, queue, QUEUE) {
        for mut request in requests {
            request.fail(error.clone());
        }
    }
}

/// The steps to make: waits for one, and takes what else is there, up to `most`; none when the
/// engine closes.
fn next<I>(shared: &Shared<I>, queue: &Receiver<Message>, most: usize) -> Option<Vec<Request>> {
    let mut requests = Vec::new();
    while requests.is_empty() {
        let first = queue.recv();
        if shared.is_closing() {
            return None;
        }
        let messages = std::iter::once(first.ok()?).chain(queue.try_iter());
        let steps = messages.filter_map(|message| match message {
            Message::Step(request) => Some(request),
            Message::Wake => None,
        });
        requests.extend(steps.take(most));
    }
    Some(requests)
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
