//! Streams that share calls of the model.

use std::path::Path;

use ddpm::run::RunStart;

use super::*;

/// Steps all of them to their ends, each as often as it is ready, so that they meet in the queue in ever
/// other company; gives their last frames.
fn reveal_together(streams: &[Stream], side: usize) -> Vec<Vec<u8>> {
    let mut open: Vec<&Stream> = streams.iter().collect();
    while !open.is_empty() {
        open.retain(|stream| stream.step().unwrap() != StepOutcome::Done);
        if let Some(stream) = open.first() {
            assert!(stream.wait(None).unwrap());
        }
    }
    streams.iter().map(|stream| last_frame(stream, side)).collect()
}

fn last_frame(stream: &Stream, side: usize) -> Vec<u8> {
    assert!(stream.wait(None).unwrap());
    let mut pixels = vec![0; side * side * 4];
    let info = stream.copy_frame(&mut pixels, side * 4).unwrap().unwrap();
    assert_eq!(info.step, info.steps);
    pixels
}

/// The same picture but for rounding: providers may add in another order in another batch shape, which
/// after a whole run is below 1e-4, so that a value next to an edge falls to the next byte at most.
fn check_same(found: &[u8], expected: &[u8], what: &str) {
    let off = found.iter().zip(expected).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(off <= Some(1), "{what}: {off:?}");
}

#[test]
fn a_stream_among_others_reveals_the_picture_it_reveals_alone() {
    let portraits = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/portraits.onnx");
    let mut config = EngineConfig { model: portraits.into(), ..config("lin") };
    let of = |engine: &Engine| -> Vec<StreamConfig> {
        let model = engine.info().unwrap().model.clone();
        let kinds = Sampler::ALL.into_iter().filter(|kind| !kind.is_inverse());
        kinds
            .zip(0..)
            .map(|(kind, seed)| {
                StreamConfig::new(model.sampler_config(kind, 4 + seed % 3), seed as u64)
            })
            .collect()
    };
    let engine = Engine::new(config.clone()).unwrap();
    engine.wait(None).unwrap();
    let streams: Vec<Stream> =
        of(&engine).iter().map(|config| engine.stream(config).unwrap()).collect();
    let together = reveal_together(&streams, 16);
    config.max_batch = 1;
    let engine = Engine::new(config).unwrap();
    engine.wait(None).unwrap();
    for (found, config) in together.iter().zip(of(&engine)) {
        let alone = engine.stream(&config).unwrap();
        let expected = reveal_together(std::slice::from_ref(&alone), 16);
        check_same(found, &expected[0], config.sampler.unwrap().kind.name());
    }
}

#[test]
fn classes_and_guidance_stay_with_their_streams() {
    let engine = loaded("class_labels");
    let start = |label, guidance| RunStart { seed: 2, label, guidance, ..RunStart::default() };
    let starts = [
        start(Some(0), 1.0),
        start(Some(1), 3.0),
        start(None, 1.0),
        start(Some(2), 1.0),
        start(Some(2), 5.0),
    ];
    let configs = starts.map(|start| StreamConfig { start, ..few(6, 0) });
    let streams: Vec<Stream> = configs.iter().map(|c| engine.stream(c).unwrap()).collect();
    let together = reveal_together(&streams, 8);
    for (found, config) in together.iter().zip(&configs) {
        let alone = engine.stream(config).unwrap();
        check_same(found, reveal(&alone).last().unwrap(), &format!("{:?}", config.start));
    }
    // They do differ.
    assert!(together[1..].iter().all(|other| *other != together[0]));
}

#[test]
fn a_model_of_any_timestep_shape_or_fixed_batch_serves_many_streams() {
    // A scalar, one for all, one each; a batch fixed to 1 and to 2.
    for name in ["trec_f32_scalar", "trec_i64_one", "lin", "fixed_batch_1", "fixed_batch_2"] {
        let engine = loaded(name);
        let configs: Vec<_> = (0..5).map(|i| few(3 + i % 2, i as u64)).collect();
        let streams: Vec<Stream> = configs.iter().map(|c| engine.stream(c).unwrap()).collect();
        for (found, config) in reveal_together(&streams, 8).iter().zip(&configs) {
            let alone = engine.stream(config).unwrap();
            check_same(found, reveal(&alone).last().unwrap(), name);
        }
    }
}

#[test]
fn a_max_batch_out_of_range_is_refused() {
    let error = Engine::new(EngineConfig { max_batch: 257, ..config("lin") }).unwrap_err();
    assert_eq!(error.to_string(), "max_batch: found 257, expected 0 (automatic) to 256");
}
