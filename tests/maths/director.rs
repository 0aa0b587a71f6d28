//! The director's lists and shares: exact where the visible change is known, lawful for any pilot.

use ddpm::pacing::{DEFAULT_FLOOR, Shown, VisibleChange, even_shares};
use ddpm::timesteps::{TimestepSpacing, check_timesteps, timesteps};

const BOTH: [Shown; 2] = [Shown::Prediction, Shown::Sample];

/// A pilot that visits `list` and shows `preview` of the timestep that a picture belongs to, -1 at
/// the end of a run.
fn pilot(list: &[f64], shown: Shown, preview: impl Fn(f64) -> Vec<f32>) -> VisibleChange {
    let mut change = VisibleChange::new(list.to_vec(), shown).unwrap();
    for (row, position) in positions(list, shown).into_iter().enumerate() {
        change.record(row, &preview(position)).unwrap();
    }
    change
}

fn positions(list: &[f64], shown: Shown) -> Vec<f64> {
    match shown {
        Shown::Prediction => list.to_vec(),
        Shown::Sample => list[1..].iter().copied().chain([-1.0]).collect(),
    }
}

fn reals(list: &[usize]) -> Vec<f64> {
    list.iter().map(|&timestep| timestep as f64).collect()
}

fn plain(total: usize, steps: usize) -> Vec<usize> {
    timesteps(total, steps, TimestepSpacing::Trailing, 0).unwrap()
}

/// All that is seen happens between the timesteps 300 and 200, on a straight way.
fn ramp(timestep: f64) -> Vec<f32> {
    vec![((300.0 - timestep) / 100.0).clamp(0.0, 1.0) as f32; 3]
}

/// The same, a value at a time, in noise of every timestep's own, as loud as what is left to be seen.
fn flicker(timestep: f64) -> Vec<f32> {
    let shown = (200.0 - timestep.clamp(200.0, 300.0) + 100.0) / 100.0;
    let noise = |at: u32| {
        let place = f64::from(at) * 12.9898 + timestep * 78.233;
        ((place.sin() * 43758.5453).fract() * (1.0 - shown)) as f32
    };
    (0..4096).map(|at| if f64::from(at) < 4096.0 * shown { 1.0 } else { noise(at) }).collect()
}

#[test]
fn timesteps_go_where_something_is_seen() {
    let list: Vec<usize> = (0..10).map(|row| 900 - 100 * row).collect();
    let directed = |change: &VisibleChange, floor| change.directed_timesteps(&list, floor);
    let straight = pilot(&reals(&list), Shown::Prediction, ramp);
    // Nine gaps share 300 to 200; the last timestep stays.
    assert_eq!(directed(&straight, 0.0), [900, 289, 278, 267, 256, 244, 233, 222, 211, 0]);
    // Half is even: what is not seen gets gaps twice as wide as before.
    assert_eq!(directed(&straight, 0.5), [900, 700, 500, 300, 280, 260, 240, 220, 200, 0]);
    // The last of ten gaps ends in the picture.
    let sample = pilot(&reals(&list), Shown::Sample, ramp);
    assert_eq!(directed(&sample, 0.0), [900, 290, 280, 270, 260, 250, 240, 230, 220, 210]);
    // Where all gaps change alike it is the plain list.
    let even = |timestep: f64| vec![1.0 - (timestep + 1.0) as f32 / 500.0; 2];
    for shown in BOTH {
        let change = pilot(&reals(&plain(1000, 32)), shown, even);
        assert_eq!(change.directed_timesteps(&plain(1000, 10), 0.0), plain(1000, 10));
    }
}

#[test]
fn every_step_brings_the_picture_nearer_by_as_much() {
    // Each value comes to its own at a rate of its own.
    let preview = |timestep: f64| -> Vec<f32> {
        (1..=40)
            .map(|rate| 1.0 - (timestep.max(0.0) / 1000.0).powf(1.0 + f64::from(rate) / 8.0) as f32)
            .collect()
    };
    for shown in BOTH {
        let change = pilot(&reals(&plain(1000, 32)), shown, preview);
        let unevenness = |list: &[usize]| {
            let frames: Vec<_> = positions(&reals(list), shown).into_iter().map(preview).collect();
            let left: Vec<f64> =
                frames.iter().map(|frame| distance(frame, frames.last().unwrap())).collect();
            let mean = left[0] / (left.len() - 1) as f64;
            left.windows(2).map(|pair| ((pair[0] - pair[1]) / mean - 1.0).abs()).fold(0.0, f64::max)
        };
        let directed = change.directed_timesteps(&plain(1000, 50), 0.0);
        // A pilot of fewer rows, and whole timesteps.
        assert!(unevenness(&directed) < 0.3, "{shown:?}: {}", unevenness(&directed));
        assert!(unevenness(&plain(1000, 50)) > 0.8, "{shown:?}: {}", unevenness(&plain(1000, 50)));
    }
}

