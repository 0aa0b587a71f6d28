//! Models of diffusers as checkpoints, against outputs of diffusers (import/generate.py).

mod common;

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use common::{copy_files, folder, write_run};
use ddpm::model::Denoiser;
use ddpm::onnx::{ModelSource, OnnxDenoiser, OnnxOptions};
use ddpm::sampler::Thresholding;
use ddpm_train::checkpoint::Checkpoint;
use ddpm_train::config::Config;
use ddpm_train::export::{Precision, export};
use ddpm_train::fit::fit;
use ddpm_train::forward::BurnDenoiser;
use ddpm_train::import::{import, write};
use ddpm_train::network::{Downsample, Padding};
use ddpm_train::resume::Begin;
use ndarray::Array4;
use safetensors::SafeTensors;

const CASES: [&str; 2] = ["paper", "classes"];

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import").join(name)
}

/// A copy of a model's folder, to be changed.
fn copy(name: &str, of: &str) -> PathBuf {
    let folder = folder(name);
    copy_files(&source(of), &folder);
    folder
}

/// Changes a file of JSON.
fn edit(path: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    let text = std::fs::read_to_string(path).unwrap();
    let mut json = serde_json::from_str(&text).unwrap();
    change(&mut json);
    std::fs::write(path, json.to_string()).unwrap();
}

struct Reference {
    sample: Array4<f32>,
    timesteps: Vec<f64>,
    labels: Vec<i64>,
    output: Array4<f32>,
}

