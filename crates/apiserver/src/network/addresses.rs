//! Which addresses services have: an IPAddress object each, whose name is the address. Whoever creates it has the
//! address, so any number of API servers may give them; the ranges are those of the ServiceCIDRs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use api::{ApiError, meta};
use ipnet::{IpNet, Ipv4Net};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::authn::User;
use crate::rest::options::Deletion;
use crate::rest::write::Writer;
use crate::rest::{create, delete};
use crate::state::Api;

pub const DEFAULT_RANGE: &str = "kubernetes";
const FAMILY: &str = "ipaddress.kubernetes.io/ip-family";
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const MANAGER: &str = "ipallocator.k8s.io";
/// A service is written after its address.
const GRACE: SignedDuration = SignedDuration::from_secs(60);

#[derive(Debug)]
pub enum Error {
    Taken,
    OutOfRange,
    Full,
    Api(ApiError),
}

/// Ranges that give addresses: those that are to go, or said not to be ready, give none.
pub fn ranges(api: &Api) -> Vec<Ipv4Net> {
    let all = api.builtin("servicecidrs").all().into_iter().map(|entry| entry.value());
    let of = |range: Value| -> Vec<Ipv4Net> {
        let cidrs = range.pointer("/spec/cidrs").and_then(Value::as_array).cloned().unwrap_or_default();
        let nets = cidrs.iter().filter_map(|cidr| cidr.as_str()?.parse::<IpNet>().ok());
        nets.filter_map(|net| if let IpNet::V4(v4) = net { Some(v4) } else { None }).collect()
    };
    let unready = |range: &Value| {
        let conditions = range.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
        conditions.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] != "True")
    };
    let mut found: Vec<Ipv4Net> =
        all.filter(|range| !meta::is_deleting(range) && !unready(range)).flat_map(of).collect();
    found.sort();
    found.dedup();
    found
}

/// The first and the last address of a range are given to nobody.
fn bounds(range: Ipv4Net) -> (u32, u32) {
    (u32::from(range.network()).saturating_add(1), u32::from(range.broadcast()).saturating_sub(1))
}

fn contains(range: Ipv4Net, address: Ipv4Addr) -> bool {
    let (first, last) = bounds(range);
    (first..=last).contains(&u32::from(address))
}

/// What this server has written itself is seen: a range that was added, an address that was given back.
async fn catch_up(api: &Api) -> Result<(), Error> {
    for path in ["servicecidrs", "ipaddresses"] {
        api.caches.own_writes(api.builtin(path)).await.map_err(Error::Api)?;
    }
    Ok(())
}

/// Takes one address for a service.
pub async fn take(api: &Api, address: Ipv4Addr, service: &Value, dry_run: bool) -> Result<(), Error> {
    catch_up(api).await?;
    if !ranges(api).into_iter().any(|range| contains(range, address)) {
        return Err(Error::OutOfRange);
    }
    match dry_run {
        true if api.builtin("ipaddresses").get(&address.to_string()).is_some() => Err(Error::Taken),
        true => Ok(()),
        false => claim(api, address, service).await,
    }
}

/// Takes any: one that nobody is known to have, from a place that `seed` says.
pub async fn next(api: &Api, seed: u64, service: &Value, dry_run: bool) -> Result<Ipv4Addr, Error> {
    catch_up(api).await?;
    let cache = api.builtin("ipaddresses").clone();
    for range in ranges(api) {
        for number in order(bounds(range), seed) {
            let address = Ipv4Addr::from(number);
            if cache.get(&address.to_string()).is_some() {
                continue;
            }
            if dry_run {
                return Ok(address);
            }
            match claim(api, address, service).await {
                Err(Error::Taken) => {}
                claimed => return claimed.map(|()| address),
            }
        }
    }
    Err(Error::Full)
}

/// What is chosen for a user comes from the upper part of the range, so that addresses which users pick by hand from the
/// lower part rarely collide: min(max(16, size/16), 256) are kept back, none of a small range.
fn order((first, last): (u32, u32), seed: u64) -> impl Iterator<Item = u32> {
    let size = last.saturating_sub(first).saturating_add(1);
    let kept = if size / 16 < 16 { 0 } else { (size / 16).min(256) };
    let from = first + kept;
    let start = from + u32::try_from(seed % u64::from(last.saturating_sub(from) + 1)).unwrap_or(0);
    (start..=last).chain(from..start).chain(first..from)
}

