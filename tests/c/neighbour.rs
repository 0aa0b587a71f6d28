//! A library of somebody else's, written in Rust too: its own copy of the standard library, its own
//! threads, thread-local values with destructors, panics and a panic hook.

use std::cell::RefCell;
use std::panic;
use std::thread;

thread_local! {
    static TRAIL: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

/// Sums 0 to `turns` - 1 in as many threads, of which every third panics before it says its part.
#[unsafe(no_mangle)]
pub extern "C" fn neighbour_sum(turns: u32) -> u64 {
    panic::set_hook(Box::new(|_| {}));
    let threads: Vec<_> = (0..turns)
        .map(|turn| {
            thread::spawn(move || {
                TRAIL.with_borrow_mut(|trail| trail.push(turn));
                if turn % 3 == 0 {
                    panic!("turn {turn}");
                }
                TRAIL.with_borrow(|trail| trail.iter().copied().map(u64::from).sum::<u64>())
            })
        })
        .collect();
    let parts = threads.into_iter().zip(0..turns);
    parts.map(|(thread, turn)| thread.join().unwrap_or(u64::from(turn))).sum()
}
