//! How good a model is: numbers and a report about samples of a checkpoint.
//!
//! A small classifier is trained on the data set itself ([`teach`]); distances between its features of
//! samples and of real images ([`distance`]) say how far apart the two are. They are no FID: another
//! network, other features, comparable only between samples judged by one classifier.
//!
//! This module must not know how a model is trained: it takes checkpoints.

pub mod charts;
pub mod classifier;
pub mod clusters;
pub mod distance;
pub mod draw;
pub mod eigen;
pub mod eval;
pub mod faults;
pub mod images;
pub mod neighbours;
pub mod net;
pub mod report;
pub mod results;
pub mod split;
pub mod teach;
