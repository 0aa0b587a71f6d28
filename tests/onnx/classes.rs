//! Class labels, and outputs of 2C channels.

use super::*;

/// The label for no class, and the outputs of these labels over the sample, which are its scale.
fn scales(denoiser: &mut OnnxDenoiser, labels: &[i64]) -> Vec<f32> {
    let timesteps = vec![0.0; labels.len()];
    let (sample, output) = predict_class(denoiser, &timesteps, labels).unwrap();
    let items = sample.outer_iter().zip(output.outer_iter());
    items
        .map(|(sample, output)| {
            let scale = output[[0, 0, 1]] / sample[[0, 0, 1]];
            assert_eq!(output, &sample * scale);
            scale
        })
        .collect()
}

#[test]
fn class_labels_are_fed_in_whatever_type_is_declared() {
    for name in ["class_labels", "class_labels_i32", "class_labels_no_null"] {
        let mut denoiser = load(name).unwrap();
        assert_eq!(denoiser.info().classes, ["cat", "dog", "owl"]);
        assert_eq!(denoiser.config().classes.unwrap().count, Some(3));
        assert_eq!(scales(&mut denoiser, &[2, 0, 1]), [3.0, 1.0, 2.0], "{name}");
    }
    let mut fixed = load("class_labels_fixed").unwrap();
    assert_eq!(fixed.info().fixed_batch, Some(2));
    assert_eq!(scales(&mut fixed, &[1, 3]), [2.0, 4.0]);
}

#[test]
fn the_label_after_the_last_is_no_class_where_the_model_has_it() {
    let null = |name: &str| load(name).unwrap().config().classes.unwrap();
    let some = Classes { count: Some(3), null: Some(3) };
    for name in ["class_labels", "class_labels_i32", "class_labels_one", "class_labels_fixed"] {
        assert_eq!(null(name), some, "{name}");
    }
    assert_eq!(null("class_labels_no_null"), Classes { count: Some(3), null: None });
    assert_eq!(null("class_labels_unnamed"), Classes { count: None, null: None });
    assert_eq!(load("lin").unwrap().config().classes, None);
}

#[test]
fn a_model_without_a_label_for_no_class_says_so_and_the_runtime_stays_silent() {
    let (log, seen) = recording();
    let options = OnnxOptions { log, ..cpu() };
    OnnxDenoiser::load(&ModelSource::from(&model("class_labels_no_null")), &options).unwrap();
    let seen = seen.lock().unwrap();
    let lines = seen.iter().filter(|line| line.contains("no label for no class"));
    assert_eq!(lines.count(), 1, "{seen:?}");
    assert!(!seen.iter().any(|line| line.contains("ONNX Runtime: ")), "{seen:?}");
}

#[test]
fn the_caller_says_how_many_classes_there_are_and_which_label_is_none() {
    let classes = |name: &str, class_count, null_label| {
        let overrides = ModelOverrides { class_count, null_label, ..ModelOverrides::default() };
        with(name, overrides).map(|loaded| loaded.config().classes.unwrap())
    };
    let found = classes("class_labels_unnamed", Some(3), None).unwrap();
    assert_eq!(found, Classes { count: Some(3), null: Some(3) });
    let found = classes("class_labels_unnamed", None, Some(0)).unwrap();
    assert_eq!(found, Classes { count: None, null: Some(0) });
    let found = classes("class_labels", Some(4), None).unwrap();
    assert_eq!(found, Classes { count: Some(4), null: None });
    let error = classes("class_labels", None, Some(9)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Model);
    let expected = "null_label: found 9, which the model does not run with";
    assert!(error.to_string().contains(expected), "{error}");
    for (class_count, null_label) in [(Some(3), None), (None, Some(3))] {
        let overrides = ModelOverrides { class_count, null_label, ..ModelOverrides::default() };
        let error = with("lin", overrides).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains("no input of the model takes class labels"), "{error}");
    }
}

#[test]
fn a_label_input_of_another_name_is_named_by_the_caller() {
    let overrides = ModelOverrides {
        label_input: Some("b".to_owned()),
        class_count: Some(3),
        ..ModelOverrides::default()
    };
    let mut denoiser = with("two_integers", overrides).unwrap();
    assert_eq!(scales(&mut denoiser, &[0, 3]), [1.0, 4.0]);
}

