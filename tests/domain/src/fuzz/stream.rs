//! What a fingerprint hashes, written down a second time: the table in `Canonical`'s documentation,
//! and its way back. That the way back exists is why two documents never share a stream.

use std::collections::BTreeMap;

use bigdecimal::num_bigint::{BigInt, Sign};

use crate::document::Meaning;

/// Version 1 of the bytes that stand for a document.
pub fn encode(meaning: &Meaning) -> Vec<u8> {
    let mut out = vec![0, 1];
    put(meaning, &mut out);
    out
}

fn put(meaning: &Meaning, out: &mut Vec<u8>) {
    match meaning {
        Meaning::Null => out.push(b'n'),
        Meaning::Bool(value) => out.push(if *value { b't' } else { b'f' }),
        Meaning::Number(digits, scale) => {
            let text = digits.magnitude().to_string();
            match digits.sign() {
                Sign::NoSign => out.push(b'0'),
                sign => {
                    out.push(if sign == Sign::Minus { b'-' } else { b'+' });
                    leb(text.len() as u64, out);
                    out.extend(text.as_bytes());
                    // Zigzag: 0, -1, 1, -2, ...
                    let power = -scale;
                    let code = if power < 0 {
                        power.unsigned_abs() * 2 - 1
                    } else {
                        power.unsigned_abs() * 2
                    };
                    leb(code, out);
                }
            }
        }
        Meaning::Text(text) => string(b'"', text, out),
        Meaning::Array(values) => {
            out.push(b'[');
            values.iter().for_each(|value| put(value, out));
            out.push(b']');
        }
        Meaning::Object(members) => {
            out.push(b'{');
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| (name.len(), name.as_bytes()));
            for (name, value) in members {
                string(b'k', name, out);
                put(value, out);
            }
            out.push(b'}');
        }
    }
}

fn string(tag: u8, text: &str, out: &mut Vec<u8>) {
    out.push(tag);
    leb(text.len() as u64, out);
    out.extend(text.as_bytes());
}

fn leb(value: u64, out: &mut Vec<u8>) {
    let low = u8::try_from(value % 128).unwrap();
    if value < 128 {
        out.push(low);
    } else {
        out.push(low + 128);
        leb(value / 128, out);
    }
}

/// The document that a stream stands for, and nothing may be left of the stream.
pub fn decode(stream: &[u8]) -> Meaning {
    let mut reader = Reader(stream.strip_prefix(&[0, 1]).unwrap());
    let tag = reader.byte();
    let meaning = reader.value(tag);
    assert!(reader.0.is_empty(), "something is left");
    meaning
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap();
        self.0 = rest;
        *first
    }

    fn leb(&mut self) -> u64 {
        let byte = u64::from(self.byte());
        if byte < 128 { byte } else { byte - 128 + 128 * self.leb() }
    }

    fn text(&mut self) -> String {
        let length = usize::try_from(self.leb()).unwrap();
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        String::from_utf8(text.to_vec()).unwrap()
    }

    fn value(&mut self, tag: u8) -> Meaning {
        match tag {
            b'n' => Meaning::Null,
            b't' => Meaning::Bool(true),
            b'f' => Meaning::Bool(false),
            b'0' => Meaning::Number(BigInt::ZERO, 0),
            b'+' | b'-' => {
                let digits: BigInt = self.text().parse().unwrap();
                let code = self.leb();
                let half = i64::try_from(code.div_ceil(2)).unwrap();
                let power = if code % 2 == 1 { -half } else { half };
                Meaning::Number(if tag == b'-' { -digits } else { digits }, -power)
            }
            b'"' => Meaning::Text(self.text()),
            b'[' => {
                let mut values = Vec::new();
                loop {
                    match self.byte() {
                        b']' => return Meaning::Array(values),
                        tag => values.push(self.value(tag)),
                    }
                }
            }
            b'{' => {
                let mut members = BTreeMap::new();
                while self.byte() == b'k' {
                    let name = self.text();
                    let tag = self.byte();
                    members.insert(name, self.value(tag));
                }
                Meaning::Object(members)
            }
            _ => panic!("no tag: {tag}"),
        }
    }
}
