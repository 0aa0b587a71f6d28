//! Every order of events between one that draws frames and those that take them, tried by a model
//! checker.

use std::sync::Arc;

use loom::sync::atomic::AtomicU64;
use loom::thread;

use super::frame_format::FrameFormat;
use super::frames::{FrameGuard, Frames};
use super::loom_sync::check;
use super::sync::Ordering;
use super::triple_buffer::triple_buffer;
use crate::error::ErrorKind;
use crate::model::ModelConfig;

/// So many that slots come round: three are in play.
const LAST: u64 = 5;

/// Two halves that nothing but the exchange of the slots keeps together.
#[derive(Default)]
struct Halves([AtomicU64; 2]);

impl Halves {
    fn set(&self, value: u64) {
        self.0.iter().for_each(|half| half.store(value, Ordering::Relaxed));
    }

    fn get(&self) -> u64 {
        let [first, second] = &self.0;
        let value = first.load(Ordering::Relaxed);
        assert_eq!(second.load(Ordering::Relaxed), value, "torn value");
        value
    }
}

#[test]
fn values_arrive_whole_and_once_and_in_order_and_stay_while_they_are_held() {
    check(None, || {
        let (mut writer, mut reader) = triple_buffer([(); 3].map(|()| Halves::default()));
        let drawing = thread::spawn(move || {
            for value in 1..=LAST {
                writer.back().expect("a slot of the writer's own").set(value);
                writer.publish();
            }
        });
        let mut seen = 0;
        for _ in 0..3 {
            if let Some(slot) = reader.take_newest() {
                let value = slot.get();
                assert!(value > seen, "{value} after {seen}");
                assert_eq!(slot.get(), value, "written while it was held");
                seen = value;
            }
        }
        drawing.join().unwrap();
        let newest = reader.take_newest().map(|slot| slot.get());
        assert_eq!(newest, (seen < LAST).then_some(LAST));
        assert!(reader.take_newest().is_none());
    });
}

fn frames() -> Arc<Frames> {
    Arc::new(Frames::new(FrameFormat::PlanarF32, &ModelConfig::ddpm(1, 1, 1)).unwrap())
}

/// Publishes frames of this epoch, each showing its generation.
fn publish(frames: &Frames, epoch: u32, generations: std::ops::RangeInclusive<u64>) {
    for generation in generations {
        frames.draw(&[generation as f32], epoch, 1, 9).unwrap().publish();
    }
}

/// What a frame shows.
fn value(pixels: &[u8]) -> u64 {
    f32::from_ne_bytes(pixels.try_into().unwrap()) as u64
}

fn generation(frame: &FrameGuard) -> u64 {
    let generation = frame.info().generation;
    assert_eq!(value(frame), generation);
    generation
}

#[test]
fn an_acquired_frame_is_never_drawn_over_and_nobody_waits_for_its_release() {
    check(None, || {
        let frames = frames();
        let own = Arc::clone(&frames);
        let drawing = thread::spawn(move || publish(&own, 0, 1..=LAST));
        let mut seen = 0;
        for _ in 0..3 {
            let Some(frame) = frames.acquire(|| 0).unwrap() else { continue };
            let first = generation(&frame);
            assert!(first > seen, "{first} after {seen}");
            seen = first;
            assert_eq!(frames.acquire(|| 0).unwrap_err().kind(), ErrorKind::Busy);
            assert_eq!(generation(&frame), first);
        }
        drawing.join().unwrap();
        let newest = frames.acquire(|| 0).unwrap().map(|frame| generation(&frame));
        assert_eq!(newest, (seen < LAST).then_some(LAST));
    });
}

#[test]
fn of_two_that_take_frames_each_frame_goes_to_one() {
    check(None, || {
        let frames = frames();
        let (own, other) = (Arc::clone(&frames), Arc::clone(&frames));
        let drawing = thread::spawn(move || publish(&own, 0, 1..=2));
        let copying = thread::spawn(move || {
            let mut pixels = [0; 4];
            match other.copy(&mut pixels, 0, || 0) {
                Ok(info) => info.map(|info| {
                    assert_eq!(value(&pixels), info.generation);
                    info.generation
                }),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Busy);
                    None
                }
            }
        });
        let acquired = frames.acquire(|| 0).unwrap().map(|frame| generation(&frame));
        let copied = copying.join().unwrap();
        drawing.join().unwrap();
        assert!(acquired.is_none() || acquired != copied);
        let rest = frames.acquire(|| 0).unwrap().map(|frame| generation(&frame));
        let all = [acquired, copied, rest];
        assert_eq!(all.iter().flatten().max(), Some(&2));
        assert_eq!(all.iter().filter(|&&taken| taken == Some(2)).count(), 1);
    });
}

#[test]
fn a_published_generation_is_that_of_a_frame_and_grows() {
    check(None, || {
        let frames = frames();
        let own = Arc::clone(&frames);
        let drawing = thread::spawn(move || publish(&own, 5, 1..=2));
        let seen = [frames.generation_of(5), frames.generation_of(5)];
        assert!(seen[0] <= seen[1] && seen[1] <= 2, "{seen:?}");
        assert_eq!(frames.generation_of(4), 0);
        // What the status tells of can be taken.
        let taken = frames.acquire(|| 5).unwrap().map_or(0, |frame| generation(&frame));
        assert!(taken >= seen[1]);
        drawing.join().unwrap();
        assert_eq!(frames.generation_of(5), 2);
    });
}
