//! The kernel on rows written by hand: every slot, the memory, the two thresholds, what is refused.

use super::*;

const ROW: Row = Row {
    timestep: 3.0,
    alpha_cumprod: 0.5,
    p_x: 2.0,
    p_m: -1.0,
    thresholding: Thresholding::Clip(1.5),
    next: Combination { x: 0.5, m: 0.25, x0: 10.0, noise: 100.0, ..Combination::NONE },
    carried: None,
    remember: None,
    learned_variance: None,
};

fn run(row: &Row, x: &[f32], m: &[f32], z: &[f32]) -> Result<(Vec<f32>, Vec<f32>)> {
    let (mut sample, mut x0) = (x.to_vec(), vec![9.0; x.len()]);
    let mut memory = Memory::new(&[*row], x.len()).unwrap();
    let slots = Slots {
        sample: &mut sample,
        model_output: m,
        noise: z,
        pred_original_sample: &mut x0,
        memory: &mut memory,
    };
    apply(row, slots).map(|()| (sample, x0))
}

#[test]
fn every_slot_enters_with_its_coefficient() {
    // x0 = 2 - 3 = -1 and 4 + 1 = 5, which the clip holds to 1.5.
    let (next, x0) = run(&ROW, &[1.0, 2.0], &[3.0, -1.0], &[1.0, -2.0]).unwrap();
    assert_eq!(x0, [-1.0, 1.5]);
    assert_eq!(next, [0.5 + 0.75 - 10.0 + 100.0, 1.0 - 0.25 + 15.0 - 200.0]);
}

#[test]
fn no_thresholding_holds_nothing_and_zero_noise_reads_nothing() {
    let next = Combination { noise: 0.0, ..ROW.next };
    let row = Row { thresholding: Thresholding::Off, next, ..ROW };
    let (next, x0) = run(&row, &[2.0], &[-1.0], &[]).unwrap();
    assert_eq!((next, x0), (vec![1.0 - 0.25 + 50.0], vec![5.0]));
}

#[test]
fn history_and_carried_sample_are_read_as_they_were_before_the_row() {
    // next is a decimal number of what the row saw: carried, h3, h2, h1, x.
    let [h1, h2, h3] = Combination::HISTORY;
    let next =
        Combination::X + h1 * 10.0 + h2 * 100.0 + h3 * 1000.0 + Combination::CARRIED * 10_000.0;
    let row = Row {
        thresholding: Thresholding::Off,
        next,
        carried: Some(Combination::X),
        remember: Some(Combination::X0),
        ..ROW
    };
    let keeps = Row { carried: None, remember: None, ..row };
    // Longer than a block, and not a multiple of it.
    let len = 3 * BLOCK + 7;
    let mut memory = Memory::new(&[row], len).unwrap();
    // x0 = 2 x - m = 2 x - 2 x + k.
    for (k, (row, expected)) in
        [(row, 1.0), (row, 11.0 + 10_000.0), (row, 1.0 + 20.0 + 100.0 + 10_000.0)]
            .into_iter()
            .chain([
                (keeps, 1.0 + 30.0 + 200.0 + 1000.0 + 10_000.0),
                (row, 1.0 + 30.0 + 200.0 + 1000.0 + 10_000.0),
                (row, 1.0 + 50.0 + 300.0 + 2000.0 + 10_000.0),
            ])
            .enumerate()
    {
        let (mut sample, mut x0) = (vec![1.0; len], vec![0.0; len]);
        let slots = Slots {
            sample: &mut sample,
            model_output: &vec![1.0 - k as f32; len],
            noise: &vec![0.0; len],
            pred_original_sample: &mut x0,
            memory: &mut memory,
        };
        apply(&row, slots).unwrap();
        assert_eq!(
            (&sample[..], &x0[..]),
            (&vec![expected; len][..], &vec![1.0 + k as f32; len][..]),
            "row {k}"
        );
    }
}

#[test]
fn what_no_row_reads_is_not_kept() {
    let row = Row { carried: Some(Combination::X), remember: Some(Combination::X0), ..ROW };
    let plain = run(&ROW, &[2.0], &[3.0], &[1.0]).unwrap();
    assert_eq!(run(&row, &[2.0], &[3.0], &[1.0]).unwrap(), plain);
}

#[test]
fn memory_of_another_length_is_refused_by_a_row_that_only_writes_it() {
    let reads = Row { next: Combination::HISTORY[0] + Combination::CARRIED, ..ROW };
    for writes in [
        Row { remember: Some(Combination::X0), ..ROW },
        Row { carried: Some(Combination::X), ..ROW },
    ] {
        let slots = Slots {
            sample: &mut [1.0, 1.0],
            model_output: &[1.0, 1.0],
            noise: &[1.0, 1.0],
            pred_original_sample: &mut [0.0, 0.0],
            memory: &mut Memory::new(&[reads], 1).unwrap(),
        };
        let error = apply(&writes, slots).unwrap_err();
        assert!(error.to_string().starts_with("memory: expected one made for"), "{error}");
    }
}

#[test]
fn learned_variance_is_read_per_element_from_the_second_half() {
    let variance = LearnedVariance { offset: -1.0, slope: 2.0 };
    let row = Row { learned_variance: Some(variance), ..ROW };
    let (next, _) = run(&row, &[1.0, 1.0], &[3.0, 3.0, 0.5, 1.0], &[1.0, 1.0]).unwrap();
    let without = 0.5 + 0.75 - 10.0;
    // Half the logarithm of the variance: 0 and 0.5.
    assert_eq!(next[0], without + 100.0);
    assert!((f64::from(next[1]) - (f64::from(without) + 100.0 * 0.5f64.exp())).abs() < 1e-4);
    let error = run(&row, &[1.0, 1.0], &[3.0, 3.0], &[1.0, 1.0]).unwrap_err();
    assert!(error.to_string().contains("expected 4 as the row reads a learned"), "{error}");
}