async fn claim(api: &Api, address: Ipv4Addr, service: &Value) -> Result<(), Error> {
    let object = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
        "metadata": {"name": address.to_string(), "labels": {FAMILY: "IPv4", MANAGED_BY: MANAGER}},
        "spec": {"parentRef": {"resource": "services", "namespace": meta::namespace(service), "name": meta::name(service)}},
    });
    let (kind, user) = (api.kind("networking.k8s.io", "v1", "ipaddresses"), User::loopback());
    match Box::pin(create::new_object(api, kind, &on_own_account(&user), object)).await {
        Ok(_) => Ok(()),
        Err(error) if error.reason() == "AlreadyExists" => Err(Error::Taken),
        Err(error) => Err(Error::Api(error)),
    }
}

fn on_own_account(user: &User) -> Writer<'_> {
    Writer { user, now: Timestamp::now(), dry_run: false, request: None }
}

/// Gives addresses back; what fails now the next repair does.
pub async fn release(api: &Api, addresses: &[Ipv4Addr]) {
    if addresses.is_empty() {
        return;
    }
    let (kind, user) = (api.kind("networking.k8s.io", "v1", "ipaddresses"), User::loopback());
    for address in addresses {
        let (writer, name, options) = (on_own_account(&user), address.to_string(), Deletion::default());
        let gone = Box::pin(delete::one(api, kind, &writer, "", &name, &options)).await.map(drop);
        if let Err(error) = gone.or_else(|error| if error.code() == 404 { Ok(()) } else { Err(error) }) {
            tracing::warn!(%address, %error, "an address is not given back");
        }
    }
}

/// Each service has its address written down, and what no service has is given back: after a crash between two writes,
/// and for services from before there were such objects.
pub async fn repair(api: &Api) -> Result<(), ApiError> {
    api.caches.fresh().await?;
    let mut held: BTreeMap<Ipv4Addr, Value> = BTreeMap::new();
    for service in api.builtin("services/specs").all().into_iter().map(|entry| entry.value()) {
        if let Some(address) = address_of(&service) {
            held.insert(address, service);
        }
    }
    let known: Vec<Value> = api.builtin("ipaddresses").all().into_iter().map(|entry| entry.value()).collect();
    let named: BTreeSet<Ipv4Addr> = known.iter().filter_map(|object| meta::name(object).parse().ok()).collect();
    for (address, service) in held.iter().filter(|(address, _)| !named.contains(address)) {
        if let Err(Error::Api(error)) = claim(api, *address, service).await {
            return Err(error);
        }
    }
    let now = Timestamp::now();
    let old = |object: &Value| {
        let made = meta::time(meta::text(object, "creationTimestamp"));
        made.is_none_or(|made| now.duration_since(made) > GRACE)
    };
    let ours = |object: &&Value| object.pointer("/metadata/labels").is_some_and(|labels| labels[MANAGED_BY] == MANAGER);
    let unused = known.iter().filter(ours).filter(|object| old(object));
    let unused: Vec<Ipv4Addr> =
        unused.filter_map(|o| meta::name(o).parse().ok()).filter(|a| !held.contains_key(a)).collect();
    if !unused.is_empty() {
        tracing::warn!(?unused, "no service has these addresses: they are given back");
        release(api, &unused).await;
    }
    Ok(())
}

/// The address that a service has, if it is given one.
pub fn address_of(service: &Value) -> Option<Ipv4Addr> {
    service.pointer("/spec/clusterIP")?.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_for_users_come_from_the_upper_part() {
        let range: Ipv4Net = "10.0.0.0/23".parse().expect("a range");
        let numbers: Vec<u32> = order(bounds(range), 7).collect();
        let base = u32::from(Ipv4Addr::new(10, 0, 0, 0));
        // 510 / 16 = 31 are kept back.
        assert_eq!((numbers[0], numbers.len()), (base + 1 + 31 + 7, 510));
        assert!(numbers[..479].iter().all(|n| *n > base + 31) && numbers[479..].iter().all(|n| *n <= base + 31));
        assert_eq!(numbers.iter().collect::<BTreeSet<_>>().len(), 510);
        let small: Ipv4Net = "10.0.0.0/30".parse().expect("a range");
        assert_eq!(order(bounds(small), 1).collect::<Vec<_>>(), [base + 2, base + 1]);
        // Whoever may make ranges may make these, too.
        for (range, least) in [("255.255.255.255/32", 0), ("0.0.0.0/32", 0), ("10.0.0.0/31", 0), ("0.0.0.0/0", 100)] {
            let range: Ipv4Net = range.parse().expect("a range");
            let given = order(bounds(range), u64::MAX).take(100).filter(|n| contains(range, Ipv4Addr::from(*n)));
            assert_eq!(given.count(), least, "{range}");
        }
    }
}
