//! Threads that each compute a share of the items of a batch, all of it, by themselves.
//!
//! Operations share their work out among the threads of the rayon pool that they run in. Here each share
//! runs in a pool of one thread, so that no operation waits for another thread. This module knows no
//! tensors.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use rayon::{ThreadPool, ThreadPoolBuilder};

/// Pools of one thread, kept from batch to batch: a thread has its own memory to work with.
static POOLS: Mutex<Vec<ThreadPool>> = Mutex::new(Vec::new());

/// Calls `compute` for shares of `items` items, at the same time, one for each of `threads` threads where
/// there are as many items. Returns what they gave, in the order of the items; blocks until all are done.
///
/// Errors: where a thread cannot be started. A panic of `compute` goes on in the caller.
pub fn each_share<T: Send>(
    items: usize,
    threads: usize,
    compute: impl Fn(Range<usize>) -> T + Sync,
) -> Result<Vec<T>> {
    let count = threads.min(items).max(1);
    if count == 1 {
        return Ok(vec![compute(0..items)]);
    }
    let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    while pools.len() < count {
        let pool = ThreadPoolBuilder::new().num_threads(1).build();
        pools.push(pool.context("cannot start a thread")?);
    }
    let compute = &compute;
    Ok(thread::scope(|scope| {
        let shares = pools[..count].iter().enumerate().map(|(i, pool)| {
            let range = items * i / count..items * (i + 1) / count;
            scope.spawn(move || pool.install(|| compute(range)))
        });
        let shares: Vec<_> = shares.collect();
        let join = |share: thread::ScopedJoinHandle<'_, T>| {
            share.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        shares.into_iter().map(join).collect()
    }))
}
