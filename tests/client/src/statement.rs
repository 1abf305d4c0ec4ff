//! Statements that are prepared once and run by name, as drivers do; and, as always on a `Wire`, without listening.

use std::io;

use crate::wire::{Reply, Wire};

/// Text, as all formats here.
const NO_FORMATS: [u8; 2] = [0, 0];

impl Wire {
    /// Prepares a statement; its parameters have the types that the server makes of them.
    pub fn prepare(&mut self, name: &str, sql: &str) -> io::Result<Reply> {
        let mut parse = Vec::new();
        put(&mut parse, name);
        put(&mut parse, sql);
        parse.extend([0, 0]);
        self.write(Some(b'P'), &parse)?;
        self.write(Some(b'S'), &[])?;
        self.receive()
    }

    /// Runs a prepared statement, and does not wait for the answer.
    pub fn send_prepared(&mut self, name: &str, values: &[&str]) -> io::Result<()> {
        let mut bind = Vec::new();
        put(&mut bind, "");
        put(&mut bind, name);
        bind.extend(NO_FORMATS);
        bind.extend(u16::try_from(values.len()).map_err(io::Error::other)?.to_be_bytes());
        for value in values {
            bind.extend(i32::try_from(value.len()).map_err(io::Error::other)?.to_be_bytes());
            bind.extend(value.as_bytes());
        }
        bind.extend(NO_FORMATS);
        self.write(Some(b'B'), &bind)?;
        let mut execute = Vec::new();
        put(&mut execute, "");
        execute.extend(0_i32.to_be_bytes());
        self.write(Some(b'E'), &execute)?;
        self.write(Some(b'S'), &[])
    }

    /// Runs a prepared statement, and listens.
    pub fn call_prepared(&mut self, name: &str, values: &[&str]) -> io::Result<Reply> {
        self.send_prepared(name, values)?;
        self.receive()
    }
}

fn put(message: &mut Vec<u8>, text: &str) {
    message.extend(text.as_bytes());
    message.push(0);
}
