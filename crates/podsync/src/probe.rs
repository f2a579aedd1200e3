//! One probe of one container as a state machine: thresholds, delays and the startup gate.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Probe;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Startup,
    Readiness,
    Liveness,
}

impl Kind {
    /// As events and metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Startup => "Startup",
            Kind::Readiness => "Readiness",
            Kind::Liveness => "Liveness",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Success,
    Failure,
}

/// The verdicts on one container instance; `None` until the first one falls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Probed {
    pub startup: Option<Outcome>,
    pub readiness: Option<Outcome>,
    pub liveness: Option<Outcome>,
}

impl Probed {
    pub fn set(&mut self, kind: Kind, outcome: Outcome) {
        match kind {
            Kind::Startup => self.startup = Some(outcome),
            Kind::Readiness => self.readiness = Some(outcome),
            Kind::Liveness => self.liveness = Some(outcome),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    pub initial_delay: Duration,
    pub period: Duration,
    pub timeout: Duration,
    pub success_threshold: u32,
    pub failure_threshold: u32,
}

impl Timing {
    pub fn of(probe: &Probe) -> Timing {
        let number = |value: Option<i32>, default: u32| {
            value.and_then(|v| u32::try_from(v).ok()).filter(|v| *v > 0).unwrap_or(default)
        };
        let seconds = |value: u32| Duration::from_secs(u64::from(value));
        Timing {
            initial_delay: seconds(number(probe.initial_delay_seconds, 0)),
            period: seconds(number(probe.period_seconds, 10)),
            timeout: seconds(number(probe.timeout_seconds, 1)),
            success_threshold: number(probe.success_threshold, 1),
            failure_threshold: number(probe.failure_threshold, 3),
        }
    }
}

#[derive(Debug)]
pub struct Machine {
    kind: Kind,
    timing: Timing,
    last: Option<Outcome>,
    run: u32,
    verdict: Option<Outcome>,
    /// A failed liveness or startup probe has sealed this instance's fate.
    on_hold: bool,
}

impl Machine {
    pub fn new(kind: Kind, timing: Timing) -> Machine {
        Machine { kind, timing, last: None, run: 0, verdict: None, on_hold: false }
    }

    /// Whether to probe at `now` an instance that began at `started_at`. `started`: its startup
    /// probe, if it has one, has passed.
    pub fn due(&self, started: bool, started_at: Timestamp, now: Timestamp) -> bool {
        let gate = if self.kind == Kind::Startup { !started } else { started };
        let age = now.duration_since(started_at);
        gate && !self.on_hold && age.unsigned_abs() >= self.timing.initial_delay && !age.is_negative()
    }

    /// No further probe of this instance will ever be due.
    pub fn is_over(&self, started: bool) -> bool {
        self.on_hold || (self.kind == Kind::Startup && started)
    }

    /// Takes in one probe's outcome; answers with the verdict when this one changed it.
    pub fn step(&mut self, outcome: Outcome) -> Option<Outcome> {
        self.run = if self.last == Some(outcome) { self.run + 1 } else { 1 };
        self.last = Some(outcome);
        let threshold = match outcome {
            Outcome::Success => self.timing.success_threshold,
            Outcome::Failure => self.timing.failure_threshold,
        };
        if self.run < threshold {
            return None;
        }
        if outcome == Outcome::Failure && self.kind != Kind::Readiness {
            self.on_hold = true;
        }
        (self.verdict.replace(outcome) != Some(outcome)).then_some(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;

    fn machine(kind: Kind, success: i32, failure: i32) -> Machine {
        let probe = Probe {
            success_threshold: Some(success),
            failure_threshold: Some(failure),
            initial_delay_seconds: Some(5),
            ..Probe::default()
        };
        Machine::new(kind, Timing::of(&probe))
    }

    #[test]
    fn thresholds() {
        let check = |kind: Kind, (success, failure): (i32, i32), outcomes: &str, expected: &str| {
            let mut machine = machine(kind, success, failure);
            let seen: String = outcomes
                .chars()
                .map(|c| if c == '+' { Outcome::Success } else { Outcome::Failure })
                .map(|outcome| match machine.step(outcome) {
                    Some(Outcome::Success) => '+',
                    Some(Outcome::Failure) => '-',
                    None => '.',
                })
                .collect();
            assert_eq!(seen, expected, "{kind:?} {outcomes}");
        };
        check(Kind::Readiness, (1, 3), "+---+", "+..-+");
        check(Kind::Readiness, (2, 1), "-+++-", "-.+.-");
        check(Kind::Liveness, (1, 3), "--+---", "..+..-");
        check(Kind::Startup, (1, 2), "-+", ".+");
    }

    #[test]
    fn gates() {
        let readiness = machine(Kind::Readiness, 1, 1);
        assert!(!readiness.due(true, at(0), at(4)), "initial delay");
        assert!(readiness.due(true, at(0), at(5)));
        assert!(!readiness.due(false, at(0), at(5)), "waits for the startup probe");
        let mut startup = machine(Kind::Startup, 1, 1);
        assert!(startup.due(false, at(0), at(5)));
        assert!(!startup.due(true, at(0), at(5)) && startup.is_over(true));
        startup.step(Outcome::Failure);
        assert!(!startup.due(false, at(0), at(9)) && startup.is_over(false));
    }

    #[test]
    fn defaults() {
        let timing = Timing::of(&Probe::default());
        assert_eq!((timing.period.as_secs(), timing.timeout.as_secs()), (10, 1));
        assert_eq!((timing.success_threshold, timing.failure_threshold), (1, 3));
    }
}
