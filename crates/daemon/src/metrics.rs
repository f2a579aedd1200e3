//! The process's metrics registry and its text form. Names are upstream's; a counter is registered without its
//! `_total`, which the encoder adds.

use std::sync::Arc;

use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{SysconfVar, sysconf};
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::counter::ConstCounter;
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
        gauge.encode(encoder.encode_descriptor("process_max_fds", help, None, gauge.metric_type())?)?;
        let Some(Times { cpu_seconds, started_seconds }) = times() else { return Ok(()) };
        let cpu = ConstCounter::new(cpu_seconds);
        let help = "Total user and system CPU time spent in seconds.";
        cpu.encode(encoder.encode_descriptor("process_cpu_seconds", help, None, cpu.metric_type())?)?;
        let gauge = ConstGauge::new(started_seconds);
        let help = "Start time of the process since unix epoch in seconds.";
        gauge.encode(encoder.encode_descriptor("process_start_time_seconds", help, None, gauge.metric_type())?)
    }
}

struct Times {
    cpu_seconds: f64,
    started_seconds: f64,
}

/// None where /proc does not tell.
fn times() -> Option<Times> {
    let hertz = sysconf(SysconfVar::CLK_TCK).ok()?? as f64;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program, in parentheses, may hold anything; the state behind it is the third field.
    let (_, fields) = stat.rsplit_once(") ")?;
    let ticks = |field: usize| fields.split(' ').nth(field - 3)?.parse::<f64>().ok();
    let system = std::fs::read_to_string("/proc/stat").ok()?;
    let booted: f64 = system.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(Times { cpu_seconds: (ticks(14)? + ticks(15)?) / hertz, started_seconds: booted + ticks(22)? / hertz })
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
        let Times { started_seconds, .. } = times().expect("/proc is there");
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs_f64();
        assert!((now - 3_600.0..now + 1.0).contains(&started_seconds), "{started_seconds} at {now}");
        assert!(text.contains("process_cpu_seconds_total "), "{text}");
    }
}