#[test]
fn labels_that_the_model_does_not_have_are_refused() {
    let refused = |name: &str, labels: &[i64], expected: &str| {
        let error = predict_class(&mut load(name).unwrap(), &[0.0, 0.0], labels).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    };
    refused("class_labels", &[], "labels: found 0, expected 2");
    refused("class_labels", &[0], "labels: found 1, expected 2");
    refused("class_labels", &[0, 4], "class: found 4, expected 0 to 2");
    refused("class_labels", &[-1, 0], "class: found -1, expected 0 to 2");
    refused("class_labels_no_null", &[0, 3], "class: found 3, expected 0 to 2");
    refused("lin", &[0, 0], "labels: found 2, but the model has no classes");
    let class_count = Some(1 << 40);
    let overrides = ModelOverrides { class_count, ..ModelOverrides::default() };
    let mut denoiser = with("class_labels_i32", overrides).unwrap();
    let error = predict_class(&mut denoiser, &[0.0], &[1 << 33]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    let expected = "class: found 8589934592, but input \"y\" is int32";
    assert!(error.to_string().contains(expected), "{error}");
}

#[test]
fn one_label_input_takes_a_batch_that_agrees_and_refuses_one_that_does_not() {
    let mut denoiser = load("class_labels_one").unwrap();
    assert_eq!(scales(&mut denoiser, &[2, 2]), [3.0, 3.0]);
    let error = predict_class(&mut denoiser, &[0.0, 0.0], &[1, 2]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("\"y\" takes 1 label for the whole batch"), "{error}");
}

#[test]
fn a_golden_of_a_class_is_verified_with_its_label() {
    load("class_labels_golden").unwrap();
    load("class_labels_golden_0").unwrap();
}

#[test]
fn a_class_is_guided_away_from_none() {
    let mut denoiser = load("class_labels").unwrap();
    let model = denoiser.config().clone();
    let sampler = model.sampler_config(Sampler::Ddim, 1);
    let start = RunStart { label: Some(1), guidance: 3.0, ..RunStart::default() };
    let mut run = Run::starting(&model, &sampler, start, 1).unwrap();
    let x = run.sample().to_vec();
    run.step(&mut denoiser).unwrap();
    // u + 3 (c - u) with c = 2 x and u = 4 x.
    let expected: Vec<f32> = x.iter().map(|x| 4.0 * x + 3.0 * (2.0 * x - 4.0 * x)).collect();
    assert_eq!(run.model_output(), expected);
}

#[test]
fn an_output_of_twice_the_channels_gives_a_variance() {
    for (name, channels) in [("learned_range", 3), ("gray_variance", 1)] {
        let mut denoiser = load(name).unwrap();
        let model = denoiser.config();
        assert!(model.gives_variance && model.output_channels() == 2 * channels, "{name}");
        assert_eq!(model.sampler.variance_type, VarianceType::LearnedRange, "{name}");
        let (sample, output) = predict(&mut denoiser, &[0.0, 0.0]).unwrap();
        assert_eq!(output.dim(), (2, 2 * channels, 8, 8));
        for half in [0, channels] {
            let half = output.slice(ndarray::s![.., half..half + channels, .., ..]);
            assert_eq!(half, sample, "{name}");
        }
    }
    let unused = load("unused_variance").unwrap();
    assert_eq!(unused.config().sampler.variance_type, VarianceType::FixedLarge);
    assert!(unused.config().gives_variance);
    // The graph leaves its channels open, and the metadata says that there is a variance.
    let mut open = load("open_variance").unwrap();
    assert_eq!(open.config().sampler.variance_type, VarianceType::Learned);
    assert_eq!(predict(&mut open, &[0.0]).unwrap().1.dim(), (1, 6, 8, 8));
}

#[test]
fn a_variance_that_the_model_does_not_give_is_refused_with_names() {
    let expected = ["learned_range (metadata ddpm.variance_type)", "\"out_sample\" of 3 channels"];
    refused("missing_variance", ErrorKind::Model, &expected);
    let variance_type = Some(VarianceType::Learned);
    let error =
        with("lin", ModelOverrides { variance_type, ..ModelOverrides::default() }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Model);
    let expected = "variance_type: found learned (given when loading) with output \"out_sample\" of 3 channels, expected 6";
    assert!(error.to_string().contains(expected), "{error}");
    let variance_type = Some(VarianceType::FixedLarge);
    let given =
        with("missing_variance", ModelOverrides { variance_type, ..ModelOverrides::default() });
    assert_eq!(given.unwrap().config().sampler.variance_type, VarianceType::FixedLarge);
}

#[test]
fn a_learned_variance_is_used_item_by_item() {
    let sample = |seed, batch, variance_type: Option<VarianceType>| {
        let mut denoiser =
            with("learned_range", ModelOverrides { variance_type, ..ModelOverrides::default() })
                .unwrap();
        let model = denoiser.config().clone();
        let sampler = model.sampler_config(Sampler::Ddpm, 4);
        let mut run = Run::new(&model, &sampler, seed, batch).unwrap();
        while run.step(&mut denoiser).unwrap() {}
        run.sample().to_vec()
    };
    let both = sample(7, 2, None);
    let (first, second) = both.split_at(both.len() / 2);
    assert_eq!(first, sample(7, 1, None));
    assert_eq!(second, sample(8, 1, None));
    assert_ne!(first, sample(7, 1, Some(VarianceType::FixedSmall)));
}
