//! The `default` ServiceAccount and the `kube-root-ca.crt` ConfigMap of every namespace.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::meta::Meta;
use crate::plan::{Op, Plan};
use crate::selector::Labels;

pub const DEFAULT_ACCOUNT: &str = "default";
pub const ROOT_CA: &str = "kube-root-ca.crt";
const DESCRIPTION: &str = "kubernetes.io/description";

fn is_active(namespace: &Namespace) -> bool {
    let phase = namespace.status.as_ref().and_then(|status| status.phase.as_deref());
    !namespace.deleting() && phase != Some("Terminating")
}

/// Pods without an account run as `default`; it comes back when somebody deletes it.
pub fn plan_account(namespace: &Namespace, exists: bool) -> Plan {
    let mut plan = Plan::default();
    if is_active(namespace) && !exists {
        let account = ServiceAccount { metadata: in_namespace(namespace, DEFAULT_ACCOUNT), ..Default::default() };
        plan.push(Op::create(&account).or_exists());
    }
    plan
}

/// What pods verify the API server with.
pub fn plan_root_ca(namespace: &Namespace, current: Option<&ConfigMap>, pem: &str) -> Plan {
    let mut plan = Plan::default();
    if !is_active(namespace) {
        return plan;
    }
    let data = Labels::from([("ca.crt".to_owned(), pem.to_owned())]);
    match current {
        None => {
            let mut metadata = in_namespace(namespace, ROOT_CA);
            let text = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
                        endpoints such as the internal service IP or kubernetes.default.svc. No other usage is \
                        guaranteed across distributions of Kubernetes clusters.";
            metadata.annotations = Some(Labels::from([(DESCRIPTION.to_owned(), text.to_owned())]));
            plan.push(Op::create(&ConfigMap { metadata, data: Some(data), ..Default::default() }).or_exists());
        }
        Some(current) if current.data.as_ref() != Some(&data) => {
            plan.push(Op::update(&ConfigMap { data: Some(data), ..current.clone() }));
        }
        Some(_) => {}
    }
    plan
}

fn in_namespace(namespace: &Namespace, name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), namespace: Some(namespace.name().to_owned()), ..ObjectMeta::default() }
}
