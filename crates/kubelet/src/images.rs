//! Getting a container's image: pull policy, pull secrets, and upstream's events.

use std::time::Instant;

use base64::Engine;
use client::recorder::Type;
use cri::v1::{AuthConfig, ImageSpec, ImageStatusRequest, PodSandboxConfig, PullImageRequest};
use k8s_openapi::api::core::v1::{Container, Pod, Secret};
use podsync::duration::go;
use podsync::{Reason, image_name};
use serde::Deserialize;
use std::collections::BTreeMap;
use tokio::sync::Semaphore;

use crate::events::Events;
use crate::objects::Objects;

/// Pulls at once when they are not serialized.
const PARALLEL_PULLS: usize = 8;

pub struct Images {
    cri: cri::Client,
    events: Events,
    objects: Objects,
    slots: Semaphore,
}

/// `nginx` is `docker.io/library/nginx:latest` to the runtime; only an explicit tag or digest
/// changes the default pull policy.
fn default_policy(image: &str) -> &'static str {
    if image.contains('@') {
        return "IfNotPresent";
    }
    let name = image.rsplit('/').next().unwrap_or(image);
    match name.split_once(':') {
        None | Some((_, "latest")) => "Always",
        Some(_) => "IfNotPresent",
    }
}

/// What the container is created from, and the user the image asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Present {
    pub image_ref: String,
    /// The image's numeric user, or its name.
    pub uid: Option<i64>,
    pub username: String,
}

impl Images {
    pub fn new(cri: cri::Client, events: Events, objects: Objects, serialize: bool) -> Images {
        Images { cri, events, objects, slots: Semaphore::new(if serialize { 1 } else { PARALLEL_PULLS }) }
    }

    pub async fn ensure(
        &self,
        pod: &Pod,
        container: &Container,
        sandbox: &PodSandboxConfig,
    ) -> Result<Present, Reason> {
        let image = container.image.clone().unwrap_or_default();
        let name = &container.name;
        // One event says what happened, the next what it means for the container.
        let fail = |event: &str, text: &str, reason: Reason| {
            self.events.container(pod, name, Type::Warning, event, text);
            self.events.container(pod, name, Type::Warning, "Failed", &format!("Error: {}", reason.reason));
            reason
        };
        if let Err(why) = image_name::check(&image) {
            let message =
                format!("Failed to apply default image tag {image:?}: couldn't parse image name {image:?}: {why}");
            return Err(fail("InspectFailed", &message, Reason::new("InvalidImageName", message.clone())));
        }
        let present = self.status(&image).await.map_err(|error| {
            let message = format!("Failed to inspect image {image:?}: {error}");
            fail("InspectFailed", &message, Reason::new("ImageInspectError", message.clone()))
        })?;
        let policy = container.image_pull_policy.as_deref().unwrap_or_else(|| default_policy(&image));
        match (policy, present) {
            ("Never", None) => {
                let message = format!("Container image {image:?} is not present with pull policy of Never");
                Err(fail("ErrImageNeverPull", &message, Reason::new("ErrImageNeverPull", message.clone())))
            }
            ("Never" | "IfNotPresent", Some(present)) => {
                let message = format!("Container image {image:?} already present on machine");
                self.events.container(pod, name, Type::Normal, "Pulled", &message);
                Ok(present)
            }
            _ => self.pull(pod, name, &image, sandbox).await.map_err(|reason| {
                fail("Failed", &format!("Failed to pull image {image:?}: {}", reason.message), reason)
            }),
        }
    }

    async fn status(&self, image: &str) -> cri::Result<Option<Present>> {
        let spec = ImageSpec { image: image.to_owned(), ..ImageSpec::default() };
        let answer = self.cri.image_status(ImageStatusRequest { image: Some(spec), verbose: false }).await?;
        Ok(answer.image.map(|found| Present {
            image_ref: found.id,
            uid: found.uid.map(|uid| uid.value),
            username: found.username,
        }))
    }

