//! A container's environment: services, `envFrom`, then `env` in order, each able to refer to
//! what came before it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, EnvVar, Pod};
use podsync::expand::expand;

use crate::container::downward::{self, Facts};
use crate::objects::Objects;

/// In the order the container sees them; later ones hide earlier ones of the same name.
#[derive(Debug, Default)]
pub struct Environment {
    names: Vec<String>,
    values: BTreeMap<String, String>,
}

impl Environment {
    pub fn set(&mut self, name: &str, value: String) {
        if self.values.insert(name.to_owned(), value).is_none() {
            self.names.push(name.to_owned());
        }
    }

    pub fn expand(&self, text: &str) -> String {
        expand(text, |name| self.values.get(name).cloned())
    }

    /// As [`Environment::expand`], but every variable must have a value: what comes out names a file.
    pub fn expand_fully(&self, text: &str) -> Result<String, String> {
        let missing = RefCell::new(BTreeSet::new());
        let expanded = expand(text, |name| {
            let value = self.values.get(name).filter(|value| !value.is_empty()).cloned();
            if value.is_none() {
                missing.borrow_mut().insert(name.to_owned());
            }
            value
        });
        let missing: Vec<String> = missing.into_inner().into_iter().collect();
        if missing.is_empty() { Ok(expanded) } else { Err(format!("missing value for {}", missing.join(", "))) }
    }

    pub fn into_pairs(self) -> Vec<(String, String)> {
        let mut values = self.values;
        self.names.into_iter().filter_map(|name| values.remove(&name).map(|value| (name, value))).collect()
    }
}

/// Errors are `CreateContainerConfigError` messages.
pub async fn build(
    pod: &Pod,
    container: &Container,
    services: BTreeMap<String, String>,
    objects: &Objects,
    facts: &Facts,
) -> Result<Environment, String> {
    let mut env = Environment::default();
    env_from(pod, container, objects, &mut env).await?;
    // A variable may name a service's, though services have the last place.
    let mut known = Environment::default();
    services.iter().chain(&env.values).for_each(|(name, value)| known.set(name, value.clone()));
    for var in container.env.iter().flatten() {
        if let Some(value) = value_of(pod, container, var, objects, facts, &known).await? {
            known.set(&var.name, value.clone());
            env.set(&var.name, value);
        }
    }
    for (name, value) in services {
        if !env.values.contains_key(&name) {
            env.set(&name, value);
        }
    }
    Ok(env)
}

async fn env_from(pod: &Pod, container: &Container, objects: &Objects, env: &mut Environment) -> Result<(), String> {
    let namespace = podsync::pod::namespace(pod);
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        if let Some(wanted) = &source.config_map_ref {
            let found = objects.config_map(namespace, &wanted.name).await.map_err(|e| e.to_string())?;
            match found {
                Some(map) => map.data.iter().flatten().for_each(|(k, v)| env.set(&format!("{prefix}{k}"), v.clone())),
                None if wanted.optional == Some(true) => {}
                None => return Err(format!("configmap {:?} not found", wanted.name)),
            }
        }
        if let Some(wanted) = &source.secret_ref {
            let found = objects.secret(namespace, &wanted.name).await.map_err(|e| e.to_string())?;
            match found {
                Some(secret) => secret.data.iter().flatten().for_each(|(k, v)| {
                    env.set(&format!("{prefix}{k}"), String::from_utf8_lossy(&v.0).into_owned());
                }),
                None if wanted.optional == Some(true) => {}
                None => return Err(format!("secret {:?} not found", wanted.name)),
            }
        }
    }
    Ok(())
}

/// `None`: an optional source that is not there.
async fn value_of(
    pod: &Pod,
    container: &Container,
    var: &EnvVar,
    objects: &Objects,
    facts: &Facts,
    known: &Environment,
) -> Result<Option<String>, String> {
    let Some(source) = &var.value_from else {
        return Ok(Some(known.expand(var.value.as_deref().unwrap_or_default())));
    };
    let namespace = podsync::pod::namespace(pod);
    if let Some(selector) = &source.field_ref {
        return downward::field(pod, &selector.field_path, facts).map(Some);
    }
    if let Some(selector) = &source.resource_field_ref {
        return downward::resource(pod, &container.name, selector, facts).map(Some);
    }
    if let Some(selector) = &source.config_map_key_ref {
        let (name, key) = (&selector.name, &selector.key);
        let map = objects.config_map(namespace, name).await.map_err(|e| e.to_string())?;
        let value = map.as_ref().and_then(|m| m.data.as_ref()?.get(key).cloned());
        return required(value, selector.optional, map.is_some(), "configmap", "ConfigMap", namespace, name, key);
    }
    if let Some(selector) = &source.secret_key_ref {
        let (name, key) = (&selector.name, &selector.key);
        let secret = objects.secret(namespace, name).await.map_err(|e| e.to_string())?;
        let value =
            secret.as_ref().and_then(|s| Some(String::from_utf8_lossy(&s.data.as_ref()?.get(key)?.0).into_owned()));
        return required(value, selector.optional, secret.is_some(), "secret", "Secret", namespace, name, key);
    }
    Err(format!("environment variable {}: unsupported source", var.name))
}

#[allow(clippy::too_many_arguments)]
fn required(
    value: Option<String>,
    optional: Option<bool>,
    exists: bool,
    resource: &str,
    kind: &str,
    namespace: &str,
    name: &str,
    key: &str,
) -> Result<Option<String>, String> {
    match value {
        Some(value) => Ok(Some(value)),
        None if optional == Some(true) => Ok(None),
        None if exists => Err(format!("couldn't find key {key} in {kind} {namespace}/{name}")),
        None => Err(format!("{resource} {name:?} not found")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_expansion_needs_every_value() {
        let mut env = Environment::default();
        env.set("A", "1".into());
        env.set("EMPTY", String::new());
        let check = |text: &str, expected: Result<&str, &str>| {
            assert_eq!(env.expand_fully(text).as_ref().map(String::as_str).map_err(String::as_str), expected, "{text}");
        };
        check("x/$(A)", Ok("x/1"));
        check("$$(B)", Ok("$(B)"));
        check("$(EMPTY)", Err("missing value for EMPTY"));
        check("$(P)/$(A)/$(B)/$(P)", Err("missing value for B, P"));
    }
}
