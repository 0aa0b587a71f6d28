//! Frames as the host takes them: formats, rows, buffers, copies and loans.

use std::thread;

use ddpm::engine::FrameFormat;

use super::*;

/// A stream of the oracle after its one step, whose picture is the ramps of `clean_image`.
fn finished(engine: &Engine, format: FrameFormat) -> Stream {
    let stream = engine.stream(&StreamConfig { format, ..few(1, 0) }).unwrap();
    stream.step().unwrap();
    stream.wait(None).unwrap();
    stream
}

#[test]
fn rows_may_be_padded_and_a_buffer_that_is_too_small_costs_nothing() {
    let engine = loaded("oracle");
    let stream = finished(&engine, FrameFormat::Rgba8);
    let mut small = vec![9; 8 * 8 * 4 - 1];
    for (stride, named) in [(8 * 4, "frame buffer"), (8 * 4 - 1, "row_stride"), (0, "frame buffer")]
    {
        let error = stream.copy_frame(&mut small, stride).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().starts_with(named), "{error}");
    }
    let huge = stream.copy_frame(&mut small, usize::MAX).unwrap_err();
    assert_eq!(huge.kind(), ErrorKind::InvalidArgument);
    assert!(small.iter().all(|&byte| byte == 9));

    let stride = 8 * 4 + 5;
    // The last row ends without padding.
    let mut padded = vec![9; 7 * stride + 8 * 4];
    stream.copy_frame(&mut padded, stride).unwrap().unwrap();
    let expected = clean_image(1.0);
    for (y, row) in padded.chunks(stride).enumerate() {
        assert!(close_to(&row[..8 * 4], &expected[y * 8 * 4..(y + 1) * 8 * 4]));
        assert!(row[8 * 4..].iter().all(|&byte| byte == 9));
    }
}

#[test]
fn float_frames_are_the_models_values() {
    let engine = loaded("oracle");
    for (format, row, planar) in
        [(FrameFormat::RgbaF32, 8 * 16, false), (FrameFormat::PlanarF32, 8 * 4, true)]
    {
        let stream = finished(&engine, format);
        let frame = stream.acquire_frame().unwrap().unwrap();
        assert_eq!(stream.row_bytes(), row);
        let (values, rest) = frame.as_chunks();
        assert_eq!((values.len(), rest.len()), (if planar { 3 * 64 } else { 4 * 64 }, 0));
        for (index, &value) in values.iter().enumerate() {
            let (channel, pixel) =
                if planar { (index / 64, index % 64) } else { (index % 4, index / 4) };
            let (x, y) = ((pixel % 8) as f32 / 3.5 - 1.0, (pixel / 8) as f32 / 3.5 - 1.0);
            let clean = [x / 4.0, y / 2.0, (x + y) * 3.0 / 8.0, 1.0][channel];
            let expected = if planar { clean } else { (clean + 1.0) / 2.0 };
            // One step of the oracle divides noise of about 3 by sqrt(alphas_cumprod) = 0.006: its f32
            // roundings, 1e-7 of that, are some 1e-4.
            let found = f32::from_ne_bytes(value);
            assert!((found - expected).abs() < 1e-3, "{format:?} {index}: {found}, {expected}");
        }
    }
}

#[test]
fn an_acquired_frame_outlives_its_stream_and_may_cross_threads() {
    let engine = loaded("oracle");
    let stream = finished(&engine, FrameFormat::Rgba8);
    let frame = stream.acquire_frame().unwrap().unwrap();
    assert_eq!((frame.info().step, frame.info().generation), (1, 1));
    let mut pixels = frame.to_vec();
    assert_eq!(stream.acquire_frame().unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(stream.copy_frame(&mut pixels, 0).unwrap_err().kind(), ErrorKind::Busy);

    stream.reset(None).unwrap();
    stream.step().unwrap();
    stream.wait(None).unwrap();
    // Busy took nothing away; a thread that is done with the frame gives the next one free.
    let pixels = thread::spawn(move || frame.to_vec()).join().unwrap();
    let next = stream.acquire_frame().unwrap().unwrap();
    assert_eq!((next.info().step, next.info().generation), (1, 2));
    drop((engine, stream));
    assert_eq!(next.to_vec(), pixels);
    assert!(close_to(&pixels, &clean_image(1.0)));
}
