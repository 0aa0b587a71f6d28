use burn::tensor::{Device, Tensor, Distribution};
use ddpm_train::{network::*, parameters::*, forward::*};
#[global_allocator]
static A: mimalloc::MiMalloc = mimalloc::MiMalloc;
fn main() {
    let config = UNetConfig { channels: vec![48, 96, 128], blocks: 1, groups: 8, heads: 4, time_dim: 128 };
    let specs = specs(&config, 3);
    let device = Device::flex();
    let p = Parameters::initial(specs, 1, &device).unwrap();
    println!("params {}", p.count());
    let b = 64;
    let x: Tensor<4> = Tensor::random([b,16,16,3], Distribution::Normal(0.0,1.0), &device.clone().autodiff());
    let ts: Vec<f64> = (0..b).map(|i| (i*15) as f64).collect();
    for _ in 0..6 {
        let t0 = std::time::Instant::now();
        let tr = p.tracked();
        let y = forward(&config, &tr, x.clone(), &ts);
        let loss = (y - x.clone()).powi_scalar(2).mean();
        let v = loss.clone().into_scalar::<f32>();
        let t1 = t0.elapsed();
        let g = loss.backward();
        let n = tr.tensors().iter().filter(|t| t.grad(&g).is_some()).count();
        let t2 = t0.elapsed();
        println!("loss {v} fwd {t1:?} total {t2:?} img/s {:.1} grads {n}/{}", b as f64/t2.as_secs_f64(), tr.tensors().len());
    }
}
