//! The protocol buffer wire format, as far as ONNX files need it: written and read, nothing interpreted.
//!
//! Source: protobuf.dev, "Encoding"; field numbers elsewhere are those of onnx.proto3.

/// A message under construction.
#[derive(Default)]
pub struct Message(Vec<u8>);

impl Message {
    /// The encoded bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn key(&mut self, field: u32, wire_type: u32) {
        self.varint(u64::from(field << 3 | wire_type));
    }

    /// An integer or enumeration.
    pub fn int(mut self, field: u32, value: i64) -> Self {
        self.key(field, 0);
        self.varint(value as u64);
        self
    }

    /// A 32-bit float.
    pub fn float(mut self, field: u32, value: f32) -> Self {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// A byte string.
    pub fn bytes(mut self, field: u32, value: &[u8]) -> Self {
        self.key(field, 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    /// A text.
    pub fn text(self, field: u32, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    /// A message inside this one.
    pub fn message(self, field: u32, value: Message) -> Self {
        self.bytes(field, &value.0)
    }

    /// One message after another in a repeated field.
    pub fn messages(self, field: u32, values: impl IntoIterator<Item = Message>) -> Self {
        values.into_iter().fold(self, |message, value| message.message(field, value))
    }

    /// Integers in a repeated field, one by one, which every reader accepts.
    pub fn ints(self, field: u32, values: &[i64]) -> Self {
        values.iter().fold(self, |message, &value| message.int(field, value))
    }
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// An integer or enumeration.
    Int(i64),
    /// The bits of a 32-bit number.
    Bits32(u32),
    /// The bits of a 64-bit number.
    Bits64(u64),
    /// A byte string, a text or a message.
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    /// The integer, if it is one.
    pub fn int(self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(value),
            _ => None,
        }
    }

    /// The bytes, if it has any.
    pub fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(value) => Some(value),
            _ => None,
        }
    }

    /// The text, if it is UTF-8.
    pub fn text(self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    /// The fields of a message; none where it is no message.
    pub fn fields(self) -> Fields<'a> {
        Fields(self.bytes().unwrap_or_default())
    }
}

/// The fields of an encoded message, in order, each with its number. Ends where the bytes are none any
/// more, so that what is no message has few fields or none. Copies nothing.
#[derive(Clone, Debug)]
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Those of the message in `bytes`.
    pub fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The values of one field.
    pub fn all(self, number: u64) -> impl Iterator<Item = Value<'a>> {
        self.filter_map(move |(found, value)| (found == number).then_some(value))
    }

    /// The value of a field that is not repeated: the last one.
    pub fn last(self, number: u64) -> Option<Value<'a>> {
        self.all(number).last()
    }

    /// The integers of a repeated field, written one by one or packed into one. `None` where they are
    /// malformed, after which there are no more of that pack.
    pub fn ints(self, number: u64) -> impl Iterator<Item = Option<i64>> + use<'a> {
        self.all(number).flat_map(|value| {
            let (one, packed) = match value {
                Value::Bytes(packed) => (None, Fields(packed)),
                value => (Some(value.int()), Fields(&[])),
            };
            one.into_iter().chain(packed.packed())
        })
    }

    fn packed(mut self) -> impl Iterator<Item = Option<i64>> {
        let mut is_over = false;
        std::iter::from_fn(move || {
            if is_over || self.0.is_empty() {
                return None;
            }
            let value = self.varint();
            is_over = value.is_none();
            Some(value.map(|value| value as i64))
        })
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for (index, &byte) in self.0.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.0 = &self.0[index + 1..];
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, len: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(len).ok()?)?;
        self.0 = rest;
        Some(taken)
    }

    fn field(&mut self) -> Option<(u64, Value<'a>)> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Int(self.varint()? as i64),
            1 => Value::Bits64(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let len = self.varint()?;
                Value::Bytes(self.take(len)?)
            }
            5 => Value::Bits32(u32::from_le_bytes(self.take(4)?.try_into().ok()?)),
            _ => return None,
        };
        Some((key >> 3, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        field
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_protobuf_documentation_are_written_and_read() {
        let inner = || Message::default().int(1, 150);
        let cases: [(Message, &[u8], u64, Value<'_>); 4] = [
            (inner(), &[0x08, 0x96, 0x01], 1, Value::Int(150)),
            (
                Message::default().text(2, "testing"),
                b"\x12\x07testing",
                2,
                Value::Bytes(b"testing"),
            ),
            (
                Message::default().message(3, inner()),
                &[0x1a, 3, 0x08, 0x96, 0x01],
                3,
                Value::Bytes(&[0x08, 0x96, 0x01]),
            ),
            (
                Message::default().int(1, -2),
                &[8, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
                1,
                Value::Int(-2),
            ),
        ];
        for (message, bytes, number, value) in cases {
            assert_eq!(message.into_bytes(), bytes);
            assert_eq!(Fields::of(bytes).collect::<Vec<_>>(), [(number, value)]);
        }
        let float = Message::default().float(4, 1.5).into_bytes();
        assert_eq!(Fields::of(&float).last(4), Some(Value::Bits32(1.5f32.to_bits())));
    }

    #[test]
    fn repeated_integers_are_read_one_by_one_or_packed() {
        let both = Message::default().ints(1, &[3, -1]).bytes(1, &[2, 0x80, 0x01]).int(2, 7);
        let both = both.into_bytes();
        let found: Option<Vec<i64>> = Fields::of(&both).ints(1).collect();
        assert_eq!(found, Some(vec![3, -1, 2, 128]));
        let broken = Message::default().bytes(1, &[2, 0x80]).float(1, 0.5).into_bytes();
        let found: Vec<_> = Fields::of(&broken).ints(1).collect();
        assert_eq!(found, [Some(2), None, None]);
    }

    #[test]
    fn bytes_that_are_no_message_end_the_fields() {
        let whole = Message::default().int(1, 300).text(2, "abc").into_bytes();
        for cut in 0..whole.len() {
            assert!(Fields::of(&whole[..cut]).count() <= 1, "cut at {cut}");
        }
        // A length beyond the end, one of 2^64 - 1, a number without an end, and a group.
        let endless = [0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        let huge = [0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        for bytes in [&[0x12, 5, 1][..], &huge, &endless, &[0x0b, 0x0c]] {
            assert_eq!(Fields::of(bytes).count(), 0, "{bytes:?}");
        }
    }
}
