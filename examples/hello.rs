//! The shortest correct program: reveals one picture and paints it on the terminal.

use ddpm::engine::{Engine, EngineConfig, StepOutcome, StreamConfig};
use ddpm::error::Result;

fn main() -> Result<()> {
    let model = std::env::args().nth(1).unwrap_or("assets/portraits.onnx".to_owned());
    let engine = Engine::new(EngineConfig::new(&model))?;
    engine.wait(None)?;
    let info = engine.info()?;
    let stream = engine.stream(&StreamConfig::default())?;
    while stream.step()? != StepOutcome::Done {
        stream.wait(None)?;
    }
    let row_bytes = info.model.width * 4;
    let mut pixels = vec![0; row_bytes * info.model.height];
    stream.copy_frame(&mut pixels, row_bytes)?;
    for row in pixels.chunks_exact(row_bytes) {
        for pixel in row.chunks_exact(4) {
            print!("\x1b[48;2;{};{};{}m  \x1b[0m", pixel[0], pixel[1], pixel[2]);
        }
        println!();
    }
    Ok(())
}
