//! Fewer rows for what is left of a run, where there is no time for all of them.

use super::DEFAULT_FLOOR;

/// Which rows of a run are kept where `rows_left` are still to be made, the next one among them: the
/// first `made` and the next, whose sample is there already, and of those behind it `rows_left` - 1,
/// spread so that each adds about as much to `shares` (see [`Playback::goal`](super::Playback::goal)) as
/// the others. The last row is kept where more than one is left.
///
/// Strictly rising. All rows where as many as `rows_left` are left anyway; `rows_left` 0 counts as 1
/// where `made` leaves any.
pub fn kept_rows(shares: &[f32], made: usize, rows_left: usize) -> Vec<usize> {
    let rows = shares.len();
    let kept = made.saturating_add(1);
    if kept >= rows || rows_left >= rows - made {
        return (0..rows).collect();
    }
    let wanted = rows_left.saturating_sub(1);
    let last = rows - 1;
    let place = place_after(shares, made);
    let mut list: Vec<usize> = (0..kept).collect();
    let mut row = made;
    for nth in 1..=wanted {
        let target = nth as f64 / wanted as f64;
        // So that there is a row for each of those that follow.
        let highest = last - (wanted - nth);
        row = (row + 1).min(highest);
        while row < highest && (place(row + 1) - target).abs() < (place(row) - target).abs() {
            row += 1;
        }
        list.push(row);
    }
    list
}

/// Where a row lies between row `made` and the last, 0 to 1: by its share, but for [`DEFAULT_FLOOR`] of
/// it, which is by its number, so that no gap gets wide where little is seen.
fn place_after(shares: &[f32], made: usize) -> impl Fn(usize) -> f64 {
    let last = shares.len() - 1;
    let (from, total) = (f64::from(shares[made]), f64::from(shares[last] - shares[made]));
    move |row| {
        let even = (row - made) as f64 / (last - made) as f64;
        if total > 0.0 {
            let seen = (f64::from(shares[row]) - from) / total;
            (1.0 - DEFAULT_FLOOR) * seen + DEFAULT_FLOOR * even
        } else {
            even
        }
    }
}

/// The timesteps of the rows that [`kept_rows`] keeps: strictly falling where `timesteps` are.
///
/// `timesteps` and `shares` have an entry a row; those of the longer without a counterpart are left out.
pub fn thin(timesteps: &[usize], shares: &[f32], made: usize, rows_left: usize) -> Vec<usize> {
    let shares = &shares[..shares.len().min(timesteps.len())];
    kept_rows(shares, made, rows_left)
        .into_iter()
        .filter_map(|row| timesteps.get(row).copied())
        .collect()
}

/// The shares of the run that [`kept_rows`] leaves: a row shows what all rows up to the next kept one
/// would have shown.
pub fn kept_shares(shares: &[f32], kept: &[usize]) -> Vec<f32> {
    let after = |nth: usize| kept.get(nth + 1).map_or(shares.len(), |&row| row);
    (0..kept.len())
        .map(|nth| {
            after(nth).checked_sub(1).and_then(|row| shares.get(row)).copied().unwrap_or(1.0)
        })
        .collect()
}
