//! Fewer rows for what is left of a run, where there is no time for all of them.

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
    let share = |row: usize| f64::from(shares[row]);
    let (from, to) = (share(made), share(rows - 1));
    let mut list: Vec<usize> = (0..kept).collect();
    let mut next = kept;
    for nth in 1..=wanted {
        let target = from + (to - from) * nth as f64 / wanted as f64;
        // So that there is one for each of those that follow.
        let last = rows - 1 - (wanted - nth);
        while next < last && (share(next + 1) - target).abs() <= (share(next) - target).abs() {
            next += 1;
        }
        list.push(if nth == wanted { rows - 1 } else { next });
        next += 1;
    }
    list
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
