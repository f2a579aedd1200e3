//! Ranges of services: each is kept as long as someone has an address out of it that no other range holds.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::meta::{Meta, after_seconds};
use crate::plan::{Op, Plan};

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const READY: &str = "Ready";
/// Whoever gives addresses may not have heard yet that the range is to go.
const GRACE: SignedDuration = SignedDuration::from_secs(10);
const IN_USE: &str =
    "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";

pub struct Observed<'a> {
    pub ranges: &'a [Arc<ServiceCIDR>],
    pub addresses: &'a [Arc<IPAddress>],
}

pub fn plan(range: &ServiceCIDR, observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let held = range.meta().finalizers.iter().flatten().any(|name| name == FINALIZER);
    let Some(deleted) = range.meta().deletion_timestamp.as_ref() else {
        if !held {
            let mut kept = range.clone();
            kept.metadata.finalizers.get_or_insert_default().push(FINALIZER.to_owned());
            plan.push(Op::update(&kept));
            // The update's event brings the rest.
            return plan;
        }
        show(range, ("True", "", "Kubernetes Service CIDR is ready"), now, &mut plan);
        return plan;
    };
    if !held {
        return plan;
    }
    if is_used(range, observed) {
        show(range, ("False", "Terminating", IN_USE), now, &mut plan);
        return plan;
    }
    let due = after_seconds(deleted.0, GRACE.as_secs());
    if due > now {
        plan.requeue_at(due, now);
        return plan;
    }
    let mut released = range.clone();
    released.metadata.finalizers.get_or_insert_default().retain(|name| name != FINALIZER);
    plan.push(Op::update(&released));
    plan
}

fn nets(range: &ServiceCIDR) -> Vec<IpNet> {
    let cidrs = range.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten());
    cidrs.filter_map(|cidr| cidr.parse().ok()).collect()
}

/// Whether an address out of it would have no range without it.
fn is_used(range: &ServiceCIDR, observed: &Observed) -> bool {
    let own = nets(range);
    let others = observed.ranges.iter().filter(|other| other.name() != range.name() && !other.deleting());
    let others: Vec<IpNet> = others.flat_map(|other| nets(other)).collect();
    let within = |nets: &[IpNet], address: &IpAddr| nets.iter().any(|net| net.contains(address));
    let mut addresses = observed.addresses.iter().filter_map(|object| object.name().parse::<IpAddr>().ok());
    addresses.any(|address| within(&own, &address) && !within(&others, &address))
}

fn show(range: &ServiceCIDR, (status, reason, message): (&str, &str, &str), now: Timestamp, plan: &mut Plan) {
    let mut shown = range.clone();
    let conditions = shown.status.get_or_insert_default().conditions.get_or_insert_default();
    let known = conditions.iter().find(|condition| condition.type_ == READY);
    if known.is_some_and(|c| (c.status.as_str(), c.reason.as_str(), c.message.as_str()) == (status, reason, message)) {
        return;
    }
    let since = known.filter(|c| c.status == status).map_or(Time(now), |c| c.last_transition_time.clone());
    conditions.retain(|condition| condition.type_ != READY);
    conditions.push(Condition {
        type_: READY.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: since,
        observed_generation: None,
    });
    plan.push(Op::update_status(&shown));
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{at, line, object};

    fn range(name: &str, cidr: &str, metadata: Value, status: Value) -> Arc<ServiceCIDR> {
        let mut metadata = metadata;
        metadata["name"] = name.into();
        Arc::new(object(json!({"metadata": metadata, "spec": {"cidrs": [cidr]}, "status": status})))
    }

    fn ready() -> Value {
        json!({"conditions": [{"type": "Ready", "status": "True", "reason": "", "message":
            "Kubernetes Service CIDR is ready", "lastTransitionTime": "1970-01-01T00:00:00Z"}]})
    }

    fn check(of: &ServiceCIDR, ranges: &[Arc<ServiceCIDR>], addresses: &[&str], now: i64, expected: &[&str]) -> Plan {
        let address = |name: &&str| {
            let parent = json!({"resource": "services", "name": "s"});
            Arc::new(object::<IPAddress>(json!({"metadata": {"name": name}, "spec": {"parentRef": parent}})))
        };
        let addresses: Vec<_> = addresses.iter().map(address).collect();
        let plan = plan(of, &Observed { ranges, addresses: &addresses }, at(now));
        assert_eq!(plan.ops.iter().map(line).collect::<Vec<_>>(), expected);
        plan
    }

    #[test]
    fn a_new_range_is_held_and_then_ready() {
        let new = range("a", "10.0.0.0/24", json!({}), json!({}));
        check(&new, &[], &[], 0, &["update servicecidrs/a"]);
        let held = range("a", "10.0.0.0/24", json!({"finalizers": [FINALIZER]}), json!({}));
        check(&held, &[], &[], 0, &["update servicecidrs/a/status"]);
        check(&range("a", "10.0.0.0/24", json!({"finalizers": [FINALIZER]}), ready()), &[], &[], 0, &[]);
    }

    #[test]
    fn a_range_that_is_used_stays() {
        let metadata = json!({"finalizers": [FINALIZER], "deletionTimestamp": "1970-01-01T00:00:00Z"});
        let going = range("a", "10.0.0.0/24", metadata.clone(), ready());
        check(&going, &[], &["10.0.0.7"], 60, &["update servicecidrs/a/status"]);
        check(&going, &[], &["10.0.1.7"], 60, &["update servicecidrs/a"]);
        // Another range has the address, too; but not one that goes as well.
        let other = range("b", "10.0.0.0/25", json!({}), json!({}));
        check(&going, std::slice::from_ref(&other), &["10.0.0.7"], 60, &["update servicecidrs/a"]);
        check(&going, &[other], &["10.0.0.200"], 60, &["update servicecidrs/a/status"]);
        let also = range("b", "10.0.0.0/25", metadata, json!({}));
        check(&going, &[also], &["10.0.0.7"], 60, &["update servicecidrs/a/status"]);
        // Not before everyone has heard.
        let soon = check(&going, &[], &[], 4, &[]);
        assert_eq!(soon.requeue_after, Some(std::time::Duration::from_secs(6)));
    }
}
