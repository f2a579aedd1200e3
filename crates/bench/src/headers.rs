//! Requests' headers: said once on a connection, then by their number (RFC 7541).

use std::collections::HashMap;

use bytes::{BufMut, Bytes, BytesMut};

#[derive(Default)]
pub struct Headers {
    /// The server's table, the oldest first.
    said: Vec<(&'static str, &'static str)>,
    whole: HashMap<&'static str, Bytes>,
}

/// Names that have a number from the beginning.
const STATIC_NAMES: [(&str, u8); 3] = [(":authority", 1), (":path", 4), ("content-type", 31)];
/// The newest of the table is said by this number.
const NEWEST: usize = 62;

impl Headers {
    pub fn encode(&mut self, scheme: &'static str, path: &'static str, out: &mut BytesMut) {
        // The table does not change once a path is known, but for what other paths add.
        if let Some(known) = self.whole.get(path) {
            out.extend_from_slice(known);
            return;
        }
        self.block(scheme, path, out);
        let paths: Vec<&'static str> = self.whole.keys().copied().chain([path]).collect();
        for path in paths {
            let mut block = BytesMut::new();
            self.block(scheme, path, &mut block);
            self.whole.insert(path, block.freeze());
        }
    }

    fn block(&mut self, scheme: &'static str, path: &'static str, out: &mut BytesMut) {
        out.put_u8(0x83); // :method POST
        out.put_u8(if scheme == "https" { 0x87 } else { 0x86 });
        let fields =
            [(":path", path), (":authority", "localhost"), ("content-type", "application/grpc"), ("te", "trailers")];
        for field in fields {
            self.field(field, out);
        }
    }

    fn field(&mut self, field: (&'static str, &'static str), out: &mut BytesMut) {
        if let Some(at) = self.said.iter().position(|said| *said == field) {
            let number = NEWEST + self.said.len() - 1 - at;
            out.put_u8(0x80 | u8::try_from(number).expect("a few paths"));
            return;
        }
        let (name, value) = field;
        match STATIC_NAMES.iter().find(|(known, _)| *known == name) {
            Some((_, number)) => out.put_u8(0x40 | number),
            None => {
                out.put_u8(0x40);
                text(name, out);
            }
        }
        text(value, out);
        self.said.push(field);
    }
}

fn text(text: &str, out: &mut BytesMut) {
    out.put_u8(u8::try_from(text.len()).ok().filter(|l| *l < 127).expect("names and paths are short"));
    out.put_slice(text.as_bytes());
}
