//! Which other files hold weights of an ONNX file.
//!
//! Walks the protobuf messages (onnx.proto of ONNX IR) that lead to external data, and skips all else
//! unread. It opens no file but the one it is given.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Seek};

/// Graphs lie in nodes of graphs. Deeper than this protocol buffers are not read.
const MAX_DEPTH: u32 = 100;

/// The field of a tensor that says where its values are, and its value for another file.
const DATA_LOCATION: u64 = 14;
const EXTERNAL: u64 = 1;

/// Longer than this is no file name.
const MAX_TEXT: u64 = 4096;

/// The messages on the way.
#[derive(Clone, Copy, PartialEq)]
enum Message {
    Model,
    Graph,
    Function,
    Node,
    Attribute,
    SparseTensor,
    Tensor,
    /// One of a tensor's `external_data`.
    Entry,
}

impl Message {
    /// The message in the field with this number, if it leads on.
    fn child(self, field: u64) -> Option<Self> {
        Some(match (self, field) {
            (Self::Model, 7) => Self::Graph,
            (Self::Model, 25) => Self::Function,
            (Self::Graph, 1) | (Self::Function, 7) => Self::Node,
            (Self::Graph, 5) => Self::Tensor,
            (Self::Graph, 15) => Self::SparseTensor,
            (Self::Function, 11) | (Self::Node, 5) => Self::Attribute,
            (Self::Attribute, 5 | 10) | (Self::SparseTensor, 1 | 2) => Self::Tensor,
            (Self::Attribute, 6 | 11) => Self::Graph,
            (Self::Attribute, 22 | 23) => Self::SparseTensor,
            (Self::Tensor, 13) => Self::Entry,
            _ => return None,
        })
    }
}

/// The `location` of every tensor whose values lie in another file, as the model spells it. What is no
/// ONNX file has none, from where it is no more.
pub(super) fn locations(file: impl Read + Seek, size: u64) -> BTreeSet<String> {
    let found = BTreeSet::new();
    let mut walk = Walk { file: BufReader::new(file), at: 0, location: None, found };
    // Where it ends early the runtime says better what is wrong.
    let _ = walk.message(Message::Model, size, 0);
    walk.found
}

struct Walk<R> {
    file: BufReader<R>,
    at: u64,
    /// Of the tensor that is being read.
    location: Option<String>,
    found: BTreeSet<String>,
}

impl<R: Read + Seek> Walk<R> {
    /// Reads the fields up to `end`. None where they are malformed.
    fn message(&mut self, message: Message, end: u64, depth: u32) -> Option<()> {
        let (mut key, mut value) = (None, None);
        // A tensor may keep the entries of a file that its values were read from, and hold them itself.
        let mut is_external = false;
        if message == Message::Tensor {
            self.location = None;
        }
        while self.at < end {
            let tag = self.varint()?;
            match tag & 7 {
                0 => {
                    let number = self.varint()?;
                    if (message, tag >> 3) == (Message::Tensor, DATA_LOCATION) {
                        is_external = number == EXTERNAL;
                    }
                }
                1 => self.skip(8)?,
                2 => {
                    let length = self.varint()?;
                    let field_end = self.at.checked_add(length).filter(|&at| at <= end)?;
                    match (message.child(tag >> 3), message, tag >> 3) {
                        (Some(child), ..) if depth < MAX_DEPTH => {
                            self.message(child, field_end, depth + 1)?;
                        }
                        (_, Message::Entry, 1) => key = Some(self.text(length)?),
                        (_, Message::Entry, 2) => value = Some(self.text(length)?),
                        _ => self.skip(length)?,
                    }
                }
                5 => self.skip(4)?,
                _ => return None,
            }
        }
        if let (Some("location"), Some(value)) = (key.as_deref(), value) {
            self.location = Some(value);
        }
        if is_external {
            self.found.extend(self.location.take());
        }
        (self.at == end).then_some(())
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.file.fill_buf().ok()?.first()?;
            self.file.consume(1);
            self.at += 1;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn text(&mut self, length: u64) -> Option<String> {
        if length > MAX_TEXT {
            return None;
        }
        let mut bytes = vec![0; length as usize];
        self.file.read_exact(&mut bytes).ok()?;
        self.at += length;
        String::from_utf8(bytes).ok()
    }

    fn skip(&mut self, length: u64) -> Option<()> {
        self.file.seek_relative(i64::try_from(length).ok()?).ok()?;
        self.at = self.at.checked_add(length)?;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::onnx::protobuf::Message as Proto;

    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number << 3 | 2, content.len() as u8];
        bytes.extend(content);
        bytes
    }

    fn found(model: &[u8]) -> Vec<String> {
        locations(Cursor::new(model), model.len() as u64).into_iter().collect()
    }

    #[test]
    fn locations_are_found_in_graphs_and_in_their_nodes_and_nowhere_else() {
        let entry = |key: &str, value: &str| {
            field(13, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat())
        };
        let outside = || vec![0x70, 1];
        let tensor = [
            field(9, b"\x0a\x08location"),
            entry("offset", "0"),
            entry("location", "a"),
            outside(),
        ];
        let in_node = field(5, &field(5, &[outside(), entry("location", "b/c")].concat()));
        let inside = field(5, &[entry("location", "was"), vec![0x70, 0]].concat());
        let unsaid = field(5, &entry("location", "was"));
        let graph = [field(2, b"name"), field(1, &in_node), field(5, &tensor.concat())];
        let graph = [graph.concat(), inside, unsaid].concat();
        let model = [vec![0x08, 0x8a, 0x01], field(2, b"location"), field(7, &graph)].concat();
        assert_eq!(found(&model), ["a", "b/c"]);
        // Cut anywhere, it ends.
        for end in 0..model.len() {
            assert!(found(&model[..end]).len() <= 2);
        }
        assert_eq!(found(b"this is not a model"), [""; 0]);
        let mut deep = [outside(), entry("location", "deep")].concat();
        for _ in 0..30 {
            deep = field(1, &field(5, &field(6, &deep)));
            if deep.len() > 100 {
                break;
            }
        }
        assert_eq!(found(&field(7, &deep)), [""; 0]);
        assert_eq!(found(&[0xFF; 40]), [""; 0]);
    }

    /// What is passed by here, the runtime reads all the same, and no fingerprint knows of it.
    #[test]
    fn a_location_is_found_as_deep_as_the_runtime_reads() {
        let entry = Proto::default().text(1, "location").text(2, "deep");
        let tensor = Proto::default().message(13, entry).int(14, 1);
        let mut graph = Proto::default().message(5, tensor);
        for _ in 0..31 {
            let node = Proto::default().message(5, Proto::default().message(6, graph));
            graph = Proto::default().message(1, node);
        }
        assert_eq!(found(&Proto::default().message(7, graph).into_bytes()), ["deep"]);
    }
}