#[test]
fn dynamic_thresholding_divides_by_a_quantile_of_the_sample() {
    let dynamic = |ratio, max| Row {
        p_x: 0.0,
        p_m: 1.0,
        thresholding: Thresholding::Dynamic { ratio, max },
        next: Combination::X0,
        ..ROW
    };
    let m = [-4.0, 1.0, 2.0, 3.0, 0.5];
    // |m| sorted: 0.5 1 2 3 4; 0.875 of the way is position 3.5.
    let (next, x0) = run(&dynamic(0.875, 100.0), &[0.0; 5], &m, &[]).unwrap();
    let s = 3.5f32;
    assert_eq!(next, [-1.0, 1.0 / s, 2.0 / s, 3.0 / s, 0.5 / s]);
    assert_eq!(next, x0);
    // Held to max above, and to 1 below, where it is a plain clip.
    let (next, _) = run(&dynamic(1.0, 2.0), &[0.0; 5], &m, &[]).unwrap();
    assert_eq!(next, [-1.0, 0.5, 1.0, 1.0, 0.25]);
    let (next, _) = run(&dynamic(0.5, 100.0), &[0.0; 3], &[0.1, -0.7, 9.0], &[]).unwrap();
    assert_eq!(next, [0.1, -0.7, 1.0]);
}

#[test]
fn unequal_lengths_and_foreign_memory_are_refused_by_name() {
    for (m, z, named) in [
        (&[1.0][..], &[1.0, 1.0][..], "model_output: found 1 values, expected 2"),
        (&[1.0, 1.0], &[], "noise: found 0 values, expected 2"),
    ] {
        let error = run(&ROW, &[1.0, 2.0], m, z).unwrap_err();
        assert!(error.to_string().starts_with(named), "{error}");
    }
    let row = Row { next: Combination::CARRIED, ..ROW };
    let slots = Slots {
        sample: &mut [1.0],
        model_output: &[1.0],
        noise: &[],
        pred_original_sample: &mut [0.0],
        memory: &mut Memory::default(),
    };
    let error = apply(&row, slots).unwrap_err();
    assert!(error.to_string().starts_with("memory: expected one made for"), "{error}");
}

/// The matrix form of a row, applied to one element: what [`RowMatrix`] says of it, word for word.
fn by_matrix(row: &RowMatrix, state: [f32; STATE_PARTS], m: f32, v: f32, z: f32) -> Vec<f32> {
    let [p_x, p_m, least, most, offset, slope] = row.terms;
    let x0 = (p_x * f64::from(state[0]) + p_m * f64::from(m)).max(least).min(most);
    let z = f64::from(z) * (0.5 * (offset + slope * f64::from(v))).exp();
    let slots: Vec<f64> = state.iter().map(|&part| part.into()).chain([m.into(), x0, z]).collect();
    let made = row.matrix.iter().map(|row| row.iter().zip(&slots).map(|(c, s)| c * s).sum::<f64>());
    made.map(|value| value as f32).collect()
}

#[test]
fn a_row_as_a_matrix_makes_what_the_kernel_makes() {
    let all = |by: f64| Combination {
        x: 0.5 * by,
        m: -0.25,
        x0: 2.0,
        history: [1.0, -0.5, 0.125],
        carried: by,
        noise: 0.0,
    };
    let next = Combination { noise: 3.0, ..all(1.0) };
    let (carried, remember) = (Some(all(2.0)), Some(all(-1.0)));
    let full = Row { next, carried, remember, ..ROW };
    let learned = LearnedVariance { offset: -1.0, slope: 0.5 };
    let rows = [
        full,
        Row { carried: None, ..full },
        Row { remember: None, ..full },
        Row { thresholding: Thresholding::Off, learned_variance: Some(learned), ..full },
    ];
    // Powers of two, so that no sum rounds, but for the exponential.
    let (m, z) = (0.75f32, -0.5f32);
    let mut memory = Memory::new(&rows, 1).unwrap();
    let (mut sample, mut x0) = ([1.5f32], [0.0f32]);
    let mut state = [1.5, 0.0, 0.0, 0.0, 0.0, 0.0];
    for (k, row) in rows.iter().cycle().take(8).enumerate() {
        let v = k as f32 / 4.0;
        let shown = by_matrix(&RowMatrix::of(row, false).unwrap(), state, m, v, z)[STATE_PARTS];
        let made = by_matrix(&RowMatrix::of(row, true).unwrap(), state, m, v, z);
        state.copy_from_slice(&made[..STATE_PARTS]);
        let slots = Slots {
            sample: &mut sample,
            model_output: &[m, v],
            noise: &[z],
            pred_original_sample: &mut x0,
            memory: &mut memory,
        };
        apply(row, slots).unwrap();
        let [newest, second, third] = memory.history();
        let kept = [sample[0], memory.carried()[0], newest[0], second[0], third[0], x0[0]];
        for (found, expected) in state.iter().zip(kept) {
            assert!(
                (found - expected).abs() <= 1e-6 * expected.abs(),
                "row {k}: {state:?} {kept:?}"
            );
        }
        assert_eq!((shown, made[STATE_PARTS]), (state[5], state[0]), "row {k}");
    }
    let dynamic = Thresholding::Dynamic { ratio: 0.9, max: 2.0 };
    assert_eq!(RowMatrix::of(&Row { thresholding: dynamic, ..ROW }, false), None);
}
