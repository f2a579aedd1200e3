//! Pods that wait for a node.
//!
//! A pod is in exactly one place: *active* (tried next, by priority, then age), *backoff* (failed lately and worth
//! another try, but not yet), *unschedulable* (waits for something to change), *gated*, or *in flight* (being
//! decided or bound). No clock: `now` is an argument, and [`Queue::deadline`] says when to come back.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use scheduling::PodInfo;

/// Even when nothing seems to have changed, a pod is tried again after this long.
pub const UNSCHEDULABLE_FLUSH: Duration = Duration::from_secs(5 * 60);

#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    pub initial: Duration,
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(10) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Active,
    Backoff,
    Unschedulable,
    Gated,
    InFlight,
}

/// Why a pod came back without a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// These plugins turned it down; their hints decide when it is tried again.
    Unschedulable(Vec<&'static str>),
    /// Something went wrong that time alone may cure.
    Error,
}

#[derive(Debug)]
struct Entry {
    pod: Arc<PodInfo>,
    place: Place,
    attempts: u32,
    /// When it was first put in the queue.
    since: Instant,
    /// When it last entered its place; older goes first.
    entered: Instant,
    serial: u64,
    /// The priority it was ranked by; the pod's own may have changed since.
    rank: i32,
    plugins: Vec<&'static str>,
    /// Until when the last failure keeps it from being tried.
    held_until: Instant,
    failed_with_error: bool,
}

/// A pod taken from the queue.
#[derive(Clone, Debug)]
pub struct Taken {
    pub pod: Arc<PodInfo>,
    pub attempts: u32,
    pub since: Instant,
}

type ActiveKey = (std::cmp::Reverse<i32>, Instant, u64);

#[derive(Debug, Default)]
pub struct Queue {
    backoff: Backoff,
    entries: HashMap<Box<str>, Entry>,
    active: BTreeSet<(ActiveKey, Box<str>)>,
    backing_off: BTreeSet<(Instant, u64, Box<str>)>,
    unschedulable: BTreeSet<(Instant, u64, Box<str>)>,
    gated: usize,
    serial: u64,
}

impl Queue {
    pub fn new(backoff: Backoff) -> Self {
        Queue { backoff, ..Queue::default() }
    }

    /// Adds a pod, or takes over its new form. `gated` pods wait outside.
    pub fn put(&mut self, pod: Arc<PodInfo>, gated: bool, now: Instant) -> Option<Place> {
        let Some(entry) = self.entries.get_mut(&pod.uid) else { return Some(self.insert(pod, gated, now)) };
        let changed = entry.pod.wants_differ(&pod);
        entry.pod = pod.clone();
        match (entry.place, gated) {
            (Place::InFlight, _) => None,
            (Place::Gated, true) => None,
            (_, true) => self.move_to(&pod.uid, Place::Gated, now),
            (Place::Gated, false) => self.move_to(&pod.uid, Place::Active, now),
            (Place::Unschedulable, false) if changed => self.retry(&pod.uid, now),
            (Place::Active, false) if changed => self.move_to(&pod.uid, Place::Active, now),
            _ => None,
        }
    }

    fn insert(&mut self, pod: Arc<PodInfo>, gated: bool, now: Instant) -> Place {
        let uid = pod.uid.clone();
        let entry = Entry {
            pod,
            place: Place::InFlight,
            attempts: 0,
            since: now,
            entered: now,
            serial: 0,
            rank: 0,
            plugins: Vec::new(),
            held_until: now,
            failed_with_error: false,
        };
        self.entries.insert(uid.clone(), entry);
        let place = if gated { Place::Gated } else { Place::Active };
        self.move_to(&uid, place, now);
        place
    }

    pub fn remove(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        self.leave(uid);
        self.entries.remove(uid).map(|entry| entry.pod)
    }

    pub fn get(&self, uid: &str) -> Option<&Arc<PodInfo>> {
        self.entries.get(uid).map(|entry| &entry.pod)
    }

    pub fn place(&self, uid: &str) -> Option<Place> {
        self.entries.get(uid).map(|entry| entry.place)
    }

    /// The next pod to try. With nothing active, one that is only backing off from being unschedulable is taken
    /// early: there is nothing better to do.
    pub fn pop(&mut self, now: Instant) -> Option<Taken> {
        let uid = match self.active.first() {
            Some((_, uid)) => uid.clone(),
            None => self.backing_off.iter().find(|(_, _, uid)| !self.entries[uid].failed_with_error)?.2.clone(),
        };
        self.move_to(&uid, Place::InFlight, now);
        let entry = self.entries.get_mut(&uid)?;
        entry.attempts += 1;
        Some(Taken { pod: entry.pod.clone(), attempts: entry.attempts, since: entry.since })
    }

