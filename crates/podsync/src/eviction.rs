//! The thresholds of `evictionHard`: below which of them a node is under pressure, and what they keep from pods.
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/>

use std::collections::BTreeMap;
use std::str::FromStr;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    MemoryAvailable,
    NodefsAvailable,
    NodefsInodesFree,
    ImagefsAvailable,
    ImagefsInodesFree,
    PidAvailable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pressure {
    Memory,
    Disk,
    Pid,
}

/// What a signal says of the node, in bytes or in pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    pub available: u64,
    pub capacity: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Amount {
    Absolute(u64),
    Percent(f64),
}

const NAMES: [(&str, Signal); 6] = [
    ("memory.available", Signal::MemoryAvailable),
    ("nodefs.available", Signal::NodefsAvailable),
    ("nodefs.inodesFree", Signal::NodefsInodesFree),
    ("imagefs.available", Signal::ImagefsAvailable),
    ("imagefs.inodesFree", Signal::ImagefsInodesFree),
    ("pid.available", Signal::PidAvailable),
];

/// Upstream's on Linux.
const DEFAULTS: [(&str, &str); 5] = [
    ("memory.available", "100Mi"),
    ("nodefs.available", "10%"),
    ("nodefs.inodesFree", "5%"),
    ("imagefs.available", "15%"),
    ("imagefs.inodesFree", "5%"),
];

/// What holds when `evictionHard` is not set; when it is, what it does not name has no threshold.
pub fn defaults() -> BTreeMap<String, String> {
    DEFAULTS.map(|(signal, amount)| (signal.to_owned(), amount.to_owned())).into()
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Thresholds(BTreeMap<Signal, Amount>);

impl Thresholds {
    /// 0% and 100% turn a threshold off, as upstream.
    pub fn parse(config: &BTreeMap<String, String>) -> Result<Thresholds, String> {
        let mut all = BTreeMap::new();
        for (name, text) in config {
            let found = NAMES.iter().find(|(known, _)| known == name);
            let (_, signal) = found.ok_or_else(|| format!("unsupported eviction signal {name}"))?;
            match amount(text)? {
                Amount::Percent(off) if off == 0.0 || off == 100.0 => {}
                amount => _ = all.insert(*signal, amount),
            }
        }
        Ok(Thresholds(all))
    }

    /// The pressures the node is under; a signal that could not be read says nothing.
    pub fn pressures(&self, levels: &BTreeMap<Signal, Level>) -> Vec<Pressure> {
        let met = |(signal, amount): (&Signal, &Amount)| {
            let level = levels.get(signal)?;
            (level.available < amount.of(level.capacity)).then(|| signal.pressure())
        };
        self.0.iter().filter_map(met).collect()
    }

    /// How much of a capacity is kept from pods, so that they can use what is allocatable without pressure.
    pub fn kept(&self, signal: Signal, capacity: u64) -> u64 {
        self.0.get(&signal).map_or(0, |amount| amount.of(capacity))
    }
}

impl Signal {
    fn pressure(self) -> Pressure {
        match self {
            Signal::MemoryAvailable => Pressure::Memory,
            Signal::PidAvailable => Pressure::Pid,
            _ => Pressure::Disk,
        }
    }
}

impl Amount {
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share")]
    fn of(self, capacity: u64) -> u64 {
        match self {
            Amount::Absolute(amount) => amount,
            Amount::Percent(percent) => (capacity as f64 * percent / 100.0) as u64,
        }
    }
}

fn amount(text: &str) -> Result<Amount, String> {
    if let Some(number) = text.strip_suffix('%') {
        let percent = f64::from_str(number).map_err(|_| format!("{text:?} is no percentage"))?;
        return match percent {
            0.0..=100.0 => Ok(Amount::Percent(percent)),
            _ => Err(format!("eviction percentage threshold {text} must be between 0% and 100%")),
        };
    }
    let quantity: api::quantity::Quantity = text.parse().map_err(|_| format!("{text:?} is no quantity"))?;
    match u64::try_from(quantity.value()) {
        Ok(amount) if amount > 0 => Ok(Amount::Absolute(amount)),
        _ => Err(format!("eviction threshold {text} must be positive")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn pressure_begins_below_the_threshold() {
        let check = |config: &[(&str, &str)], signal: Signal, available: u64, expected: &[Pressure]| {
            let thresholds = Thresholds::parse(&map(config)).expect("valid");
            let levels = [(signal, Level { available, capacity: 1000 })].into();
            assert_eq!(thresholds.pressures(&levels), expected, "{config:?} {signal:?} {available}");
        };
        check(&DEFAULTS, Signal::NodefsAvailable, 100, &[]);
        check(&DEFAULTS, Signal::NodefsAvailable, 99, &[Pressure::Disk]);
        check(&DEFAULTS, Signal::ImagefsAvailable, 149, &[Pressure::Disk]);
        check(&DEFAULTS, Signal::NodefsInodesFree, 49, &[Pressure::Disk]);
        check(&DEFAULTS, Signal::MemoryAvailable, 1 << 20, &[Pressure::Memory]);
        check(&DEFAULTS, Signal::MemoryAvailable, 100 << 20, &[]);
        check(&DEFAULTS, Signal::PidAvailable, 0, &[]);
        check(&[("pid.available", "5%")], Signal::PidAvailable, 49, &[Pressure::Pid]);
        check(&[("pid.available", "20")], Signal::PidAvailable, 20, &[]);
        check(&[("nodefs.available", "0%")], Signal::NodefsAvailable, 0, &[]);
        check(&[], Signal::MemoryAvailable, 0, &[]);
        assert_eq!(Thresholds::parse(&defaults()).expect("valid").pressures(&BTreeMap::new()), []);
    }

    #[test]
    fn what_is_kept_from_pods() {
        let thresholds = Thresholds::parse(&defaults()).expect("valid");
        assert_eq!(thresholds.kept(Signal::MemoryAvailable, 1 << 30), 100 << 20);
        assert_eq!(thresholds.kept(Signal::NodefsAvailable, 1000), 100);
        assert_eq!(thresholds.kept(Signal::PidAvailable, 1000), 0);
    }

    #[test]
    fn bad_thresholds() {
        let check = |signal: &str, text: &str, expected: &str| {
            let error = Thresholds::parse(&map(&[(signal, text)])).expect_err("refused");
            assert!(error.contains(expected), "{error}");
        };
        check("disk.available", "1Gi", "unsupported eviction signal disk.available");
        check("memory.available", "0", "must be positive");
        check("memory.available", "-1Gi", "must be positive");
        check("memory.available", "lots", "is no quantity");
        check("nodefs.available", "101%", "between 0% and 100%");
        check("nodefs.available", "-1%", "between 0% and 100%");
        check("nodefs.available", "NaN%", "between 0% and 100%");
        check("nodefs.available", "x%", "is no percentage");
    }
}