impl Reference {
    fn read(name: &str) -> Self {
        let bytes = std::fs::read(source(name).join("reference.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let image = |name: &str| {
            let view = file.tensor(name).unwrap();
            let shape: [usize; 4] = view.shape().try_into().unwrap();
            let values = view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
            Array4::from_shape_vec(shape, values.collect()).unwrap()
        };
        let integers = |name: &str| -> Vec<i64> {
            let Ok(view) = file.tensor(name) else { return Vec::new() };
            view.data().as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect()
        };
        Self {
            sample: image("sample"),
            timesteps: integers("timestep").into_iter().map(|t| t as f64).collect(),
            labels: integers("class_labels"),
            output: image("output"),
        }
    }

    fn worst(&self, denoiser: &mut dyn Denoiser) -> f32 {
        let mut out = Array4::zeros(self.output.dim());
        let sample = self.sample.view();
        denoiser.predict(sample, &self.timesteps, &self.labels, out.view_mut()).unwrap();
        (&out - &self.output).iter().fold(0f32, |m, d| m.max(d.abs()))
    }
}

#[test]
fn imported_models_give_what_diffusers_gave_here_and_in_their_exports() {
    for name in CASES {
        let folder = folder(&format!("import_{name}"));
        let reference = Reference::read(name);
        let size = reference.output.iter().fold(0f32, |m, v| m.max(v.abs()));
        let imported = import(&source(name), &Device::flex()).unwrap();
        assert!(imported.notes.is_empty(), "{:?}", imported.notes);
        write(&folder.join("model.safetensors"), &imported, &Device::flex()).unwrap();

        let checkpoint = Checkpoint::read(&folder.join("model.safetensors")).unwrap();
        let parameters = checkpoint.ema(&Device::flex()).unwrap();
        let config = &checkpoint.config;
        let onnx = folder.join("model.onnx");
        export(&onnx, config, &parameters, Precision::F32, &Device::flex()).unwrap();
        let mut here = BurnDenoiser::new(config, parameters, Device::flex()).unwrap();
        let worst = reference.worst(&mut here);
        assert!(worst <= 1e-4 && size > 0.5, "{name}: {worst} of {size}");
        let options = OnnxOptions::default();
        let mut exported = OnnxDenoiser::load(&ModelSource::Path(onnx), &options).unwrap();
        let worst = reference.worst(&mut exported);
        assert!(worst <= 1e-4, "{name}, exported: {worst}");
    }
}

#[test]
fn imported_process_is_that_of_the_scheduler() {
    let paper = import(&source("paper"), &Device::flex()).unwrap().config;
    assert_eq!(paper.diffusion.prediction_type, "epsilon");
    assert_eq!(paper.diffusion.variance_type, "fixed_large");
    assert_eq!(paper.model.downsample, Downsample::End);
    let classes = import(&source("classes"), &Device::flex()).unwrap().config;
    assert_eq!(classes.diffusion.prediction_type, "v_prediction");
    assert_eq!(classes.diffusion.beta_schedule, "squaredcos_cap_v2");
    assert_eq!(classes.diffusion.variance_type, "learned_range");
    assert_eq!(classes.data.class_names, ["0", "1", "2"]);
    assert_eq!((classes.data.height, classes.data.width), (4, 8));

    let bare = copy("import_bare", "paper");
    std::fs::remove_file(bare.join("scheduler_config.json")).unwrap();
    let bare = import(&bare, &Device::flex()).unwrap();
    assert_eq!(bare.config.diffusion.variance_type, "fixed_small");
    assert!(bare.notes[0].contains("no scheduler_config.json"), "{:?}", bare.notes);

    // How samples are drawn is kept as far as a checkpoint can, and said where it cannot.
    let other = |name: &str, changes: &[(&str, serde_json::Value)]| {
        let folder = copy(name, "paper");
        edit(&folder.join("scheduler_config.json"), |json| {
            changes.iter().for_each(|(key, value)| json[*key] = value.clone());
        });
        import(&folder, &Device::flex()).unwrap()
    };
    let short = [("num_train_timesteps", 20.into()), ("clip_sample", false.into())];
    let short = other("import_short", &short);
    assert!(short.notes.is_empty(), "{:?}", short.notes);
    assert_eq!(short.config.report.sample_steps, 20);
    let thresholding = short.config.model_config().unwrap().sampler.thresholding;
    assert_eq!(thresholding, Thresholding::Off);
    let text = toml::to_string(&short.config).unwrap();
    assert_eq!(toml::from_str::<Config>(&text).unwrap(), short.config);
    let parameters = short.parameters.clone();
    let onnx = folder("import_unclipped").join("model.onnx");
    export(&onnx, &short.config, &parameters, Precision::F32, &Device::flex()).unwrap();
    let exported = OnnxDenoiser::load(&ModelSource::Path(onnx), &OnnxOptions::default()).unwrap();
    assert_eq!(exported.config().sampler.thresholding, Thresholding::Off);
    for (key, value) in [("thresholding", true.into()), ("clip_sample_range", 2.into())] {
        let imported = other("import_thresholds", &[(key, value)]);
        let [note] = &imported.notes[..] else { panic!("{key}: {:?}", imported.notes) };
        assert!(note.contains(key) && note.contains("--scheduler"), "{note}");
    }

    // The folder of a pipeline.
    let pipeline = folder("import_pipeline");
    std::fs::rename(copy("import_pipeline_unet", "paper"), pipeline.join("unet")).unwrap();
    std::fs::create_dir(pipeline.join("scheduler")).unwrap();
    let name = "scheduler_config.json";
    std::fs::rename(pipeline.join("unet").join(name), pipeline.join("scheduler").join(name))
        .unwrap();
    assert_eq!(import(&pipeline, &Device::flex()).unwrap().config, paper);
}

/// Of a hundred numbers; diffusers' have a thousand.
const LONG_LIST: &str = concat!(
    "[0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, ",
    "0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, ",
    "0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125]"
);

#[test]
fn what_cannot_be_expressed_is_refused_by_name() {
    let cases = [
        ("config.json", "resnet_time_scale_shift", r#""scale_shift""#),
        ("config.json", "act_fn", r#""gelu""#),
        ("config.json", "add_attention", "false"),
        ("config.json", "downsample_type", r#""resnet""#),
        ("config.json", "time_embedding_type", r#""fourier""#),
        ("config.json", "class_embed_type", r#""timestep""#),
        ("config.json", "center_input_sample", "true"),
        ("config.json", "mid_block_scale_factor", "1.5"),
        ("config.json", "mid_block_type", "null"),
        ("config.json", "attn_norm_num_groups", "2"),
        ("config.json", "downsample_padding", "2"),
        ("config.json", "sample_size", "null"),
        ("config.json", "in_channels", "5"),
        ("config.json", "out_channels", "6"),
        ("config.json", "down_block_types", r#"["DownBlock2D", "SkipDownBlock2D"]"#),
        ("config.json", "up_block_types", r#"["UpBlock2D", "AttnUpBlock2D"]"#),
        ("config.json", "_class_name", r#""UNet2DConditionModel""#),
        ("config.json", "cross_attention_dim", "768"),
        ("config.json", "norm_num_groups", r#""four""#),
        ("scheduler_config.json", "trained_betas", "[0.1]"),
        ("scheduler_config.json", "trained_betas", LONG_LIST),
        ("scheduler_config.json", "num_train_timesteps", r#""10""#),
        ("scheduler_config.json", "num_train_timesteps", "-5"),
        ("scheduler_config.json", "num_train_timesteps", "0"),
        ("scheduler_config.json", "clip_sample", r#""no""#),
        ("scheduler_config.json", "_class_name", r#""FlowMatchEulerDiscreteScheduler""#),
        ("scheduler_config.json", "prediction_type", r#""flow""#),
        ("scheduler_config.json", "variance_type", r#""learned_range""#),
    ];
    for (index, (file, key, value)) in cases.into_iter().enumerate() {
        let folder = copy(&format!("import_refused_{index}"), "paper");
        edit(&folder.join(file), |json| {
            json[key] = serde_json::from_str(value).unwrap();
            if value.contains("FlowMatch") {
                json.as_object_mut().unwrap().remove("beta_start");
            }
        });
        let Err(error) = import(&folder, &Device::flex()) else {
            panic!("{key} = {value}: imported")
        };
        let message = format!("{error:#}");
        let expected = if value.contains("FlowMatch") { "beta_start" } else { key };
        assert!(message.contains(expected), "{key} = {value}: {message}");
        assert!(message.contains(folder.to_str().unwrap()), "{key} = {value}: {message}");
        assert!(message.len() < 400, "{message}");
    }
}

#[test]
fn weights_that_are_missing_or_too_many_are_refused_by_name() {
    let folder = copy("import_weights", "paper");
    let weights = folder.join("diffusion_pytorch_model.safetensors");
    let refused = || format!("{:#}", import(&folder, &Device::flex()).err().unwrap());
    let change = |from: &str, to: &str| {
        let text = std::fs::read_to_string(folder.join("config.json")).unwrap();
        assert!(text.contains(from));
        std::fs::write(folder.join("config.json"), text.replace(from, to)).unwrap();
    };
    change("\"AttnUpBlock2D\"", "\"UpBlock2D\"");
    assert!(refused().contains("up_blocks.0.attentions"), "{}", refused());
    change("\"UpBlock2D\",\n    \"UpBlock2D\"", "\"AttnUpBlock2D\",\n    \"UpBlock2D\"");
    change("\"layers_per_block\": 1", "\"layers_per_block\": 2");
    assert!(refused().contains("no tensor \"down_blocks.0.resnets.1."), "{}", refused());
    change("\"layers_per_block\": 2", "\"layers_per_block\": 1");
    change("\"time_embedding_dim\": null", "\"time_embedding_dim\": 32");
    let message = refused();
    assert!(
        message.contains("time_embedding.linear_1.weight\": found shape [16, 4], expected [32, 4]"),
        "{message}"
    );

    change("\"time_embedding_dim\": 32", "\"time_embedding_dim\": null");
    let mut bytes = std::fs::read(&weights).unwrap();
    let end = bytes.len() - 4;
    bytes[end..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&weights, &bytes).unwrap();
    assert!(refused().contains("found a value of NaN, expected finite"), "{}", refused());

    std::fs::write(&weights, "{}").unwrap();
    assert!(refused().contains("not a safetensors file"), "{}", refused());
    std::fs::remove_file(&weights).unwrap();
    assert!(refused().contains("cannot read"), "{}", refused());
    std::fs::write(weights.with_extension("bin"), "").unwrap();
    assert!(refused().contains("safe_serialization"), "{}", refused());
}

#[test]
fn run_from_an_imported_model_begins_with_its_weights() {
    let folder = folder("import_fit");
    let imported = import(&source("paper"), &Device::flex()).unwrap();
    let model = folder.join("model.safetensors");
    let toml = write(&model, &imported, &Device::flex()).unwrap();
    let suggested = Config::read(&toml).unwrap();
    assert_eq!(suggested.model, imported.config.model);

    let odd = write(&folder.join("a\nb.safetensors"), &imported, &Device::flex()).unwrap();
    assert_eq!(Config::read(&odd).unwrap().model, imported.config.model);

    let path = write_run(&folder, 4, |c| {
        c.model = suggested.model.clone();
        c.diffusion = suggested.diffusion.clone();
        // What has no weights may change.
        c.model.padding = Padding::Circular;
        c.train.steps = 1;
        c.train.learning_rate = 1e-9;
    });
    let mut config = Config::read(&path).unwrap();
    fit(&config, &Begin::From(model.clone()), &Device::flex()).unwrap();
    let fitted = Checkpoint::read(&config.out.join("checkpoint.safetensors")).unwrap();
    assert_eq!(fitted.step, 1);
    let fitted = fitted.ema(&Device::flex()).unwrap();
    for spec in fitted.specs() {
        let (a, b) =
            (fitted.values(&spec.name).unwrap(), imported.parameters.values(&spec.name).unwrap());
        let worst = a.iter().zip(&b).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(worst < 1e-6, "{}: {worst}", spec.name);
    }

    config.out = folder.join("other");
    config.model.channels = vec![8, 8];
    let error = fit(&config, &Begin::From(model), &Device::flex()).err().unwrap();
    assert!(format!("{error:#}").contains("has the shape"), "{error:#}");
}
