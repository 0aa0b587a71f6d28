//! The smallest JPEG writer: baseline, blocks of one value each, any number of components.

/// What a file says beside its pixels.
#[derive(Clone, Copy, Default)]
pub struct Jpeg {
    /// The colour transform of an Adobe segment: 0 for CMYK, 2 for YCCK.
    pub adobe: Option<u8>,
    /// Of an Exif segment.
    pub orientation: Option<u8>,
}

impl Jpeg {
    /// A row of 8x8 blocks, each with its components' values.
    pub fn row(self, blocks: &[&[u8]]) -> Vec<u8> {
        let components = blocks[0].len() as u8;
        let mut file = vec![0xff, 0xd8];
        let mut segment = |marker: u8, body: &[u8]| {
            file.extend([0xff, marker]);
            file.extend((body.len() as u16 + 2).to_be_bytes());
            file.extend(body);
        };
        if let Some(orientation) = self.orientation {
            let mut exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
            exif.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
            segment(0xe1, &exif);
        }
        if let Some(transform) = self.adobe {
            segment(0xee, &[b"Adobe\0\x64\0\0\0\0".as_slice(), &[transform]].concat());
        }
        // All quantisers 8: the first coefficient is the block's value less 128.
        segment(0xdb, &[&[0][..], &[8; 64]].concat());
        let mut frame = vec![8, 0, 8];
        frame.extend((blocks.len() as u16 * 8).to_be_bytes());
        frame.push(components);
        frame.extend((1..=components).flat_map(|id| [id, 0x11, 0]));
        segment(0xc0, &frame);
        // First coefficients: the categories 0 to 11 by four bits each. Others: only "end of block".
        let mut lengths = [0; 16];
        lengths[3] = 12;
        segment(0xc4, &[&[0x00][..], &lengths, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]].concat());
        let mut lengths = [0; 16];
        lengths[0] = 1;
        segment(0xc4, &[&[0x10][..], &lengths, &[0]].concat());
        let mut scan = vec![components];
        scan.extend((1..=components).flat_map(|id| [id, 0]));
        scan.extend([0, 63, 0]);
        segment(0xda, &scan);

        let mut bits = Vec::new();
        let mut last = vec![0; components as usize];
        for block in blocks {
            for (last, &value) in last.iter_mut().zip(*block) {
                let value = i32::from(value) - 128;
                let difference = value - *last;
                *last = value;
                let category = 32 - difference.unsigned_abs().leading_zeros();
                let code =
                    if difference < 0 { difference + (1 << category) - 1 } else { difference };
                bits.extend((0..4).rev().map(|i| category >> i & 1 == 1));
                bits.extend((0..category).rev().map(|i| code >> i & 1 == 1));
                bits.push(false);
            }
        }
        bits.resize(bits.len().next_multiple_of(8), true);
        for byte in bits.chunks(8) {
            let byte = byte.iter().fold(0u8, |byte, &bit| byte << 1 | u8::from(bit));
            file.push(byte);
            if byte == 0xff {
                file.push(0);
            }
        }
        file.extend([0xff, 0xd9]);
        file
    }
}
