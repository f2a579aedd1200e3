//! A row and its forms: JSON line, line of a table.

use serde::Serialize;

use crate::measure::{Side, ratio};
use crate::workloads::Kind;

#[derive(Debug, Clone)]
pub struct Row {
    pub kind: &'static Kind,
    pub clients: usize,
    pub members: usize,
    pub ours: Side,
    pub peer: Side,
}

#[derive(Debug, Serialize)]
struct Line {
    bench: &'static str,
    clients: usize,
    members: usize,
    ours: f64,
    peer: f64,
    ratio: f64,
    unit: &'static str,
    ours_p50_ms: f64,
    ours_p99_ms: f64,
    peer_p50_ms: f64,
    peer_p99_ms: f64,
    ours_peak_memory_mib: f64,
    peer_peak_memory_mib: f64,
    ours_disk_bytes_per_write: Option<f64>,
    peer_disk_bytes_per_write: Option<f64>,
    ours_cpu_us_per_request: f64,
    peer_cpu_us_per_request: f64,
    ours_client_cpu_share: f64,
    peer_client_cpu_share: f64,
    ours_stolen_share: f64,
    peer_stolen_share: f64,
}

/// Three digits behind the point are all that a measurement has.
fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

impl Row {
    pub fn ratio(&self) -> f64 {
        ratio(self.kind.unit, self.ours.value, self.peer.value)
    }

    pub fn json(&self) -> String {
        let (ours, peer) = (&self.ours, &self.peer);
        let line = Line {
            bench: self.kind.name,
            clients: self.clients,
            members: self.members,
            ours: round(ours.value),
            peer: round(peer.value),
            ratio: round(self.ratio()),
            unit: self.kind.unit.name(),
            ours_p50_ms: round(ours.p50_ms),
            ours_p99_ms: round(ours.p99_ms),
            peer_p50_ms: round(peer.p50_ms),
            peer_p99_ms: round(peer.p99_ms),
            ours_peak_memory_mib: round(ours.peak_memory_mib),
            peer_peak_memory_mib: round(peer.peak_memory_mib),
            ours_disk_bytes_per_write: ours.disk_bytes_per_write.map(f64::round),
            peer_disk_bytes_per_write: peer.disk_bytes_per_write.map(f64::round),
            ours_cpu_us_per_request: round(ours.server_cpu_us),
            peer_cpu_us_per_request: round(peer.server_cpu_us),
            ours_client_cpu_share: round(ours.client_share),
            peer_client_cpu_share: round(peer.client_share),
            ours_stolen_share: round(ours.stolen),
            peer_stolen_share: round(peer.stolen),
        };
        serde_json::to_string(&line).expect("numbers and names")
    }

    /// The table's cells, one for each of [`HEAD`].
    pub fn cells(&self) -> Vec<String> {
        let (ours, peer) = (&self.ours, &self.peer);
        let two = |ours: String, peer: String| format!("{ours} / {peer}");
        let per_write = |side: &Side| side.disk_bytes_per_write.map_or_else(|| "-".to_owned(), |b| format!("{b:.0}"));
        vec![
            self.kind.name.to_owned(),
            self.members.to_string(),
            self.clients.to_string(),
            number(ours.value),
            number(peer.value),
            self.kind.unit.name().to_owned(),
            format!("{:.2}", self.ratio()),
            two(number(ours.p50_ms), number(peer.p50_ms)),
            two(number(ours.p99_ms), number(peer.p99_ms)),
            two(format!("{:.0}", ours.peak_memory_mib), format!("{:.0}", peer.peak_memory_mib)),
            two(per_write(ours), per_write(peer)),
            two(number(ours.server_cpu_us), number(peer.server_cpu_us)),
            two(format!("{:.0} %", ours.client_share * 1e2), format!("{:.0} %", peer.client_share * 1e2)),
            two(format!("{:.0} %", ours.stolen * 1e2), format!("{:.0} %", peer.stolen * 1e2)),
        ]
    }
}

pub const HEAD: [&str; 14] = [
    "bench",
    "members",
    "clients",
    "ours",
    "peer",
    "unit",
    "ratio",
    "p50 ms",
    "p99 ms",
    "peak MiB",
    "disk B/write",
    "server µs/request",
    "client CPU",
    "stolen",
];
/// Names stand left, numbers right.
const LEFT: [usize; 2] = [0, 5];

/// Large numbers without a fraction, small ones with what they have.
fn number(value: f64) -> String {
    match value {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// The rows under each other, as wide as the widest cell of each column.
pub fn table(rows: &[Row]) -> String {
    let mut lines = vec![HEAD.map(str::to_owned).to_vec()];
    lines.extend(rows.iter().map(Row::cells));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cell = |(column, cell): (usize, &String)| {
            let width = widths[column];
            if LEFT.contains(&column) { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        };
        let cells: Vec<String> = line.iter().enumerate().map(cell).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::workloads::KINDS;

    fn side(value: f64) -> Side {
        Side {
            value,
            p50_ms: 1.25,
            p99_ms: 12.5,
            server_cpu_us: 40.0,
            client_share: 0.25,
            stolen: 0.01,
            peak_memory_mib: 33.3,
            disk_bytes_per_write: Some(512.4),
        }
    }

    pub fn row(ours: f64, peer: f64) -> Row {
        Row { kind: &KINDS[0], clients: 100, members: 1, ours: side(ours), peer: side(peer) }
    }

    #[test]
    fn a_json_line_has_the_ratio_and_both_sides() {
        let line: serde_json::Value = serde_json::from_str(&row(3000.0, 2000.0).json()).expect("JSON");
        assert_eq!(line["bench"], "put");
        assert_eq!((line["clients"].as_u64(), line["members"].as_u64()), (Some(100), Some(1)));
        assert_eq!((line["ratio"].as_f64(), line["unit"].as_str()), (Some(1.5), Some("1/s")));
        assert_eq!(line["peer_disk_bytes_per_write"].as_f64(), Some(512.0));
    }

    #[test]
    fn columns_of_the_table_line_up() {
        let text = table(&[row(3000.0, 2000.0), row(9.5, 20000.0)]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        let column = |line: &str| line.find("1/s").expect("the unit");
        assert_eq!(column(lines[1]), column(lines[2]));
        assert!(lines[1].contains(" 1.50 ") && lines[1].contains("1.25 / 1.25"), "{}", lines[1]);
    }
}
