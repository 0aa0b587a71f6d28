//! A batch is so many runs of one: no item is touched by its mates.

use ddpm::model::ModelConfig;
use ddpm::sampler::{SamplerConfig, Thresholding};

use super::models::{Model, samplers};

#[test]
fn batch_item_is_the_run_of_its_own_seed() {
    let dynamic = Thresholding::Dynamic { ratio: 0.9, max: 2.0 };
    for (form, config) in samplers(10) {
        for thresholding in [Thresholding::Clip(1.0), dynamic] {
            let sampler = SamplerConfig { thresholding, ..config.clone() };
            let mut model = Model::new(ModelConfig::ddpm(3, 7, 5), |_, x, _| 0.9 * x);
            // The second seed wraps round inside the batch.
            for seed in [7, u64::MAX - 1] {
                let together = model.run(&sampler, seed, 4);
                let items: Vec<&[f32]> = together.sample().chunks(together.item_len()).collect();
                assert_eq!((together.shape(), items.len()), ([4, 3, 7, 5], 4));
                for (index, item) in items.iter().enumerate() {
                    let alone = model.run(&sampler, seed.wrapping_add(index as u64), 1);
                    assert_eq!(alone.sample(), *item, "{} item {index}", form.name());
                }
            }
        }
    }
}
