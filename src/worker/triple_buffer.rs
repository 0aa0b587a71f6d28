//! The newest value, handed from one writer to one reader without either waiting for the other.
//!
//! Three slots: the writer owns one (back), the reader owns one (front), and the third (middle) is
//! exchanged. Which slot is in the middle, and whether it is newer than the front, is one atomic
//! byte. This module must not know what the slots hold.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::sync::{AtomicU8, Ordering};

const INDEX: u8 = 0b011;
const NEW: u8 = 0b100;

/// Slots are behind mutexes so that this is safe code. The exchange makes each slot one side's own,
/// so they are only ever try-locked, and the try succeeds. They are not [`sync`](super::sync)'s: the
/// model checker is to see that the exchange alone orders what is in them.
struct Slots<T> {
    slots: [Mutex<T>; 3],
    middle: AtomicU8,
}

/// The writing end. One thread at a time.
pub(crate) struct Writer<T> {
    shared: Arc<Slots<T>>,
    back: u8,
}

/// The reading end. One thread at a time.
pub(crate) struct Reader<T> {
    shared: Arc<Slots<T>>,
    front: u8,
}

/// Two ends over three slots. Nothing is allocated afterwards.
pub(crate) fn triple_buffer<T>(slots: [T; 3]) -> (Writer<T>, Reader<T>) {
    let shared = Arc::new(Slots { slots: slots.map(Mutex::new), middle: AtomicU8::new(1) });
    (Writer { shared: Arc::clone(&shared), back: 0 }, Reader { shared, front: 2 })
}

impl<T> Writer<T> {
    /// The slot to fill before [`publish`](Self::publish). It holds an older value.
    pub(crate) fn back(&mut self) -> Option<MutexGuard<'_, T>> {
        self.shared.slots[usize::from(self.back)].try_lock()
    }

    /// Makes the filled slot the newest. Wait-free.
    pub(crate) fn publish(&mut self) {
        let old = self.shared.middle.swap(self.back | NEW, Ordering::AcqRel);
        self.back = old & INDEX;
    }
}

impl<T> Reader<T> {
    /// The newest value, once: `None` until another is published. Wait-free.
    pub(crate) fn take_newest(&mut self) -> Option<MutexGuard<'_, T>> {
        if self.shared.middle.load(Ordering::Relaxed) & NEW == 0 {
            return None;
        }
        let old = self.shared.middle.swap(self.front, Ordering::AcqRel);
        self.front = old & INDEX;
        self.shared.slots[usize::from(self.front)].try_lock()
    }

    /// Fills the slot that was taken last, out of which its value was moved. Nobody else has touched it.
    pub(crate) fn put_back(&mut self, value: T) {
        if let Some(mut slot) = self.shared.slots[usize::from(self.front)].try_lock() {
            *slot = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_there_before_the_first_publish() {
        let (_writer, mut reader) = triple_buffer([0; 3]);
        assert!(reader.take_newest().is_none());
    }

    #[test]
    fn the_reader_gets_the_newest_and_gets_it_once() {
        let (mut writer, mut reader) = triple_buffer([0; 3]);
        for value in 1..=5 {
            *writer.back().unwrap() = value;
            writer.publish();
        }
        assert_eq!(reader.take_newest().as_deref(), Some(&5));
        assert!(reader.take_newest().is_none());
    }

    #[test]
    fn values_arrive_whole_and_in_order_between_threads() {
        const LAST: u64 = 50_000;
        let (mut writer, mut reader) = triple_buffer([[0u64; 64]; 3]);
        let producer = std::thread::spawn(move || {
            for value in 1..=LAST {
                writer.back().unwrap().fill(value);
                writer.publish();
            }
        });
        let mut seen = 0;
        while seen < LAST {
            let Some(slot) = reader.take_newest() else {
                std::thread::yield_now();
                continue;
            };
            assert!(slot[0] > seen, "{} after {seen}", slot[0]);
            assert!(slot.iter().all(|&value| value == slot[0]), "torn value");
            seen = slot[0];
        }
        producer.join().unwrap();
    }
}
