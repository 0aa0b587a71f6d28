//! A run as TensorBoard reads it: an event file, written record by record.
//!
//! The format is small and has not changed for years, the crates that write it are not maintained:
//! records of TensorFlow's TFRecord, each a protobuf `Event` of `tensorboard/compat/proto`.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

/// An event file that grows.
pub struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Begins a file of its own in `folder`: TensorBoard joins all that lie there.
    pub fn create(folder: &Path) -> Result<Self> {
        let (seconds, process) = (now() as u64, std::process::id());
        let path = folder.join(format!("events.out.tfevents.{seconds:010}.ddpm-train.{process}"));
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        let mut events = Self { path, file };
        let mut event = Message::default();
        event.double(1, now());
        event.bytes(3, b"brain.Event:2");
        events.write(&event)?;
        Ok(events)
    }

    /// Adds numbers of a step, by name.
    pub fn scalars(&mut self, step: usize, values: &[(&str, f64)]) -> Result<()> {
        let mut summary = Message::default();
        for (tag, value) in values {
            let mut entry = Message::default();
            entry.bytes(1, tag.as_bytes());
            entry.float(2, *value as f32);
            summary.message(1, &entry);
        }
        self.summary(step, &summary)
    }

    /// Adds a PNG of a step.
    pub fn image(&mut self, step: usize, tag: &str, png: &[u8], size: (u32, u32)) -> Result<()> {
        let mut image = Message::default();
        image.varint(1, u64::from(size.1));
        image.varint(2, u64::from(size.0));
        // RGB.
        image.varint(3, 3);
        image.bytes(4, png);
        let mut entry = Message::default();
        entry.bytes(1, tag.as_bytes());
        entry.message(4, &image);
        let mut summary = Message::default();
        summary.message(1, &entry);
        self.summary(step, &summary)
    }

    fn summary(&mut self, step: usize, summary: &Message) -> Result<()> {
        let mut event = Message::default();
        event.double(1, now());
        event.varint(2, step as u64);
        event.message(5, summary);
        self.write(&event)
    }

    fn write(&mut self, event: &Message) -> Result<()> {
        let record = record(&event.0);
        let written = self.file.write_all(&record);
        written.with_context(|| format!("cannot write {}", self.path.display()))
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// A protobuf message as it grows, field by field.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn raw(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn varint(&mut self, field: u64, value: u64) {
        self.raw(field << 3);
        self.raw(value);
    }

    fn double(&mut self, field: u64, value: f64) {
        self.raw(field << 3 | 1);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.raw(field << 3 | 2);
        self.raw(value.len() as u64);
        self.0.extend(value);
    }

    fn message(&mut self, field: u64, value: &Self) {
        self.bytes(field, &value.0);
    }

    fn float(&mut self, field: u64, value: f32) {
        self.raw(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
    }
}

/// A record: length, its checksum, data, their checksum.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let sums = [masked_crc(&length), masked_crc(data)].map(u32::to_le_bytes);
    [&length[..], &sums[0], data, &sums[1]].concat()
}

/// CRC-32C (Castagnoli), rotated and shifted as TFRecord does.
fn masked_crc(data: &[u8]) -> u32 {
    let crc = !data.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            if crc & 1 == 1 { 0x82f6_3b78 ^ (crc >> 1) } else { crc >> 1 }
        })
    });
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_is_that_of_the_iscsi_standard() {
        // RFC 3720, B.4: 32 bytes of zeros, and of ones.
        for (byte, crc) in [(0u8, 0x8a91_36aa_u32), (0xff, 0x62a8_ab43)] {
            let masked = crc.rotate_right(15).wrapping_add(0xa282_ead8);
            assert_eq!(masked_crc(&[byte; 32]), masked);
        }
    }
}
