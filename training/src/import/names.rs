//! Which tensors of a `UNet2DModel` a weight here is made of.

/// The tensors of the weight called `name` in a network of so many levels, to be put together along
/// their outputs; of each the names that it has in newer and in older files.
pub fn sources(name: &str, levels: usize) -> Vec<Vec<String>> {
    let (layer, kind) = name.rsplit_once('.').unwrap_or((name, ""));
    let kind = match kind {
        "gamma" => "weight",
        "beta" => "bias",
        other => other,
    };
    let path: Vec<&str> = layer.split('.').collect();
    let one = |layer: String| vec![vec![format!("{layer}.{kind}")]];
    let number = |text: &str| text.parse::<usize>().unwrap_or_default();
    match path[..] {
        ["in"] => one("conv_in".into()),
        ["out", "norm"] => one("conv_norm_out".into()),
        ["out", "conv"] => one("conv_out".into()),
        ["time", index] => one(format!("time_embedding.linear_{}", number(index) + 1)),
        ["label"] => one("class_embedding".into()),
        ["down", level, "reduce"] => {
            one(format!("down_blocks.{}.downsamplers.0.conv", number(level) - 1))
        }
        ["up", level, "enlarge"] => {
            one(format!("up_blocks.{}.upsamplers.0.conv", levels - 1 - number(level)))
        }
        ["middle", "attention", part] => attention("mid_block.attentions.0", part, kind),
        ["middle", block, part] => one(format!("mid_block.resnets.{block}.{}", residual(part))),
        [way, level, block, ref rest @ ..] => {
            let blocks = match way {
                "down" => format!("down_blocks.{level}"),
                _ => format!("up_blocks.{}", levels - 1 - number(level)),
            };
            match rest {
                ["attention", part] => {
                    attention(&format!("{blocks}.attentions.{block}"), part, kind)
                }
                [part] => one(format!("{blocks}.resnets.{block}.{}", residual(part))),
                _ => one(layer.into()),
            }
        }
        _ => one(layer.into()),
    }
}

fn residual(part: &str) -> &str {
    match part {
        "time" => "time_emb_proj",
        "skip" => "conv_shortcut",
        other => other,
    }
}

fn attention(block: &str, part: &str, kind: &str) -> Vec<Vec<String>> {
    let parts: &[[&str; 2]] = match part {
        "norm" => &[["group_norm", "group_norm"]],
        "out" => &[["to_out.0", "proj_attn"]],
        _ => &[["to_q", "query"], ["to_k", "key"], ["to_v", "value"]],
    };
    let full = |names: &[&str; 2]| names.map(|name| format!("{block}.{name}.{kind}")).to_vec();
    parts.iter().map(full).collect()
}
