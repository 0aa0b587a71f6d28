//! The pictures of `ddpm run`: those of the library, to the byte.

use std::path::Path;
use std::sync::Arc;

use ddpm::image::to_byte;
use ddpm::onnx::{ModelSource, NamedTensors, OnnxDenoiser, OnnxOptions, Provider, TensorFile};
use ddpm::run::{Run, RunStart};
use ddpm::sampler::{Sampler, SamplerConfig};
use png::{BitDepth, ColorType};
use serde_json::json;

use crate::common::{Folder, model};
use crate::trajectory::golden_path;
use crate::{command, files_in, text};

/// Width, height, colour type and bytes of a PNG with 8 bits a channel.
fn read_png(path: &Path) -> (usize, usize, ColorType, Vec<u8>) {
    let file = std::io::BufReader::new(std::fs::File::open(path).unwrap());
    let mut reader = png::Decoder::new(file).read_info().unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut bytes).unwrap();
    assert_eq!(info.bit_depth, BitDepth::Eight);
    (info.width as usize, info.height as usize, info.color_type, bytes)
}

fn write_png(path: &Path, side: u32, color: ColorType, depth: BitDepth, bytes: &[u8]) {
    let mut encoder = png::Encoder::new(std::fs::File::create(path).unwrap(), side, side);
    encoder.set_color(color);
    encoder.set_depth(depth);
    if color == ColorType::Indexed {
        encoder.set_palette(vec![0, 0, 0, 255, 0, 51]);
        encoder.set_trns(vec![0, 255]);
    }
    encoder.write_header().unwrap().write_image_data(bytes).unwrap();
}

/// A network whose pictures depend on the seed.
fn network() -> std::path::PathBuf {
    golden_path("models/eps_linear.onnx")
}

/// The interleaved bytes of one planar sample.
fn pixels(sample: &[f32], channels: usize) -> Vec<u8> {
    let plane = sample.len() / channels;
    let at = |i: usize| to_byte(sample[i % channels * plane + i / channels]);
    (0..sample.len()).map(at).collect()
}

/// What the library makes of the network with this sampler and seed, alone in its batch.
fn drawn(sampler: &SamplerConfig, start: RunStart) -> Vec<f32> {
    let options = OnnxOptions { provider: Provider::Cpu, threads: 1, ..OnnxOptions::default() };
    let mut denoiser = OnnxDenoiser::load(&ModelSource::Path(network()), &options).unwrap();
    let model = denoiser.info().model.clone();
    let mut run = Run::starting(&model, sampler, start, 1).unwrap();
    while run.step(&mut denoiser).unwrap() {}
    run.sample().to_vec()
}

fn dpmpp(steps: usize) -> SamplerConfig {
    SamplerConfig { steps, order: Some(2), ..SamplerConfig::default().with_kind(Sampler::Dpmpp) }
}

fn seeded(seed: u64) -> RunStart {
    RunStart { seed, ..RunStart::default() }
}

#[test]
fn a_picture_is_that_of_the_library() {
    let folder = Folder::new("cli-picture");
    let output = folder.0.join("x.png");
    let options = "--sampler dpmpp-2m --steps 6 --seed 7 --json";
    let document = command("run", &network(), options, Some(&output)).json();
    let expected = pixels(&drawn(&dpmpp(6), seeded(7)), 3);
    assert_eq!(read_png(&output), (8, 8, ColorType::Rgb, expected));
    assert_eq!(files_in(&folder.0), ["x.png"]);
    assert_eq!(document["output"], text(&output));
    assert_eq!(document["seeds"], json!([7]));
    assert_eq!(document["timesteps"].as_array().unwrap().len(), 6);
    assert_eq!((&document["steps"], &document["batch"]), (&json!(6), &json!(1)));
    assert_eq!(document["sampler"]["order"], 2);
    for key in ["load", "run", "total"] {
        assert!(document["seconds"][key].as_f64().unwrap() > 0.0, "{document}");
    }
    assert!(document["milliseconds_per_step"].as_f64().unwrap() > 0.0);
}

/// The tile of a sheet, in interleaved bytes.
fn tile(
    sheet: &(usize, usize, ColorType, Vec<u8>),
    side: usize,
    column: usize,
    row: usize,
) -> Vec<u8> {
    let (width, _, color, bytes) = sheet;
    let samples = color.samples();
    (0..side)
        .flat_map(|y| {
            let start = ((row * side + y) * width + column * side) * samples;
            bytes[start..start + side * samples].to_vec()
        })
        .collect()
}