#[test]
fn noise_that_comes_and_goes_is_not_taken_for_the_picture() {
    let change = pilot(&reals(&plain(1000, 100)), Shown::Sample, flicker);
    let list = change.directed_timesteps(&plain(1000, 50), DEFAULT_FLOOR);
    // A tenth of the way, for which there is all but the floor.
    let there = list.iter().filter(|&&timestep| (195..=305).contains(&timestep)).count();
    assert!(there > 30, "{there} of 50: {list:?}");
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    let squares = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2));
    (squares.sum::<f64>() / a.len() as f64).sqrt()
}

/// Pilots of all kinds, also such as make no sense.
fn pilots(shown: Shown) -> Vec<VisibleChange> {
    let nonsense = |timestep: f64| {
        let huge = [f32::NAN, f32::INFINITY, -1e30, 0.3][timestep as usize % 4];
        vec![huge, (timestep * 12.9898).sin() as f32, 0.0]
    };
    let previews: [&dyn Fn(f64) -> Vec<f32>; 5] =
        [&ramp, &flicker, &nonsense, &|_| vec![0.5; 7], &|timestep| vec![timestep as f32 / 1e9]];
    let mut all = Vec::new();
    for preview in previews {
        for rows in [1, 2, 3, 32] {
            all.push(pilot(&reals(&plain(1000, rows)), shown, preview));
        }
        // Heun's rows, and those of a pilot that was broken off.
        all.push(pilot(&[999.0, 500.5, 500.5, 100.0, 100.0, 0.0], shown, preview));
        for seen in 0..4 {
            let mut change = VisibleChange::new(reals(&plain(1000, 32)), shown).unwrap();
            for row in 0..seen {
                change.record(row, &preview(row as f64)).unwrap();
            }
            all.push(change);
        }
    }
    all
}

#[test]
fn lists_of_any_pilot_are_complete_falling_and_no_gap_is_too_wide() {
    for shown in BOTH {
        for (number, change) in pilots(shown).iter().enumerate() {
            for (total, steps) in
                [(1, 1), (2, 1), (2, 2), (1000, 2), (1000, 7), (1000, 50), (1000, 1000)]
            {
                for spacing in
                    [TimestepSpacing::Trailing, TimestepSpacing::Leading, TimestepSpacing::Linspace]
                {
                    let base = timesteps(total, steps, spacing, 0).unwrap();
                    for floor in [0.0, DEFAULT_FLOOR, 1.0, -1.0, 7.0, f64::NAN] {
                        let list = change.directed_timesteps(&base, floor);
                        let what = format!(
                            "{shown:?} {number}, {steps} of {total} {spacing:?}, {floor}: {list:?}"
                        );
                        check_timesteps(total, &list).expect(&what);
                        assert_eq!((list.len(), list[0]), (steps, base[0]), "{what}");
                        if shown == Shown::Prediction {
                            assert_eq!(list.last(), base.last(), "{what}");
                        }
                        if floor >= 1.0 || floor.is_nan() {
                            assert_eq!(list, base, "{what}");
                        } else if floor > 0.0 {
                            assert!(widest(&list, &base, shown) <= 1.0 / floor + 1e-9, "{what}");
                        }
                    }
                }
            }
            assert!(change.directed_timesteps(&[], 0.25).is_empty());
            assert_eq!(change.directed_timesteps(&[5, 5, 9], 0.25), [5, 5, 9]);
        }
    }
}

/// The widest gap of `list`, in gaps of `base`, less the timestep that rounding can add.
fn widest(list: &[usize], base: &[usize], shown: Shown) -> f64 {
    let ends = |list: &[usize]| {
        let end = (shown == Shown::Sample).then_some(-1.0);
        reals(list).into_iter().chain(end).collect::<Vec<f64>>()
    };
    let base = ends(base);
    let place = |timestep: f64| {
        let next = base.partition_point(|&other| other > timestep).clamp(1, base.len() - 1);
        (next as f64) - (timestep - base[next]) / (base[next - 1] - base[next])
    };
    let gap = |pair: &[f64]| place(pair[1] + 0.5) - place(pair[0] - 0.5);
    ends(list).windows(2).map(gap).fold(0.0, f64::max)
}

