//! The downward API: fields and resources of the pod as text.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use podsync::{quantity, resources};

/// What a running pod knows beyond its spec.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    pub node_name: String,
    pub host_ips: Vec<String>,
    pub pod_ips: Vec<String>,
    pub allocatable: BTreeMap<String, Quantity>,
}

/// `metadata.labels['x']` and `metadata.annotations['x']`.
fn subscript<'a>(path: &'a str, field: &str) -> Option<&'a str> {
    path.strip_prefix(field)?.strip_prefix("['")?.strip_suffix("']")
}

/// One `key="value"` line each, values quoted as Go does.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let quoted = |(key, value): (&String, &String)| format!("{key}={value:?}");
    map.into_iter().flatten().map(quoted).collect::<Vec<_>>().join("\n")
}

pub fn field(pod: &Pod, path: &str, facts: &Facts) -> Result<String, String> {
    let meta = &pod.metadata;
    let lookup =
        |map: Option<&BTreeMap<String, String>>, key: &str| map.and_then(|m| m.get(key)).cloned().unwrap_or_default();
    if let Some(key) = subscript(path, "metadata.labels") {
        return Ok(lookup(meta.labels.as_ref(), key));
    }
    if let Some(key) = subscript(path, "metadata.annotations") {
        return Ok(lookup(meta.annotations.as_ref(), key));
    }
    let account = pod.spec.as_ref().and_then(|s| s.service_account_name.clone());
    Ok(match path {
        "metadata.name" => meta.name.clone().unwrap_or_default(),
        "metadata.namespace" => meta.namespace.clone().unwrap_or_default(),
        "metadata.uid" => meta.uid.clone().unwrap_or_default(),
        "metadata.labels" => lines(meta.labels.as_ref()),
        "metadata.annotations" => lines(meta.annotations.as_ref()),
        "spec.nodeName" => facts.node_name.clone(),
        "spec.serviceAccountName" => account.unwrap_or_default(),
        "status.hostIP" => facts.host_ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" => facts.host_ips.join(","),
        "status.podIP" => facts.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => facts.pod_ips.join(","),
        other => return Err(format!("unsupported fieldPath: {other}")),
    })
}

/// A container's request or limit, in units of the divisor, rounded up.
pub fn resource(pod: &Pod, own: &str, selector: &ResourceFieldSelector, facts: &Facts) -> Result<String, String> {
    let name = selector.container_name.as_deref().filter(|n| !n.is_empty()).unwrap_or(own);
    let container = podsync::pod::container(pod, name).ok_or_else(|| format!("container {name} not found"))?;
    let value = match selector.resource.split_once('.') {
        Some(("limits", name)) => resources::effective_limit(&container, name, &facts.allocatable),
        Some(("requests", name)) => resources::effective_request(&container, name),
        _ => return Err(format!("unsupported container resource : {}", selector.resource)),
    };
    let one = Quantity("1".into());
    let divisor = selector.divisor.as_ref().filter(|q| quantity::milli(q) > 0).unwrap_or(&one);
    Ok(quantity::divide(&value, divisor).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "labels": {"a": "1", "b": "x\"y"}},
            "spec": {"containers": [{"name": "c", "resources": {"limits": {"memory": "64Mi"}}}]}}))
        .expect("a pod");
        let facts = Facts { pod_ips: vec!["10.0.0.1".into(), "fd00::1".into()], ..Facts::default() };
        let check = |path: &str, expected: Result<&str, ()>| {
            assert_eq!(field(&pod, path, &facts).as_deref().map_err(|_| ()), expected, "{path}");
        };
        check("metadata.name", Ok("p"));
        check("metadata.labels['a']", Ok("1"));
        check("metadata.labels['missing']", Ok(""));
        check("metadata.labels", Ok("a=\"1\"\nb=\"x\\\"y\""));
        check("status.podIPs", Ok("10.0.0.1,fd00::1"));
        check("spec.nope", Err(()));
        let limit = |divisor: &str| {
            let selector = ResourceFieldSelector {
                resource: "limits.memory".into(),
                divisor: Some(Quantity(divisor.into())),
                container_name: None,
            };
            resource(&pod, "c", &selector, &facts).expect("a value")
        };
        assert_eq!((limit("1Mi").as_str(), limit("0").as_str()), ("64", "67108864"));
    }
}
