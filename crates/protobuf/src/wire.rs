//! The wire format: tags, varints and length-delimited fields.

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    Prefix,
    #[error("proto: unexpected EOF")]
    Truncated,
    #[error("proto: integer overflow")]
    Overflow,
    #[error("proto: illegal wireType {0}")]
    WireType(u8),
    #[error("proto: a field does not have the type of its kind")]
    Mismatch,
    #[error("proto: a string is not valid UTF-8")]
    Utf8,
    #[error("proto: messages are nested too deeply")]
    Depth,
    #[error("proto: embedded JSON is not valid")]
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

impl<'a> Wire<'a> {
    pub fn bytes(self) -> Result<&'a [u8], Error> {
        if let Self::Bytes(bytes) = self { Ok(bytes) } else { Err(Error::Mismatch) }
    }

    pub fn text(self) -> Result<&'a str, Error> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Error::Utf8)
    }

    /// Negative numbers are written as 64 bits, whatever their type.
    pub fn integer(self) -> Result<i64, Error> {
        if let Self::Varint(n) = self { Ok(n.cast_signed()) } else { Err(Error::Mismatch) }
    }
}

/// The fields of a message, in order.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Wire<'a>), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<(u32, Wire<'a>), Error> {
        let key = varint(&mut self.0)?;
        let number = u32::try_from(key >> 3).map_err(|_| Error::Overflow)?;
        let wire = match (key & 7) as u8 {
            0 => Wire::Varint(varint(&mut self.0)?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(varint(&mut self.0)?).map_err(|_| Error::Overflow)?;
                Wire::Bytes(self.take(length)?)
            }
            5 => Wire::Fixed32(u32::from_le_bytes(self.array()?)),
            other => return Err(Error::WireType(other)),
        };
        Ok((number, wire))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Error::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        self.take(N)?.try_into().map_err(|_| Error::Truncated)
    }
}

/// A message being written.
#[derive(Debug, Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn key(&mut self, number: u32, wire_type: u64) {
        self.varint(u64::from(number) << 3 | wire_type);
    }

    pub fn varint_field(&mut self, number: u32, value: u64) {
        self.key(number, 0);
        self.varint(value);
    }

    pub fn fixed64(&mut self, number: u32, bits: u64) {
        self.key(number, 1);
        self.0.extend_from_slice(&bits.to_le_bytes());
    }

    /// What stands before a field of `length` bytes.
    pub fn length(&mut self, number: u32, length: usize) {
        self.key(number, 2);
        self.varint(length as u64);
    }

    pub fn bytes(&mut self, number: u32, bytes: &[u8]) {
        self.length(number, bytes.len());
        self.0.extend_from_slice(bytes);
    }
}

pub fn varint(bytes: &mut &[u8]) -> Result<u64, Error> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().ok_or(Error::Truncated)?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Error::Overflow)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: Result<Vec<(u32, Wire<'_>)>, Error>) {
        assert_eq!(Fields(bytes).collect::<Result<Vec<_>, _>>(), expected, "{bytes:?}");
    }

    #[test]
    fn fields() {
        check(&[], Ok(vec![]));
        check(&[0x08, 0x96, 0x01], Ok(vec![(1, Wire::Varint(150))]));
        check(&[0x12, 2, b'h', b'i', 0x18, 0], Ok(vec![(2, Wire::Bytes(b"hi")), (3, Wire::Varint(0))]));
        check(&[0x12, 5, b'h'], Err(Error::Truncated));
        check(&[0x08], Err(Error::Truncated));
        check(&[0x0b], Err(Error::WireType(3)));
        check(&[0xff; 12], Err(Error::Overflow));
    }
}