#[test]
fn shares_are_what_is_seen_of_the_whole() {
    let list = [900.0, 700.0, 500.0, 250.0, 225.0, 0.0];
    let seen = pilot(&reals(&plain(1000, 100)), Shown::Prediction, ramp).shares(&list);
    // The pilot's timesteps are 10 apart, the ramp is between two of them.
    let expected = [0.0, 0.0, 0.0, 0.5, 0.75, 1.0];
    assert!(seen.iter().zip(expected).all(|(a, b)| (a - b).abs() < 0.01), "{seen:?}");
    let seen = pilot(&reals(&plain(1000, 100)), Shown::Sample, ramp).shares(&list);
    let expected = [0.0, 0.0, 0.5, 0.75, 1.0, 1.0];
    assert!(seen.iter().zip(expected).all(|(a, b)| (a - b).abs() < 0.01), "{seen:?}");
    let lists = [
        vec![],
        vec![5.0],
        vec![3.5, 3.5],
        vec![999.0, 400.0, 400.0, 210.0, 210.0, 0.0],
        vec![1.0, 9.0],
        vec![f64::NAN, 3.0],
        reals(&plain(1000, 250)),
    ];
    for shown in BOTH {
        for change in pilots(shown) {
            for list in &lists {
                let shares = change.shares(list);
                assert_eq!(shares.len(), list.len());
                assert!(
                    shares.iter().all(|share| (0.0..=1.0).contains(share)),
                    "{list:?} {shares:?}"
                );
                assert!(shares.windows(2).all(|pair| pair[0] <= pair[1]), "{list:?} {shares:?}");
                assert!(shares.last().is_none_or(|&last| last == 1.0), "{list:?} {shares:?}");
            }
        }
        let flat = pilot(&reals(&plain(1000, 32)), shown, |_| vec![0.5; 7]);
        assert_eq!(flat.shares(&[9.0, 5.0, 1.0]), even_shares(3));
    }
}

#[test]
fn large_previews_are_compared_in_part() {
    let large = |timestep: f64| {
        let mut values = vec![(timestep / 1000.0) as f32; 300_000];
        values[150_000..].fill((timestep / 500.0 - 1.0) as f32);
        values
    };
    let small = |timestep: f64| vec![(timestep / 1000.0) as f32, (timestep / 500.0 - 1.0) as f32];
    let list = |preview: &dyn Fn(f64) -> Vec<f32>| {
        let change = pilot(&reals(&plain(1000, 32)), Shown::Sample, preview);
        change.directed_timesteps(&plain(1000, 50), 0.1)
    };
    assert_eq!(list(&large), list(&small));
    // One value of many is passed over, and what happens there.
    let speck = |timestep: f64| {
        let mut values = large(0.0);
        values[1] = small(timestep)[0];
        values
    };
    assert_eq!(list(&speck), plain(1000, 50));
}

#[test]
fn pilots_that_make_no_sense_are_refused_by_what_is_wrong() {
    for (list, named) in [
        (vec![], "pilot timesteps: found none"),
        (vec![9.0, 10.0], "pilot timesteps[1]: found 10"),
        (vec![9.0, f64::NAN], "pilot timesteps[1]: found NaN"),
        (vec![-1.0], "pilot timesteps[0]: found -1"),
        (vec![f64::INFINITY], "pilot timesteps[0]: found inf"),
    ] {
        let error = VisibleChange::new(list, Shown::Sample).unwrap_err();
        assert!(error.message().starts_with(named), "{error}");
    }
    let mut change = VisibleChange::new(vec![9.0, 5.0, 0.0], Shown::Sample).unwrap();
    for (row, values, named) in [
        (1, 4, "pilot row: found 1, expected 0 of 3"),
        (0, 0, "pilot preview: found 0 values, expected some"),
        (0, 4, ""),
        (0, 4, "pilot row: found 0, expected 1 of 3"),
        (1, 3, "pilot preview: found 3 values, expected 4"),
        (1, 4, ""),
        (2, 4, ""),
        (3, 4, "pilot row: found 3, expected 3 of 3"),
    ] {
        match change.record(row, &vec![0.1; values]) {
            Ok(()) => assert_eq!(named, ""),
            Err(error) => {
                assert!(!named.is_empty() && error.message().starts_with(named), "{error}")
            }
        }
    }
}
