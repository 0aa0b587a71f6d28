//! From a run to pixels: order, origin and values are exact.

use ddpm::image::{Color, to_rgba8};
use ddpm::model::ModelConfig;

use super::models::{clipped, oracle, samplers};

#[test]
fn ramps_come_out_of_a_run_as_the_exact_pixels() {
    for (width, height) in [(28, 28), (33, 33), (1, 1), (64, 96)] {
        let value = |byte: usize| byte as f32 / 127.5 - 1.0;
        // Red is x, green is y, blue is 255.
        let mut c = Vec::new();
        for channel in 0..3 {
            for y in 0..height {
                c.extend((0..width).map(|x| value([x, y, 255][channel])));
            }
        }
        for (form, config) in samplers(20) {
            let mut model = oracle(ModelConfig::ddpm(3, height, width), c.clone());
            let run = model.run(&clipped(config, 1.0), 2, 1);
            let mut pixels = vec![0; width * height * 4];
            to_rgba8(run.sample(), Color::Rgb, height, width, &mut pixels, width * 4).unwrap();
            for (index, pixel) in pixels.chunks(4).enumerate() {
                let expected = [index % width, index / width, 255, 255].map(|byte| byte as u8);
                let what = format!("{} {width}x{height} pixel {index}", form.name());
                assert_eq!(pixel, expected, "{what}");
            }
        }
    }
}
