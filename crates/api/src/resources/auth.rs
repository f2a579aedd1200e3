//! Who may do what: RBAC kinds, the reviews that ask, and requests for certificates.

use super::{cluster, namespaced, review, text};
use crate::names::NameRule;
use crate::printers::{certificates, rbac};
use crate::table::{Resource, Scope, Sub};

const AUTHENTICATION: (&str, &str) = ("authentication.k8s.io", "v1");
const AUTHORIZATION: (&str, &str) = ("authorization.k8s.io", "v1");
const CERTIFICATES: (&str, &str) = ("certificates.k8s.io", "v1");
const RBAC: (&str, &str) = ("rbac.authorization.k8s.io", "v1");

pub(super) fn rows() -> Vec<Resource> {
    vec![
        review(AUTHENTICATION, "SelfSubjectReview", "selfsubjectreviews", Scope::Cluster),
        review(AUTHENTICATION, "TokenReview", "tokenreviews", Scope::Cluster),
        review(AUTHORIZATION, "LocalSubjectAccessReview", "localsubjectaccessreviews", Scope::Namespaced),
        review(AUTHORIZATION, "SelfSubjectAccessReview", "selfsubjectaccessreviews", Scope::Cluster),
        review(AUTHORIZATION, "SelfSubjectRulesReview", "selfsubjectrulesreviews", Scope::Cluster),
        review(AUTHORIZATION, "SubjectAccessReview", "subjectaccessreviews", Scope::Cluster),
        cluster(CERTIFICATES, "CertificateSigningRequest", "certificatesigningrequests")
            .short(&["csr"])
            .named(NameRule::PathSegment)
            .subs(&[Sub::Approval, Sub::Status])
            .fields(&[("spec.signerName", |object| text(object, "/spec/signerName"))])
            .printed(certificates::certificate_signing_request()),
        cluster(RBAC, "ClusterRoleBinding", "clusterrolebindings")
            .named(NameRule::PathSegment)
            .printed(rbac::binding()),
        cluster(RBAC, "ClusterRole", "clusterroles").named(NameRule::PathSegment),
        namespaced(RBAC, "RoleBinding", "rolebindings").named(NameRule::PathSegment).printed(rbac::binding()),
        namespaced(RBAC, "Role", "roles").named(NameRule::PathSegment),
    ]
}
