//! ServiceCIDR: ranges out of which services are given their addresses; one of each family at most.

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{ServiceCIDR, ServiceCIDRStatus};

use crate::strategy::{Context, Strategy};
use crate::validation::{Error, ErrorList, IMMUTABLE, Path, each, names, spec};

const FAMILIES: &str =
    "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";

pub struct Rules;

impl Strategy for Rules {
    type Object = ServiceCIDR;

    /// Upstream always writes the status out.
    fn default(&self, object: &mut ServiceCIDR) {
        object.status.get_or_insert_default();
    }

    fn prepare_create(&self, object: &mut ServiceCIDR, _ctx: &Context) {
        object.status = Some(ServiceCIDRStatus::default());
    }

    fn prepare_update(&self, new: &mut ServiceCIDR, old: &ServiceCIDR, ctx: &Context) {
        super::keep_other_half!(new, old, ctx);
    }

    fn validate_create(&self, object: &ServiceCIDR, _ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        ranges(given(object), &spec().child("cidrs"), &mut errs);
        errs
    }

    fn validate_update(&self, new: &ServiceCIDR, old: &ServiceCIDR, ctx: &Context) -> ErrorList {
        let mut errs = ErrorList::new();
        if ctx.status {
            return errs;
        }
        let (now, before) = (given(new), given(old));
        let path = spec().child("cidrs");
        // A range of the other family may come later.
        let grows = before.len() == 1 && now.len() == 2;
        if now.len() != before.len() && !grows {
            errs.push(Error::invalid(&path, now.to_vec(), IMMUTABLE));
            return errs;
        }
        for (n, (now, _)) in now.iter().zip(before).enumerate().filter(|(_, (now, before))| now != before) {
            errs.push(Error::invalid(&path.index(n), now.as_str(), IMMUTABLE));
        }
        if grows {
            ranges(now, &path, &mut errs);
        }
        errs
    }
}

fn given(object: &ServiceCIDR) -> &[String] {
    object.spec.as_ref().and_then(|of| of.cidrs.as_deref()).unwrap_or_default()
}

fn ranges(given: &[String], path: &Path, errs: &mut ErrorList) {
    if given.is_empty() {
        errs.push(Error::required(path, "at least one CIDR required"));
    }
    if given.len() > 2 {
        errs.push(Error::invalid(path, given.to_vec(), "may only hold up to 2 values"));
        return;
    }
    for (n, range) in given.iter().enumerate() {
        each(canonical(range), range, &path.index(n), errs);
    }
    if let [Ok(first), Ok(second)] = given.iter().map(|range| range.parse::<IpNet>()).collect::<Vec<_>>()[..]
        && first.addr().is_ipv4() == second.addr().is_ipv4()
    {
        errs.push(Error::invalid(path, given.to_vec(), FAMILIES));
    }
}

fn canonical(range: &str) -> Vec<String> {
    match range.parse::<IpNet>() {
        Ok(net) if net.trunc().to_string() != range => {
            vec![format!("must be in canonical form ({:?})", net.trunc().to_string())]
        }
        _ => names::cidr(range),
    }
}
