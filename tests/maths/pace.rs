//! Reveals on simulated machines: they end on time on slow ones, and follow the easing on fast ones.

use ddpm::pacing::{Easing, Playback, even_shares, kept_rows, kept_shares, should_shorten};

const FEWEST: usize = 3;

/// A machine that makes one row after the other, and the host's frames.
struct Machine {
    /// Seconds a row, on average.
    row: f64,
    /// By how much of it a row may take more or less.
    noise: f64,
    /// Seconds from a frame to the next, over and over.
    frames: &'static [f64],
    random: u64,
}

impl Machine {
    fn next_row(&mut self) -> f64 {
        // xorshift64 (Marsaglia 2003).
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let even = (self.random >> 11) as f64 / (1u64 << 53) as f64;
        self.row * (1.0 + self.noise * (2.0 * even - 1.0))
    }

    fn longest_frame(&self) -> f64 {
        self.frames.iter().copied().fold(0.0, f64::max)
    }

    fn longest_row(&self) -> f64 {
        self.row * (1.0 + self.noise)
    }
}

/// What a reveal came to.
struct Reveal {
    /// Seconds until the last row was made.
    end: f64,
    plans: usize,
    /// Whether there was time for no more than the fewest rows.
    is_shortest: bool,
    /// At each frame: seconds, and the share that is shown.
    shown: Vec<(f64, f64)>,
}

/// A host that ticks once a frame, with a worker that makes rows as long as it is behind the goal.
fn reveal(machine: &mut Machine, duration: f64, easing: Easing, mut shares: Vec<f32>) -> Reveal {
    let mut playback = Playback::new(duration, easing).unwrap();
    let mut result = Reveal { end: 0.0, plans: 0, is_shortest: false, shown: Vec::new() };
    let (mut now, mut begun, mut finished) = (0.0, 0, 0);
    // When the row in flight is made, and how long it takes then.
    let mut in_flight: Option<(f64, f64)> = None;
    let mut row_time: Option<f64> = None;
    for frame in 0.. {
        let left = shares.len() - begun;
        let affordable = row_time.map_or(usize::MAX, |row_time| playback.affordable(row_time));
        result.is_shortest |= affordable.saturating_add(1) < left && affordable < FEWEST;
        if let Some(fewer) = should_shorten(left, affordable, FEWEST) {
            let kept = kept_rows(&shares, begun, fewer);
            shares = kept_shares(&shares, &kept);
            assert_eq!(shares.len(), begun + fewer);
            result.plans += 1;
        }
        let goal = playback.goal(&shares, begun, row_time);
        assert!(goal >= begun && goal <= shares.len());
        result.shown.push((now, begun_share(&shares, finished)));

        // The worker, until the next frame.
        let next_frame = now + machine.frames[frame % machine.frames.len()];
        let mut free_at = now;
        loop {
            if let Some((at, took)) = in_flight {
                if at > next_frame {
                    break;
                }
                (finished, free_at, in_flight) = (finished + 1, at, None);
                row_time = Some(row_time.map_or(took, |mean| mean + 0.25 * (took - mean)));
                result.end = at;
            }
            if begun >= goal {
                break;
            }
            let took = machine.next_row();
            in_flight = Some((free_at + took, took));
            begun += 1;
        }
        if finished == shares.len() {
            return result;
        }
        playback.advance(next_frame - now).unwrap();
        now = next_frame;
    }
    unreachable!("frames have no end")
}

fn begun_share(shares: &[f32], rows: usize) -> f64 {
    rows.checked_sub(1).map_or(0.0, |row| f64::from(shares[row]))
}

const FRAMES: [&[f64]; 2] = [&[1.0 / 60.0], &[0.016, 0.05, 0.004, 0.016, 0.12]];
const DURATIONS: [f64; 4] = [0.2, 1.0, 3.7, 10.0];

/// Every machine, duration, easing and kind of shares.
fn each(rows_of: &[f64], mut check: impl FnMut(Machine, f64, Easing, Vec<f32>, String)) {
    let mut number = 0;
    for &row in rows_of {
        for noise in [0.0, 0.3] {
            for frames in FRAMES {
                for duration in DURATIONS {
                    for easing in Easing::ALL {
                        for rows in [1, 4, 50, 250] {
                            let late =
                                even_shares(rows).iter().map(|share| share.powi(4)).collect();
                            for shares in [even_shares(rows), late] {
                                number += 1;
                                let random = 0x9E37_79B9_7F4A_7C15 ^ number;
                                let machine = Machine { row, noise, frames, random };
                                let what = format!(
                                    "{row} s a row, noise {noise}, {duration} s {easing}, {rows} rows, {frames:?}"
                                );
                                check(machine, duration, easing, shares, what);
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn reveals_end_on_time_or_with_the_fewest_rows() {
    let rows_of = [0.0001, 0.001, 0.007, 0.017, 0.04, 0.15, 0.6, 3.0];
    let mut shortened = 0;
    each(&rows_of, |mut machine, duration, easing, shares, what| {
        let rows = shares.len();
        let made = reveal(&mut machine, duration, easing, shares);
        let late = made.end - duration;
        let allowed = machine.longest_row() + machine.longest_frame();
        assert!(
            late <= allowed || made.is_shortest || rows <= FEWEST,
            "{what}: {late} late, {allowed} allowed"
        );
        // Nor does it end before the last row is due, a row and its measurement's noise early.
        assert!(
            late >= -1.5 * machine.longest_row() - machine.longest_frame() || rows == 1,
            "{what}: {late}"
        );
        // Plans are few: with each more than an eighth of the rows is gone.
        assert!(made.plans <= 12, "{what}: {} plans", made.plans);
        shortened += usize::from(made.plans > 0);
    });
    assert!(shortened > 100, "{shortened}");
}

#[test]
fn fast_machines_show_what_the_easing_says() {
    each(&[0.0001, 0.001], |mut machine, duration, easing, shares, what| {
        let (rows, first) = (shares.len(), f64::from(shares[0]));
        let steepest =
            shares.windows(2).map(|pair| f64::from(pair[1] - pair[0])).fold(0.0, f64::max);
        let one_row = if rows == 1 { 1.0 } else { steepest.max(first) };
        // So fast that no frame has more work than it can do.
        let busy = 3.0 * machine.longest_row() * rows as f64 / duration;
        if busy > 0.2 {
            return;
        }
        let made = reveal(&mut machine, duration, easing, shares);
        assert_eq!(made.plans, 0, "{what}");
        let lag = machine.longest_frame() + machine.longest_row();
        for (now, share) in made.shown {
            let at = |seconds: f64| easing.at(seconds / duration);
            let low = at(now - lag) - one_row;
            // The first row is made at once, to see how long it takes.
            let high = at(now + 2.0 * machine.longest_row()).max(first);
            assert!(
                share >= low - 1e-6 && share <= high + 1e-6,
                "{what}: {share} at {now}, {low} to {high}"
            );
        }
    });
}
