//! What a test has to tell whoever runs it: figures, and what it could not try.

use std::env;
use std::fs;
use std::io::Write as _;

/// `FIGURES` names the file that these lines are kept in; without it they are seen with `--nocapture`.
pub fn note(line: &str) {
    println!("{line}");
    if let Some(file) = env::var_os("FIGURES") {
        let file = fs::OpenOptions::new().create(true).append(true).open(file);
        file.and_then(|mut file| writeln!(file, "{line}")).expect("a file for figures");
    }
}
