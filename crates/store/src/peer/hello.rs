//! Who calls whom: in the metadata of every call between members, and checked at the other end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

/// A difference of clocks that is said; it does no harm to the data, but to what people make of logs and certificates.
const MAX_CLOCK_SKEW_MS: u64 = 1_000;
const CLUSTER: &str = "cluster-id";
const FROM: &str = "member-from";
const TO: &str = "member-to";
const CLOCK: &str = "clock-ms";
/// That the clocks differ is said so often.
const SAY_AGAIN_MS: u64 = 10_000;
/// etcd's words, which are what people search for.
const CLUSTER_MISMATCH: &str = "cluster ID mismatch";
pub const REMOVED: &str = "the member has been permanently removed from the cluster";

/// This member, as it introduces itself.
#[derive(Debug, Clone, Copy)]
pub struct Hello {
    pub cluster_id: u64,
    pub from: u64,
}

pub fn clock_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

impl Hello {
    pub fn introduce<T>(&self, message: T, to: u64) -> Request<T> {
        let mut request = Request::new(message);
        let text = |value: String| value.parse().expect("digits are valid metadata");
        let metadata = request.metadata_mut();
        metadata.insert(CLUSTER, text(format!("{:x}", self.cluster_id)));
        metadata.insert(FROM, text(format!("{:x}", self.from)));
        metadata.insert(TO, text(format!("{to:x}")));
        metadata.insert(CLOCK, text(clock_ms().to_string()));
        request
    }

    /// Who calls, if it is one of this cluster who means this member.
    pub fn check(&self, metadata: &MetadataMap, removed: impl Fn(u64) -> bool) -> Result<u64, Status> {
        let id = |key: &str| metadata.get(key).and_then(|v| u64::from_str_radix(v.to_str().ok()?, 16).ok());
        let (Some(cluster), Some(from), Some(to)) = (id(CLUSTER), id(FROM), id(TO)) else {
            return Err(Status::invalid_argument("the caller does not say who it is"));
        };
        if cluster != self.cluster_id {
            let text =
                format!("{CLUSTER_MISMATCH}: the caller is of cluster {cluster:x}, this is {:x}", self.cluster_id);
            return Err(Status::failed_precondition(text));
        }
        if to != self.from {
            let text = format!("member ID mismatch: the caller means {to:x}, this is {:x}", self.from);
            return Err(Status::failed_precondition(text));
        }
        if removed(from) {
            return Err(Status::permission_denied(REMOVED));
        }
        self.compare_clocks(from, metadata);
        Ok(from)
    }

    fn compare_clocks(&self, from: u64, metadata: &MetadataMap) {
        let theirs = metadata.get(CLOCK).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        let Some(skew) = theirs.map(|theirs| theirs.abs_diff(clock_ms())) else { return };
        if skew > MAX_CLOCK_SKEW_MS && may_say() {
            let peer = format!("{from:x}");
            tracing::warn!(
                peer,
                skew_ms = skew,
                "the clock difference against a peer is too high; synchronize the clocks"
            );
        }
    }
}

/// Not with every call.
fn may_say() -> bool {
    static SAID_MS: AtomicU64 = AtomicU64::new(0);
    let (now, said) = (clock_ms(), SAID_MS.load(Ordering::Relaxed));
    let due = now.abs_diff(said) >= SAY_AGAIN_MS;
    due && SAID_MS.compare_exchange(said, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    #[test]
    fn only_the_own_cluster_is_heard() {
        let me = Hello { cluster_id: 0xabc, from: 1 };
        let check = |caller: Hello, to: u64, expected: Result<u64, Code>| {
            let request = caller.introduce((), to);
            assert_eq!(me.check(request.metadata(), |id| id == 9).map_err(|s| s.code()), expected);
        };
        check(Hello { cluster_id: 0xabc, from: 2 }, 1, Ok(2));
        check(Hello { cluster_id: 0xabd, from: 2 }, 1, Err(Code::FailedPrecondition));
        check(Hello { cluster_id: 0xabc, from: 2 }, 3, Err(Code::FailedPrecondition));
        check(Hello { cluster_id: 0xabc, from: 9 }, 1, Err(Code::PermissionDenied));
        assert_eq!(me.check(&MetadataMap::new(), |_| false).map_err(|s| s.code()), Err(Code::InvalidArgument));
    }
}
