//! The report as a page of the documentation, and the same facts for the terminal.

use std::fmt::Write;
use std::path::Path;

use crate::disk::Disk;
use crate::environment::CLIENTS_PER_CONNECTION;
use crate::flags::Plan;
use crate::report::{HEAD, Row};

/// Where and how was measured.
#[derive(Debug)]
pub struct Setting {
    pub ours: String,
    pub peer: String,
    pub cores: usize,
    pub kernel: String,
    pub disk: Disk,
    pub date: String,
}

impl Setting {
    pub fn lines(&self, plan: &Plan) -> Vec<String> {
        let transport = if plan.tls { "TLS with client certificates" } else { "plaintext" };
        let mut lines = vec![
            format!("ours: {}; peer: {}", self.ours, self.peer),
            format!(
                "{} cores, Linux {}, an append of 4 KiB with fdatasync takes {:.2} ms",
                self.cores,
                self.kernel,
                self.disk.sync.as_secs_f64() * 1e3
            ),
            format!(
                "{} rounds of {} s per side after a warm-up, in turns, spread over {} passes through all rows; closed loop, \
                 {transport}, one connection per {CLIENTS_PER_CONNECTION} clients; medians over the rounds",
                plan.rounds,
                plan.window.as_secs_f64(),
                plan.passes,
            ),
        ];
        if plan.clients.contains(&1) && !plan.unpinned {
            lines.push("rows of a single client: it and the members of both sides run on one processor".to_owned());
        }
        if self.disk.in_memory {
            lines.push("the data lay in memory (tmpfs): syncs cost nothing, so this says little of a disk".to_owned());
        }
        lines
    }
}

pub fn markdown(setting: &Setting, plan: &Plan, rows: &[Row], chart: &Path) -> String {
    let chart = chart.file_name().unwrap_or_default().to_string_lossy();
    let mut text = format!(
        "# kube-store and etcd side by side\n\n\
         Written by `hack/bench store --chart`, {}. Both run on the same disk under the same client, never both under\n\
         load at once. A ratio above 1 is in kube-store's favour, whatever the unit.\n\n![ratios]({chart})\n\n",
        setting.date
    );
    for line in setting.lines(plan) {
        let _ = writeln!(text, "- {line}");
    }
    let _ = writeln!(text, "\nPairs are kube-store / etcd.\n\n| {} |", HEAD.join(" | "));
    let _ = writeln!(text, "|{}", "---|".repeat(HEAD.len()));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.cells().join(" | "));
    }
    text.push_str("\n## What the rows are\n\n");
    let mut told = Vec::new();
    for row in rows {
        if !told.contains(&row.kind.name) {
            told.push(row.kind.name);
            let _ = writeln!(text, "- **{}** ({}): {}", row.kind.name, row.kind.unit.name(), row.kind.about);
        }
    }
    text.push_str(COLUMNS);
    text
}

const COLUMNS: &str = "
## What the columns are

- **p50, p99**: of single requests, medians over the rounds.
- **peak MiB**: the largest resident memory of any member since its start (`VmHWM`); every row starts new processes. Pages
  of etcd's database file count as far as they are mapped.
- **disk B/write**: `write_bytes` of all members for each write that was acknowledged, checkpoints and compaction included.
  After each round with writes both sides compact their history, as an API server has them do.
- **server µs/request**: processor time of all members. Unlike the rates it does not depend on what the client takes.
- **client CPU**: the client's part of the processor time it and the servers took together.
- **stolen**: what the host of a virtual machine took of the processors' time while a round was measured, as it says itself
  (`steal`), medians. A processor that sleeps then waits for its turn before it wakes, a millisecond and more, and who sleeps
  between two requests of a single client loses most by it. A round with more than 10 % is measured again, on both sides,
  up to as many rounds as were planned; then those with the least count.
";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::report::tests::row;

    #[test]
    fn the_page_has_a_line_per_row_and_says_what_they_are() {
        let setting = Setting {
            ours: "kube-store 1".to_owned(),
            peer: "etcd 2".to_owned(),
            cores: 2,
            kernel: "6".to_owned(),
            disk: Disk { sync: Duration::from_micros(250), in_memory: false },
            date: "2026-01-01".to_owned(),
        };
        let plan = Plan {
            ours: "a".into(),
            peer: "b".into(),
            dir: ".".into(),
            rounds: 3,
            passes: 3,
            window: Duration::from_secs(2),
            members: vec![1],
            unpinned: false,
            clients: vec![100],
            kinds: Vec::new(),
            tls: false,
            chart: None,
            fill: None,
        };
        let rows = [row(3.0, 1.0), row(4.0, 1.0)];
        let text = markdown(&setting, &plan, &rows, Path::new("docs/store.svg"));
        assert_eq!(text.matches("\n| put |").count(), 2);
        assert_eq!(text.matches("\n- **put**").count(), 1);
        assert!(text.contains("(store.svg)") && text.contains("takes 0.25 ms") && text.contains("3 rounds of 2 s"));
    }
}