#[test]
fn a_sheet_has_the_pictures_of_the_seeds_that_follow() {
    let folder = Folder::new("cli-sheet");
    let output = folder.0.join("x.png");
    let options =
        "--sampler dpmpp-2m --steps 4 --seed 18446744073709551614 --count 5 --batch 1 --json";
    let document = command("run", &network(), options, Some(&output)).json();
    // The number after the largest is 0.
    let seeds = [u64::MAX - 1, u64::MAX, 0, 1, 2];
    assert_eq!(document["seeds"], json!(seeds));
    assert_eq!(document["grid"], json!({ "columns": 3, "rows": 2 }));
    let sheet = read_png(&output);
    assert_eq!((sheet.0, sheet.1), (24, 16));
    for (index, seed) in seeds.into_iter().enumerate() {
        let expected = pixels(&drawn(&dpmpp(4), seeded(seed)), 3);
        assert_eq!(tile(&sheet, 8, index % 3, index / 3), expected, "seed {seed}");
    }
    assert!(tile(&sheet, 8, 2, 1).iter().all(|&byte| byte == 0));

    // In a batch sums may be taken in another order: a byte may be its neighbour.
    let options = "--sampler dpmpp-2m --steps 4 --seed 18446744073709551614 --count 5 --batch 3";
    let batched = folder.0.join("batched.png");
    command("run", &network(), options, Some(&batched)).ok();
    let off = |(a, b): (&u8, &u8)| a.abs_diff(*b);
    assert!(sheet.3.iter().zip(&read_png(&batched).3).map(off).max().unwrap() <= 1);
}

#[test]
fn a_model_with_a_fixed_batch_makes_as_many_as_asked_for() {
    let folder = Folder::new("cli-fixed");
    let (fixed, open) = (folder.0.join("fixed.safetensors"), folder.0.join("open.safetensors"));
    let options = "--steps 3 --seed 5 --count 3";
    command("run", &model("fixed_batch_2"), options, Some(&fixed)).ok();
    command("run", &model("lin"), options, Some(&open)).ok();
    let sample = |path: &Path| {
        let file = TensorFile::read(path).unwrap();
        assert_eq!(file.shape("sample"), Some(&[3, 3, 8, 8][..]));
        file.f32("sample").unwrap()
    };
    // Both halve the sample, so the same bits come out.
    assert_eq!(sample(&fixed), sample(&open));
}

#[test]
fn strength_0_gives_the_image_back_to_the_byte() {
    let folder = Folder::new("cli-strength");
    let (input, output) = (folder.0.join("in.png"), folder.0.join("out.png"));
    for (name, color) in
        [("gray", ColorType::Grayscale), ("lin", ColorType::Rgb), ("rgba", ColorType::Rgba)]
    {
        let bytes: Vec<u8> = (0..64 * color.samples()).map(|i| (i * 31 % 256) as u8).collect();
        write_png(&input, 8, color, BitDepth::Eight, &bytes);
        let options = format!("--image {} --strength 0", text(&input));
        command("run", &model(name), &options, Some(&output)).ok();
        assert_eq!(read_png(&output), (8, 8, color, bytes), "{name}");
    }
}

#[test]
fn an_image_is_changed_as_far_as_the_strength_says() {
    let folder = Folder::new("cli-image");
    let (input, output) = (folder.0.join("in.png"), folder.0.join("out.png"));
    let bytes: Vec<u8> = (0..192).map(|i| (i * 31 % 256) as u8).collect();
    write_png(&input, 8, ColorType::Rgb, BitDepth::Eight, &bytes);
    let options = format!(
        "--image {} --strength 0.5 --sampler dpmpp-2m --steps 8 --seed 3 --json",
        text(&input)
    );
    let document = command("run", &network(), &options, Some(&output)).json();
    assert_eq!(document["steps"], 4);
    let planar: Arc<[f32]> =
        (0..192).map(|i| f32::from(bytes[i % 64 * 3 + i / 64]) / 127.5 - 1.0).collect();
    let sampler = SamplerConfig { strength: 0.5, ..dpmpp(8) };
    let expected = drawn(&sampler, RunStart { image: Some(planar), ..seeded(3) });
    // A level of the picture is a float32 rounded once here and twice there: 1e-7, which may take a
    // byte to its neighbour.
    let off = |(a, b): (&u8, &u8)| a.abs_diff(*b);
    let worst = read_png(&output).3.iter().zip(&pixels(&expected, 3)).map(off).max().unwrap();
    assert!(worst <= 1, "{worst}");
}