    async fn pull(&self, pod: &Pod, name: &str, image: &str, sandbox: &PodSandboxConfig) -> Result<Present, Reason> {
        let error = |message: String| Reason::new("ErrImagePull", message);
        let waiting = Instant::now();
        let _slot = self.slots.acquire().await.map_err(|e| error(e.to_string()))?;
        self.events.container(pod, name, Type::Normal, "Pulling", &format!("Pulling image {image:?}"));
        let pulling = Instant::now();
        self.pull_with_any(pod, image, sandbox).await.map_err(error)?;
        let present = self.status(image).await.map_err(|e| error(e.to_string()))?;
        let present = present.ok_or_else(|| error("the runtime does not know the image it just pulled".into()))?;
        let rounded = |since: Instant| {
            go(std::time::Duration::from_millis(u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)))
        };
        let size = self.size(image).await;
        let message = format!(
            "Successfully pulled image {image:?} in {} ({} including waiting). Image size: {size} bytes.",
            rounded(pulling),
            rounded(waiting)
        );
        self.events.container(pod, name, Type::Normal, "Pulled", &message);
        Ok(present)
    }

    async fn size(&self, image: &str) -> u64 {
        let spec = ImageSpec { image: image.to_owned(), ..ImageSpec::default() };
        let answer = self.cri.image_status(ImageStatusRequest { image: Some(spec), verbose: false }).await;
        answer.ok().and_then(|a| a.image).map_or(0, |found| found.size)
    }

    /// Each matching credential in turn, or none at all.
    async fn pull_with_any(&self, pod: &Pod, image: &str, sandbox: &PodSandboxConfig) -> Result<(), String> {
        let credentials = self.credentials(pod, image).await;
        let attempts: Vec<Option<AuthConfig>> =
            if credentials.is_empty() { vec![None] } else { credentials.into_iter().map(Some).collect() };
        let mut last = String::new();
        for auth in attempts {
            let spec =
                ImageSpec { image: image.to_owned(), user_specified_image: image.to_owned(), ..ImageSpec::default() };
            let request = PullImageRequest { image: Some(spec), auth, sandbox_config: Some(sandbox.clone()) };
            match self.cri.pull_image(request).await {
                Ok(_) => return Ok(()),
                Err(error) => last = error.to_string(),
            }
        }
        Err(last)
    }

    /// A missing pull secret is no error: the image may be public.
    async fn credentials(&self, pod: &Pod, image: &str) -> Vec<AuthConfig> {
        let references = pod.spec.as_ref().and_then(|s| s.image_pull_secrets.as_deref()).unwrap_or_default();
        let mut found = Vec::new();
        for reference in references {
            match self.objects.secret(podsync::pod::namespace(pod), &reference.name).await {
                Ok(Some(secret)) => found.extend(matching(&secret, image)),
                Ok(None) => {
                    let message = format!(
                        "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                        reference.name
                    );
                    self.events.pod(pod, Type::Warning, "FailedToRetrieveImagePullSecret", &message);
                }
                Err(error) => tracing::warn!(%error, secret = reference.name, "cannot read an image pull secret"),
            }
        }
        found
    }
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, DockerAuth>,
}

#[derive(Deserialize, Default)]
struct DockerAuth {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    auth: String,
    #[serde(default)]
    identitytoken: String,
}

fn matching(secret: &Secret, image: &str) -> Vec<AuthConfig> {
    let data = secret.data.as_ref();
    let text = |key: &str| data.and_then(|d| d.get(key)).map(|bytes| bytes.0.as_slice());
    let auths = match (text(".dockerconfigjson"), text(".dockercfg")) {
        (Some(bytes), _) => serde_json::from_slice::<DockerConfig>(bytes).map(|c| c.auths).unwrap_or_default(),
        (None, Some(bytes)) => serde_json::from_slice(bytes).unwrap_or_default(),
        (None, None) => BTreeMap::new(),
    };
    let wanted = registry_of(image);
    auths
        .into_iter()
        .filter(|(server, _)| host_of(server) == wanted)
        .map(|(server, auth)| config(server, auth))
        .collect()
}

fn config(server: String, auth: DockerAuth) -> AuthConfig {
    let decoded = base64::engine::general_purpose::STANDARD.decode(&auth.auth).ok();
    let pair = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    let (username, password) = match pair.as_deref().and_then(|pair| pair.split_once(':')) {
        Some((user, password)) if auth.username.is_empty() => (user.to_owned(), password.to_owned()),
        _ => (auth.username, auth.password),
    };
    AuthConfig {
        username,
        password,
        server_address: server,
        identity_token: auth.identitytoken,
        ..AuthConfig::default()
    }
}

fn host_of(server: &str) -> &str {
    let bare = server.trim_start_matches("https://").trim_start_matches("http://");
    match bare.split('/').next().unwrap_or(bare) {
        "index.docker.io" => "docker.io",
        host => host,
    }
}

fn registry_of(image: &str) -> &str {
    image_name::split_domain(image).0.unwrap_or("docker.io")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_by_tag() {
        let check = |image: &str, expected: &str| assert_eq!(default_policy(image), expected, "{image}");
        check("nginx", "Always");
        check("nginx:latest", "Always");
        check("nginx:1.27", "IfNotPresent");
        check("localhost:5000/nginx", "Always");
        check("a/b@sha256:00", "IfNotPresent");
    }

    #[test]
    fn secrets_match_by_registry() {
        let body = r#"{"auths": {"https://index.docker.io/v1/": {"auth": "dTpw"},
            "localhost:5000": {"username": "x", "password": "y"}}}"#;
        let bytes = k8s_openapi::ByteString(body.as_bytes().to_vec());
        let secret = Secret { data: Some([(".dockerconfigjson".to_owned(), bytes)].into()), ..Secret::default() };
        let check = |image: &str, expected: &[(&str, &str)]| {
            let found = matching(&secret, image);
            let pairs: Vec<_> = found.iter().map(|a| (a.username.as_str(), a.password.as_str())).collect();
            assert_eq!(pairs, expected, "{image}");
        };
        check("nginx", &[("u", "p")]);
        check("localhost:5000/app:1", &[("x", "y")]);
        check("quay.io/app", &[]);
    }
}
