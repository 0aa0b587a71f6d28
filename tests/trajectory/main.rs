//! A run as a trajectory: put away and taken up, sought, branched, planned anew, written and read.

mod blobs;
mod branches;
mod cases;
mod replans;
#[path = "../common/samplers.rs"]
mod samplers;
mod seeks;
mod states;
