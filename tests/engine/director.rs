//! What the director is for, on a real model: a picture that appears evenly.

use super::*;

/// How far each frame's picture is from the last one's.
fn distances(engine: &Engine, kind: Sampler, preview: Preview, director: bool) -> Vec<f64> {
    let model = &engine.info().unwrap().model;
    let config = StreamConfig {
        sampler: Some(model.sampler_config(kind, 30)),
        preview,
        director,
        ..StreamConfig::default()
    };
    let stream = engine.stream(&config).unwrap();
    // Not the pilot's, which is 0.
    stream.reset(Some(21)).unwrap();
    let mut pixels = vec![0; 16 * 16 * 4];
    let mut frames: Vec<Vec<u8>> = Vec::new();
    while stream.step().unwrap() == StepOutcome::Accepted {
        assert!(stream.wait(None).unwrap());
        stream.copy_frame(&mut pixels, 0).unwrap().unwrap();
        frames.push(pixels.clone());
    }
    let last = frames.last().unwrap();
    let distance = |frame: &Vec<u8>| {
        let squares = frame.iter().zip(last).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2));
        squares.sum::<f64>().sqrt()
    };
    frames.iter().map(distance).collect()
}

#[test]
fn half_of_a_directed_picture_is_there_about_half_way() {
    let portraits = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/portraits.onnx");
    let engine = Engine::new(EngineConfig { model: portraits.into(), ..config("lin") }).unwrap();
    assert!(engine.wait(None).unwrap());
    for (kind, preview, plain) in [
        // With equal timesteps of a cosine schedule half of a sample is there after two thirds of them; a
        // prediction stands at the start.
        (Sampler::Ddim, Preview::Sample, 19..=22),
        (Sampler::Ddpm, Preview::Sample, 19..=22),
        (Sampler::Dpmpp, Preview::PredOriginalSample, 0..=10),
    ] {
        let half = |director| {
            let distances = distances(&engine, kind, preview, director);
            distances.iter().filter(|&&distance| distance > 0.5 * distances[0]).count()
        };
        // A quarter of the timesteps is spread evenly, and no two pictures appear alike.
        let (found, directed) = (half(false), half(true));
        assert!(plain.contains(&found), "{kind} {preview:?}: plainly after {found} of 30 steps");
        assert!((12..=18).contains(&directed), "{kind} {preview:?}: after {directed} of 30 steps");
    }
}
