//! `ddpm`: the library from the command line.

fn main() {}
