//! What was done to whom and when, and how often: a file beside the members' logs.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use anyhow::Result;

#[derive(Debug)]
pub struct Journal {
    begun: Instant,
    file: Mutex<File>,
    faults: Mutex<BTreeMap<&'static str, usize>>,
}

impl Journal {
    pub fn new(dir: &Path) -> Result<Journal> {
        let file = Mutex::new(File::create(dir.join("journal.txt"))?);
        Ok(Journal { begun: Instant::now(), file, faults: Mutex::default() })
    }

    pub fn note(&self, text: &str) {
        let seconds = self.begun.elapsed().as_secs_f64();
        // A journal that cannot be written shall not stop the run.
        let _ = writeln!(self.file.lock().expect("no writer panics"), "{seconds:9.3} {text}");
    }

    pub fn count(&self, fault: &'static str, text: &str) {
        self.note(&format!("{fault}: {text}"));
        *self.faults.lock().expect("no writer panics").entry(fault).or_default() += 1;
    }

    pub fn faults(&self) -> BTreeMap<&'static str, usize> {
        self.faults.lock().expect("no writer panics").clone()
    }
}
