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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pacing::even_shares;

    #[test]
    fn the_rest_is_thinned_evenly() {
        let thinned = |made, left| kept_rows(&even_shares(10), made, left);
        assert_eq!(thinned(0, 4), [0, 3, 6, 9]);
        assert_eq!(thinned(3, 3), [0, 1, 2, 3, 6, 9]);
        assert_eq!(thinned(3, 2), [0, 1, 2, 3, 9]);
        // The one row that is left starts where the run is.
        assert_eq!(thinned(3, 1), [0, 1, 2, 3]);
        assert_eq!(thinned(3, 0), thinned(3, 1));
        let all: Vec<usize> = (0..10).collect();
        for (made, left) in [(0, 10), (3, 7), (3, 70), (9, 1), (9, 0), (10, 0), (usize::MAX, 5)] {
            assert_eq!(thinned(made, left), all, "{made} {left}");
        }
        assert!(kept_rows(&[], 0, 3).is_empty());
    }

    #[test]
    fn rows_are_kept_where_something_is_seen_and_no_gap_gets_wide() {
        // Nothing is seen before row 30.
        let shares: Vec<f32> = (0..40).map(|row| (row as f32 - 29.0).max(0.0) / 10.0).collect();
        let kept = kept_rows(&shares, 0, 10);
        assert_eq!(kept, [0, 17, 29, 31, 32, 34, 35, 36, 38, 39]);
        // Rows that show nothing at all count by their number.
        assert_eq!(kept_rows(&[1.0; 10], 0, 4), [0, 3, 6, 9]);
    }

    #[test]
    fn what_is_kept_is_complete_falling_and_ends_as_before() {
        for rows in 1..=24 {
            let timesteps: Vec<usize> = (0..rows).map(|row| 7 * (rows - row)).collect();
            let squared = even_shares(rows).iter().map(|share| share * share).collect();
            for shares in [even_shares(rows), squared, vec![0.0; rows], vec![f32::NAN; rows]] {
                for made in 0..rows {
                    for left in 1..=rows - made {
                        let list = thin(&timesteps, &shares, made, left);
                        assert_eq!(list.len(), made + left);
                        assert_eq!(list[..=made], timesteps[..=made]);
                        assert!(list.windows(2).all(|pair| pair[1] < pair[0]), "{list:?}");
                        assert!(left == 1 || list.last() == timesteps.last());
                    }
                }
            }
        }
        assert_eq!(thin(&[9, 5], &even_shares(4), 0, 4), [9, 5]);
    }

    #[test]
    fn a_kept_row_shows_what_those_behind_it_would_have() {
        let shares = even_shares(8);
        assert_eq!(kept_shares(&shares, &[0, 1, 2, 4, 7]), [0.125, 0.25, 0.5, 0.875, 1.0]);
        assert_eq!(kept_shares(&shares, &[0, 1]), [0.125, 1.0]);
        assert!(kept_shares(&shares, &[]).is_empty());
        assert_eq!(kept_shares(&[], &[0]), [1.0]);
    }
}