#[test]
fn every_png_colour_type_becomes_the_models_channels() {
    let folder = Folder::new("cli-colors");
    let (input, output) = (folder.0.join("in.png"), folder.0.join("out.png"));
    // One pixel's bytes, and what becomes of it in a gray, an rgb and an rgba model.
    type Case<'a> = (ColorType, BitDepth, &'a [u8], u8, [u8; 3], [u8; 4]);
    let cases: [Case<'_>; 7] = [
        (ColorType::Grayscale, BitDepth::Eight, &[77], 77, [77; 3], [77, 77, 77, 255]),
        (ColorType::Grayscale, BitDepth::Sixteen, &[77, 77], 77, [77; 3], [77, 77, 77, 255]),
        // Over black; where there is alpha it is kept, and the colour as it is.
        (ColorType::GrayscaleAlpha, BitDepth::Eight, &[200, 51], 40, [40; 3], [200, 200, 200, 51]),
        // 0.299 100 + 0.587 150 + 0.114 200 = 140.75.
        (
            ColorType::Rgb,
            BitDepth::Eight,
            &[100, 150, 200],
            141,
            [100, 150, 200],
            [100, 150, 200, 255],
        ),
        (ColorType::Rgba, BitDepth::Eight, &[100, 150, 200, 0], 0, [0; 3], [100, 150, 200, 0]),
        // The palette's second colour: 0.299 255 + 0.114 51 = 82.06.
        (ColorType::Indexed, BitDepth::Eight, &[1], 82, [255, 0, 51], [255, 0, 51, 255]),
        // Its first is transparent.
        (ColorType::Indexed, BitDepth::Eight, &[0], 0, [0; 3], [0; 4]),
    ];
    for (color, depth, pixel, gray, rgb, rgba) in cases {
        write_png(&input, 8, color, depth, &pixel.repeat(64));
        for (name, expected) in [("gray", &[gray][..]), ("lin", &rgb[..]), ("rgba", &rgba[..])] {
            let options = format!("--image {} --strength 0", text(&input));
            command("run", &model(name), &options, Some(&output)).ok();
            assert_eq!(read_png(&output).3, expected.repeat(64), "{color:?} {depth:?} {name}");
        }
    }
}

#[test]
fn an_image_of_another_size_is_refused_with_both_sizes() {
    let folder = Folder::new("cli-size");
    let (input, output) = (folder.0.join("in.png"), folder.0.join("out.png"));
    write_png(&input, 9, ColorType::Grayscale, BitDepth::Eight, &[0; 81]);
    let options = format!("--image {}", text(&input));
    let done = command("run", &model("lin"), &options, Some(&output));
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.stderr.contains("found a picture of 9x9 pixels, expected 8x8"), "{done:?}");
    assert_eq!(files_in(&folder.0), ["in.png"]);
}

#[test]
fn a_class_is_a_name_or_a_number_and_guidance_goes_beyond_it() {
    let folder = Folder::new("cli-class");
    let output = folder.0.join("x.safetensors");
    let sample = |options: &str| {
        let options = format!("--steps 2 --clip off {options}");
        command("run", &model("class_labels"), &options, Some(&output)).ok();
        TensorFile::read(&output).unwrap().f32("sample").unwrap()
    };
    let (owl, cat) = (sample("--class owl"), sample("--class cat"));
    assert_eq!(owl, sample("--class 2"));
    assert_ne!(owl, cat);
    // u + s (c - u) is 4x without a class, x for the cat: at scale 2 it is -2x.
    assert_ne!(sample("--class cat --guidance 2"), cat);
    assert_eq!(sample("--class cat --guidance 1"), cat);
    assert_eq!(sample("--class cat --guidance 0"), sample(""));
}

#[test]
fn noise_from_a_picture_gives_the_picture_back() {
    let folder = Folder::new("cli-inverse");
    let [input, noise, given, trace] =
        ["in.png", "noise.safetensors", "given.safetensors", "trace.safetensors"]
            .map(|name| folder.0.join(name));
    let bytes: Vec<u8> = (0..192).map(|i| 96 + (i % 64)).collect();
    write_png(&input, 8, ColorType::Rgb, BitDepth::Eight, &bytes);
    let sampling = "--steps 100 --clip off";
    let options = format!("--sampler ddim-inverse {sampling} --image {}", text(&input));
    command("run", &network(), &options, Some(&noise)).ok();
    let mut tensors = NamedTensors::new();
    let x_t = TensorFile::read(&noise).unwrap().f32("sample").unwrap();
    tensors.push_f32("x_T", &[3, 8, 8], &x_t).unwrap();
    std::fs::write(&given, tensors.to_bytes(&[]).unwrap()).unwrap();
    let options = format!("--noise {} --sampler ddim {sampling}", text(&given));
    command("trace", &network(), &options, Some(&trace)).ok();
    let back = TensorFile::read(&trace).unwrap().f32("prev.99").unwrap();
    let planar = (0..192).map(|i| f32::from(bytes[i % 64 * 3 + i / 64]) / 127.5 - 1.0);
    let worst = back.iter().zip(planar).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    // The inversion takes the network to be the same at neighbouring steps, which it is to 0.08
    // with 100 of them. Other noise gives a picture that is off by more than 1.
    println!("{worst} off");
    assert!(worst < 0.1, "{worst}");
}