    /// Brings a pod that is in flight back. A pod whose form changed meanwhile is worth another try at once.
    pub fn fail(&mut self, uid: &str, failure: Failure, now: Instant) -> Option<Place> {
        let backoff = self.backoff;
        let entry = self.entries.get_mut(uid).filter(|e| e.place == Place::InFlight)?;
        let factor = 1u32.checked_shl(entry.attempts.saturating_sub(1)).unwrap_or(u32::MAX);
        entry.held_until = now + backoff.initial.saturating_mul(factor).min(backoff.max);
        entry.failed_with_error = failure == Failure::Error;
        match failure {
            Failure::Error => self.move_to(uid, Place::Backoff, now),
            Failure::Unschedulable(plugins) => {
                entry.plugins = plugins;
                self.move_to(uid, Place::Unschedulable, now)
            }
        }
    }

    /// Moves the pods for which `worth_it` says so; returns where each went.
    pub fn wake(&mut self, now: Instant, worth_it: impl Fn(&PodInfo, &[&'static str]) -> bool) -> Vec<Place> {
        let candidates = self.unschedulable.iter().filter(|(_, _, uid)| {
            let entry = &self.entries[uid];
            worth_it(&entry.pod, &entry.plugins)
        });
        let uids: Vec<Box<str>> = candidates.map(|(_, _, uid)| uid.clone()).collect();
        uids.iter().filter_map(|uid| self.retry(uid, now)).collect()
    }

    /// Moves what has waited long enough; returns how many pods became active.
    pub fn tick(&mut self, now: Instant) -> usize {
        let mut moved = 0;
        while let Some((at, _, uid)) = self.backing_off.first().cloned()
            && at <= now
        {
            self.move_to(&uid, Place::Active, now);
            moved += 1;
        }
        while let Some((since, _, uid)) = self.unschedulable.first().cloned()
            && since + UNSCHEDULABLE_FLUSH <= now
        {
            self.retry(&uid, now);
            moved += 1;
        }
        moved
    }

    /// When [`Queue::tick`] next has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let backoff = self.backing_off.first().map(|(at, ..)| *at);
        let flush = self.unschedulable.first().map(|(since, ..)| *since + UNSCHEDULABLE_FLUSH);
        backoff.into_iter().chain(flush).min()
    }

    pub fn count(&self, place: Place) -> usize {
        match place {
            Place::Active => self.active.len(),
            Place::Backoff => self.backing_off.len(),
            Place::Unschedulable => self.unschedulable.len(),
            Place::Gated => self.gated,
            Place::InFlight => {
                self.entries.len() - self.active.len() - self.backing_off.len() - self.unschedulable.len() - self.gated
            }
        }
    }

    /// The plugins that keep pods waiting, one entry per pod.
    pub fn unschedulable_plugins(&self) -> impl Iterator<Item = (&PodInfo, &[&'static str])> {
        self.unschedulable.iter().map(|(_, _, uid)| &self.entries[uid]).map(|e| (&*e.pod, &e.plugins[..]))
    }

    fn retry(&mut self, uid: &str, now: Instant) -> Option<Place> {
        let held = self.entries.get(uid)?.held_until > now;
        self.move_to(uid, if held { Place::Backoff } else { Place::Active }, now)
    }

    fn move_to(&mut self, uid: &str, place: Place, now: Instant) -> Option<Place> {
        self.leave(uid);
        self.serial += 1;
        let serial = self.serial;
        let entry = self.entries.get_mut(uid)?;
        (entry.place, entry.entered, entry.serial, entry.rank) = (place, now, serial, entry.pod.priority);
        match place {
            Place::Active => drop(self.active.insert((active_key(entry), uid.into()))),
            Place::Backoff => drop(self.backing_off.insert((entry.held_until, serial, uid.into()))),
            Place::Unschedulable => drop(self.unschedulable.insert((now, serial, uid.into()))),
            Place::Gated => self.gated += 1,
            Place::InFlight => {}
        }
        Some(place)
    }

    fn leave(&mut self, uid: &str) {
        let Some(entry) = self.entries.get(uid) else { return };
        match entry.place {
            Place::Active => drop(self.active.remove(&(active_key(entry), uid.into()))),
            Place::Backoff => drop(self.backing_off.remove(&(entry.held_until, entry.serial, uid.into()))),
            Place::Unschedulable => drop(self.unschedulable.remove(&(entry.entered, entry.serial, uid.into()))),
            Place::Gated => self.gated -= 1,
            Place::InFlight => {}
        }
    }
}

fn active_key(entry: &Entry) -> ActiveKey {
    (std::cmp::Reverse(entry.rank), entry.entered, entry.serial)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, priority: i32) -> Arc<PodInfo> {
        Arc::new(PodInfo { name: name.into(), uid: name.into(), priority, ..PodInfo::default() })
    }

    fn pop(queue: &mut Queue, now: Instant) -> Option<String> {
        queue.pop(now).map(|taken| taken.pod.name.to_string())
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn priority_first_then_age() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for (i, (name, priority)) in [("a", 0), ("b", 5), ("c", 0), ("d", 5)].into_iter().enumerate() {
            queue.put(pod(name, priority), false, now + SECOND * i as u32);
        }
        let order: Vec<String> = std::iter::from_fn(|| pop(&mut queue, now)).collect();
        assert_eq!(order, ["b", "d", "a", "c"]);
        assert_eq!(queue.count(Place::InFlight), 4);
    }

    #[test]
    fn errors_back_off_twice_as_long_each_time() {
        let (mut queue, mut now) = (Queue::new(Backoff::default()), Instant::now());
        queue.put(pod("a", 0), false, now);
        let mut waits = Vec::new();
        for _ in 0..6 {
            assert_eq!(pop(&mut queue, now).as_deref(), Some("a"));
            queue.fail("a", Failure::Error, now);
            assert_eq!(pop(&mut queue, now), None);
            let deadline = queue.deadline().expect("it is backing off");
            waits.push((deadline - now).as_secs());
            now = deadline;
            assert_eq!(queue.tick(now), 1);
        }
        assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
    }

    #[test]
    fn only_a_hint_or_a_long_time_wakes_the_unschedulable() {
        let (mut queue, now) = (Queue::new(Backoff::default()), Instant::now());
        queue.put(pod("a", 0), false, now);
        queue.pop(now);
        queue.fail("a", Failure::Unschedulable(vec!["NodeResourcesFit"]), now);
        assert_eq!(queue.wake(now, |_, plugins| plugins.contains(&"NodeAffinity")), []);
        assert_eq!(queue.wake(now, |_, plugins| plugins.contains(&"NodeResourcesFit")), [Place::Backoff]);
        // Nothing else to do: it need not wait for the end of its back-off.
        assert_eq!(pop(&mut queue, now).as_deref(), Some("a"));
        queue.fail("a", Failure::Unschedulable(vec!["NodeResourcesFit"]), now);
        let later = now + SECOND * 30;
        assert_eq!(queue.wake(later, |_, _| true), [Place::Active]);
        queue.pop(later);
        queue.fail("a", Failure::Unschedulable(vec![]), later);
        assert_eq!(queue.deadline(), Some(later + UNSCHEDULABLE_FLUSH));
        assert_eq!(queue.tick(later + UNSCHEDULABLE_FLUSH), 1);
        assert_eq!(queue.place("a"), Some(Place::Active));
    }

    #[test]
    fn gates() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        assert_eq!(queue.put(pod("a", 0), true, now), Some(Place::Gated));
        assert_eq!((pop(&mut queue, now), queue.count(Place::Gated)), (None, 1));
        assert_eq!(queue.put(pod("a", 0), false, now), Some(Place::Active));
        assert_eq!((pop(&mut queue, now).as_deref(), queue.count(Place::Gated)), (Some("a"), 0));
    }

    #[test]
    fn a_change_of_what_it_asks_for_wakes_a_pod() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.put(pod("a", 0), false, now);
        queue.pop(now);
        queue.fail("a", Failure::Unschedulable(vec![]), now);
        let noted = PodInfo { nominated_node: "n".into(), ..(*pod("a", 0)).clone() };
        assert_eq!(queue.put(Arc::new(noted), false, now), None);
        let labelled = PodInfo { labels: [("a", "b")].into(), ..(*pod("a", 0)).clone() };
        assert!(queue.put(Arc::new(labelled), false, now).is_some());
        assert!(queue.remove("a").is_some());
        assert_eq!((queue.deadline(), pop(&mut queue, now)), (None, None));
    }
}
