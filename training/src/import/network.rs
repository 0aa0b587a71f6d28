//! `config.json` of a `UNet2DModel` as the sizes of a U-Net here. Keys and defaults are those of
//! diffusers 0.42, src/diffusers/models/unets/unet_2d.py.

use anyhow::{Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::keys::Keys;
use crate::unet_config::{Downsample, Padding, UNetConfig};

/// What the file describes.
pub struct Description {
    pub unet: UNetConfig,
    pub channels_in: usize,
    pub channels_out: usize,
    pub height: usize,
    pub width: usize,
    /// Rows of the table of classes; 0 for none.
    pub classes: usize,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Size {
    Square(usize),
    Sides([usize; 2]),
}

/// Which of the blocks have attention; the others must be plain.
fn attending(
    file: &str,
    key: &str,
    found: &[String],
    [plain, attends]: [&str; 2],
) -> Result<Vec<bool>> {
    let mut out = Vec::with_capacity(found.len());
    for name in found {
        ensure!(
            name == plain || name == attends,
            "{file}: {key} has {name:?}, which the network here does not have; expected {plain:?} or {attends:?}"
        );
        out.push(name == attends);
    }
    Ok(out)
}

/// Reads all keys and refuses what cannot be expressed.
pub fn read(keys: &mut Keys, notes: &mut Vec<String>) -> Result<Description> {
    let file = keys.file().to_string();
    if let Some(class) = keys.optional::<String>("_class_name")? {
        ensure!(
            class == "UNet2DModel",
            "{file}: _class_name is {class:?}, expected \"UNet2DModel\""
        );
    }
    for (key, expected) in [
        ("center_input_sample", vec![json!(false)]),
        ("time_embedding_type", vec![json!("positional")]),
        ("mid_block_type", vec![json!("UNetMidBlock2D")]),
        ("mid_block_scale_factor", vec![json!(1)]),
        ("downsample_type", vec![json!("conv")]),
        ("upsample_type", vec![json!("conv")]),
        ("act_fn", vec![json!("silu"), json!("swish")]),
        ("resnet_time_scale_shift", vec![json!("default")]),
        ("add_attention", vec![json!(true)]),
        ("class_embed_type", vec![Value::Null]),
    ] {
        keys.only(key, &expected)?;
    }
    // Of time embeddings of another type.
    keys.ignore("num_train_timesteps");
    if keys.or("dropout", 0.0)? != 0.0 {
        notes.push("dropout is of training alone, and there is none here".to_string());
    }

    let channels: Vec<usize> = keys.or("block_out_channels", vec![224, 448, 672, 896])?;
    ensure!(!channels.is_empty(), "{file}: block_out_channels is empty");
    let names = |names: [&str; 4]| names.map(String::from).to_vec();
    let attn = "AttnDownBlock2D";
    let down = keys.or("down_block_types", names(["DownBlock2D", attn, attn, attn]))?;
    let attn = "AttnUpBlock2D";
    let up = keys.or("up_block_types", names([attn, attn, attn, "UpBlock2D"]))?;
    ensure!(
        down.len() == channels.len() && up.len() == channels.len(),
        "{file}: block_out_channels, down_block_types and up_block_types have {}, {} and {} entries, expected \
         as many each",
        channels.len(),
        down.len(),
        up.len()
    );
    let down = attending(&file, "down_block_types", &down, ["DownBlock2D", "AttnDownBlock2D"])?;
    let mut up = attending(&file, "up_block_types", &up, ["UpBlock2D", "AttnUpBlock2D"])?;
    up.reverse();
    ensure!(
        down == up || up.iter().all(|attends| !attends),
        "{file}: up_block_types has attention at other levels than down_block_types, which the network here \
         does not have"
    );
    let attention_up = up.contains(&true);

    let groups = keys.or("norm_num_groups", 32)?;
    keys.only("attn_norm_num_groups", &[Value::Null, json!(groups)])?;
    // Missing is 8; null is one head.
    let head_dim =
        if keys.has("attention_head_dim") { keys.optional("attention_head_dim")? } else { Some(8) };
    let downsample = match keys.or("downsample_padding", 1)? {
        0 => Downsample::End,
        1 => Downsample::Centred,
        other => bail!("{file}: downsample_padding is {other}, expected 0 or 1"),
    };
    let unet = UNetConfig {
        blocks: keys.or("layers_per_block", 2)?,
        groups,
        heads: 1,
        head_dim,
        attention: Some((0..channels.len()).filter(|&level| down[level]).collect()),
        attention_up,
        time_dim: keys.or("time_embedding_dim", 4 * channels[0])?,
        time_channels: Some(channels[0]),
        flip_sin_to_cos: keys.or("flip_sin_to_cos", true)?,
        freq_shift: keys.or("freq_shift", 0)?,
        downsample,
        resample_keeps_channels: true,
        padding: Padding::Zeros,
        norm_eps: keys.or("norm_eps", 1e-5)?,
        channels,
    };
    let [height, width] = match keys.required("sample_size")? {
        Size::Square(size) => [size, size],
        Size::Sides(sides) => sides,
    };
    let channels_in = keys.or("in_channels", 3)?;
    ensure!(
        [1, 3, 4].contains(&channels_in),
        "{file}: in_channels is {channels_in}, expected 1 (gray), 3 (rgb) or 4 (rgba)"
    );
    let description = Description {
        unet,
        channels_in,
        channels_out: keys.or("out_channels", 3)?,
        height,
        width,
        classes: keys.or("num_class_embeds", 0)?,
    };
    keys.finish()?;
    Ok(description)
}
