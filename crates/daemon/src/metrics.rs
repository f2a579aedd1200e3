//! The process's metrics registry and its text form. Names are upstream's; a counter is registered without its
//! `_total`, which the encoder adds.

use std::sync::Arc;

use nix::sys::resource::{Resource, getrlimit};
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Shared by everything that registers and by the server that prints.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Process));
        Self(Arc::new(Mutex::new(registry)))
    }
}

impl Metrics {
    pub fn register<T>(&self, f: impl FnOnce(&mut Registry) -> T) -> T {
        f(&mut self.0.lock())
    }

    pub fn encode(&self) -> String {
        let mut out = String::new();
        text::encode(&mut out, &self.0.lock()).expect("writing to a string cannot fail");
        out
    }
}

/// `process_*` as every Prometheus client library exports them.
#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let gauge = ConstGauge::new(i64::try_from(resident_bytes()).unwrap_or(i64::MAX));
        let help = "Resident memory size in bytes.";
        gauge.encode(encoder.encode_descriptor("process_resident_memory_bytes", help, None, gauge.metric_type())?)?;
        let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        let gauge = ConstGauge::new(i64::try_from(open).unwrap_or(i64::MAX));
        let help = "Number of open file descriptors.";
        gauge.encode(encoder.encode_descriptor("process_open_fds", help, None, gauge.metric_type())?)?;
        let most = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
        let gauge = ConstGauge::new(i64::try_from(most).unwrap_or(i64::MAX));
        let help = "Maximum number of open file descriptors.";
        gauge.encode(encoder.encode_descriptor("process_max_fds", help, None, gauge.metric_type())?)
    }
}

/// The second field of statm counts pages of 4 KiB on every platform we build for.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_metrics_are_there() {
        let text = Metrics::default().encode();
        let line = text.lines().find(|l| l.starts_with("process_resident_memory_bytes ")).expect("exported");
        let bytes: u64 = line.rsplit(' ').next().and_then(|n| n.parse().ok()).expect("a number");
        assert!(bytes > 100_000, "{line}");
    }
}