#[test]
fn trace_draws_the_seeds_noise_where_the_file_has_none() {
    let folder = Folder::new("cli-trace-seed");
    let (given, trace) = (folder.0.join("given.safetensors"), folder.0.join("trace.safetensors"));
    let sampler = SamplerConfig { steps: 5, ..SamplerConfig::default() };
    let options = OnnxOptions { provider: Provider::Cpu, threads: 1, ..OnnxOptions::default() };
    let denoiser = OnnxDenoiser::load(&ModelSource::Path(network()), &options).unwrap();
    let start = Run::new(&denoiser.info().model, &sampler, 9, 1).unwrap();
    let mut tensors = NamedTensors::new();
    tensors.push_f32("x_T", &[1, 3, 8, 8], start.sample()).unwrap();
    std::fs::write(&given, tensors.to_bytes(&[]).unwrap()).unwrap();
    let options = format!("--noise {} --seed 9 --steps 5", text(&given));
    let done = command("trace", &network(), &options, Some(&trace)).ok();
    let note = "ddpm: note: noise of 4 of 5 steps is not in the file: that of seed 9 is used\n";
    assert_eq!(done.stderr, note);
    let trace = TensorFile::read(&trace).unwrap();
    assert_eq!(trace.f32("prev.4").unwrap(), drawn(&sampler, seeded(9)));
    assert!(trace.shape("noise.3").is_some() && trace.shape("noise.4").is_none());
    let config: serde_json::Value =
        serde_json::from_str(trace.metadata("config").unwrap()).unwrap();
    assert_eq!((&config["seed"], &config["sampler"]["steps"]), (&json!(9), &json!(5)));

    // The last two of five steps, from a sample in the middle.
    let mut tensors = NamedTensors::new();
    tensors.push_f32("x_T", &[1, 3, 8, 8], &trace.f32("x.3").unwrap()).unwrap();
    tensors.push_f32("noise.0", &[1, 3, 8, 8], &trace.f32("noise.3").unwrap()).unwrap();
    let (middle, rest) = (folder.0.join("middle.safetensors"), folder.0.join("rest.safetensors"));
    std::fs::write(&middle, tensors.to_bytes(&[]).unwrap()).unwrap();
    let options = format!("--noise {} --steps 5 --strength 0.4 --json", text(&middle));
    let said = command("trace", &network(), &options, Some(&rest)).json();
    assert_eq!((&said["steps"], &said["config"]["sampler"]["strength"]), (&json!(2), &json!(0.4)));
    let rest = TensorFile::read(&rest).unwrap();
    assert_eq!(rest.f32("prev.1").unwrap(), trace.f32("prev.4").unwrap());

    let wrong = format!("--noise {} --steps 5", text(&given));
    let done = command("trace", &model("gray"), &wrong, Some(&folder.0.join("y.safetensors")));
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.stderr.contains("x_T: found [1, 3, 8, 8], expected [1, 1, 8, 8]"), "{done:?}");
}

#[test]
fn a_fixed_batch_is_traced_as_one() {
    let folder = Folder::new("cli-trace-fixed");
    let given = folder.0.join("given.safetensors");
    let mut tensors = NamedTensors::new();
    tensors.push_f32("x_T", &[1, 3, 8, 8], &[0.5; 192]).unwrap();
    std::fs::write(&given, tensors.to_bytes(&[]).unwrap()).unwrap();
    let traced = |name: &str| {
        let trace = folder.0.join(format!("{name}.safetensors"));
        let options = format!("--noise {} --steps 3", text(&given));
        command("trace", &model(name), &options, Some(&trace)).ok();
        TensorFile::read(&trace).unwrap().f32("prev.2").unwrap()
    };
    assert_eq!(traced("fixed_batch_2"), traced("lin"));
}
