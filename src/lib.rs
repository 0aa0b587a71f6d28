//! `ddpm`: an embeddable, streaming denoising engine.
