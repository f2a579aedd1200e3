//! What a request asks for, read from its method and path alone: the verb, and for resource requests the group,
//! version, resource, subresource, namespace and name. Authorization and routing both work on this.

use http::Method;
use percent_encoding::percent_decode_str;

use super::query::Query;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    pub is_resource: bool,
    pub path: String,
    pub verb: String,
    pub group: String,
    pub version: String,
    pub namespace: String,
    pub resource: String,
    pub subresource: String,
    pub name: String,
    /// What follows the subresource (`proxy/some/path`).
    pub rest: Vec<String>,
}

impl RequestInfo {
    pub fn parse(method: &Method, path: &str, query: &Query) -> Self {
        let mut info = Self { path: path.to_owned(), verb: method.as_str().to_ascii_lowercase(), ..Self::default() };
        let parts: Vec<String> =
            path.trim_matches('/').split('/').map(|p| percent_decode_str(p).decode_utf8_lossy().into_owned()).collect();
        let rest = match parts.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["api", version, _, ..] => {
                version.clone_into(&mut info.version);
                &parts[2..]
            }
            ["apis", group, version, _, ..] => {
                group.clone_into(&mut info.group);
                version.clone_into(&mut info.version);
                &parts[3..]
            }
            _ => return info,
        };
        info.is_resource = true;
        info.verb = verb(method).to_owned();
        let rest = match rest.split_first() {
            Some((first, rest)) if first == "watch" && !rest.is_empty() => {
                info.verb = "watch".to_owned();
                rest
            }
            _ => rest,
        };
        info.parse_resource(rest);
        info.refine_verb(query);
        info
    }

    fn parse_resource(&mut self, parts: &[String]) {
        let mut parts = parts;
        if parts[0] == "namespaces" && parts.len() > 1 {
            self.namespace.clone_from(&parts[1]);
            // Below a namespace there are resources, except for the namespace's own subresources.
            if parts.len() > 2 && !matches!(parts[2].as_str(), "status" | "finalize") {
                parts = &parts[2..];
            }
        }
        let mut parts = parts.iter().cloned();
        self.resource = parts.next().unwrap_or_default();
        self.name = parts.next().unwrap_or_default();
        self.subresource = parts.next().unwrap_or_default();
        self.rest = parts.collect();
    }

    fn refine_verb(&mut self, query: &Query) {
        if self.name.is_empty() {
            match self.verb.as_str() {
                "get" if query.truthy("watch") => "watch".clone_into(&mut self.verb),
                "get" => "list".clone_into(&mut self.verb),
                "delete" => "deletecollection".clone_into(&mut self.verb),
                _ => {}
            }
        }
        // A list of one name is authorized as that name.
        let collection = self.name.is_empty() && matches!(self.verb.as_str(), "list" | "watch" | "deletecollection");
        if let Some(name) = query.get("fieldSelector").and_then(single_name).filter(|_| collection) {
            self.name = name;
        }
    }

    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// Watches and streams have no deadline and no place in the inflight count.
    pub fn is_long_running(&self) -> bool {
        self.verb == "watch" || matches!(self.subresource.as_str(), "log" | "exec" | "attach" | "portforward" | "proxy")
    }
}

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::GET | Method::HEAD => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

fn single_name(selector: &str) -> Option<String> {
    let terms = selector.split(',').map(|t| t.split_once('=').unwrap_or((t, "")));
    terms
        .filter(|(key, _)| *key == "metadata.name")
        .map(|(_, value)| value.trim_start_matches('=').to_owned())
        .find(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: Method, uri: &str, expected: &str) {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let i = RequestInfo::parse(&method, path, &Query::parse(query));
        let gv = i.api_version();
        let got = if i.is_resource {
            format!("{} {gv} {}|{}|{}|{}|{}", i.verb, i.namespace, i.resource, i.subresource, i.name, i.rest.join("/"))
        } else {
            format!("{} {}", i.verb, i.path)
        };
        assert_eq!(got, expected, "{uri}");
    }

    #[test]
    fn paths() {
        use Method as M;
        check(M::GET, "/api/v1/namespaces", "list v1 |namespaces|||");
        check(M::GET, "/api/v1/namespaces/a", "get v1 a|namespaces||a|");
        check(M::PUT, "/api/v1/namespaces/a/finalize", "update v1 a|namespaces|finalize|a|");
        check(M::GET, "/api/v1/namespaces/a/pods?watch=true", "watch v1 a|pods|||");
        check(M::GET, "/api/v1/watch/namespaces/a/pods", "watch v1 a|pods|||");
        check(M::GET, "/api/v1/namespaces/a/pods/b/log", "get v1 a|pods|log|b|");
        check(M::POST, "/api/v1/namespaces/a/services/b/proxy/x/y", "create v1 a|services|proxy|b|x/y");
        check(M::DELETE, "/apis/apps/v1/namespaces/a/deployments", "deletecollection apps/v1 a|deployments|||");
        check(M::PATCH, "/apis/apps/v1/namespaces/a/deployments/d/scale", "patch apps/v1 a|deployments|scale|d|");
        check(M::GET, "/api/v1/nodes?fieldSelector=metadata.name%3Dn1", "list v1 |nodes||n1|");
        check(M::GET, "/apis/apps/v1", "get /apis/apps/v1");
        check(M::GET, "/api/v1", "get /api/v1");
        check(M::GET, "/healthz", "get /healthz");
        check(M::POST, "/api/v1/namespaces/a/bindings", "create v1 a|bindings|||");
    }
}
