//! configMap, secret, downwardAPI and projected volumes, all seen as projections.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ConfigMapProjection, DownwardAPIProjection, KeyToPath, Pod, SecretProjection, ServiceAccountTokenProjection,
    Volume, VolumeProjection,
};
use podsync::pod as spec;

use super::Result;
use super::writer::{File, Files};
use crate::container::downward::{self, Facts};
use crate::context::Context;

const DEFAULT_MODE: i32 = 0o644;

pub struct Projection {
    /// The directory upstream keeps volumes of this kind in.
    pub plugin: &'static str,
    pub sources: Vec<VolumeProjection>,
    pub default_mode: i32,
    /// Secrets never touch a disk.
    pub in_memory: bool,
}

pub struct Payload {
    pub files: Files,
    pub refresh_at: Option<Timestamp>,
}

pub fn of(volume: &Volume) -> Option<Projection> {
    let mode = |mode: Option<i32>| mode.unwrap_or(DEFAULT_MODE);
    let single = |plugin, source: VolumeProjection, default_mode, in_memory| {
        Some(Projection { plugin, sources: vec![source], default_mode, in_memory })
    };
    if let Some(s) = &volume.config_map {
        let config_map = ConfigMapProjection { items: s.items.clone(), name: s.name.clone(), optional: s.optional };
        let source = VolumeProjection { config_map: Some(config_map), ..VolumeProjection::default() };
        return single("configmap", source, mode(s.default_mode), false);
    }
    if let Some(s) = &volume.secret {
        let name = s.secret_name.clone().unwrap_or_default();
        let secret = SecretProjection { items: s.items.clone(), name, optional: s.optional };
        let source = VolumeProjection { secret: Some(secret), ..VolumeProjection::default() };
        return single("secret", source, mode(s.default_mode), true);
    }
    if let Some(s) = &volume.downward_api {
        let downward_api = Some(DownwardAPIProjection { items: s.items.clone() });
        let source = VolumeProjection { downward_api, ..VolumeProjection::default() };
        return single("downward-api", source, mode(s.default_mode), true);
    }
    let s = volume.projected.as_ref()?;
    let sources = s.sources.clone().unwrap_or_default();
    Some(Projection { plugin: "projected", sources, default_mode: mode(s.default_mode), in_memory: true })
}

pub async fn payload(
    ctx: &Context,
    pod: &Pod,
    volume: &str,
    projection: &Projection,
    facts: &Facts,
) -> Result<Payload> {
    let mut payload = Payload { files: Files::new(), refresh_at: None };
    let mode = projection.default_mode;
    for source in &projection.sources {
        if let Some(source) = &source.config_map {
            payload.files.extend(config_map(ctx, pod, source, mode).await?);
        } else if let Some(source) = &source.secret {
            payload.files.extend(secret(ctx, pod, source, mode).await?);
        } else if let Some(source) = &source.downward_api {
            payload.files.extend(downward_api(pod, source, mode, facts)?);
        } else if let Some(source) = &source.service_account_token {
            let refresh_at = token(ctx, pod, volume, source, mode, &mut payload.files).await?;
            payload.refresh_at = [payload.refresh_at, Some(refresh_at)].into_iter().flatten().min();
        } else {
            return Err("a projected source is not supported on this node".into());
        }
    }
    Ok(payload)
}

fn file(data: Vec<u8>, mode: i32) -> File {
    File { data, mode: u32::try_from(mode).unwrap_or(0o644) & 0o777, uid: None }
}

/// All keys, or just the listed ones under their new names.
fn select(data: BTreeMap<String, Vec<u8>>, items: Option<&[KeyToPath]>, mode: i32, optional: bool) -> Result<Files> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        return Ok(data.into_iter().map(|(key, data)| (key, file(data, mode))).collect());
    };
    let mut files = Files::new();
    for item in items {
        match data.get(&item.key) {
            Some(data) => drop(files.insert(item.path.clone(), file(data.clone(), item.mode.unwrap_or(mode)))),
            None if optional => {}
            None => return Err(format!("references non-existent config key: {}", item.key)),
        }
    }
    Ok(files)
}

async fn config_map(ctx: &Context, pod: &Pod, source: &ConfigMapProjection, mode: i32) -> Result<Files> {
    let found = ctx.objects.config_map(spec::namespace(pod), &source.name).await.map_err(|e| e.to_string())?;
    let optional = source.optional == Some(true);
    let mut data = BTreeMap::new();
    match found {
        Some(map) => {
            data.extend(map.data.iter().flatten().map(|(k, v)| (k.clone(), v.clone().into_bytes())));
            data.extend(map.binary_data.iter().flatten().map(|(k, v)| (k.clone(), v.0.clone())));
        }
        None if optional => {}
        None => return Err(format!("configmap {:?} not found", source.name)),
    }
    select(data, source.items.as_deref(), mode, optional).map_err(|e| format!("configmap {e}"))
}

async fn secret(ctx: &Context, pod: &Pod, source: &SecretProjection, mode: i32) -> Result<Files> {
    let found = ctx.objects.secret(spec::namespace(pod), &source.name).await.map_err(|e| e.to_string())?;
    let optional = source.optional == Some(true);
    let mut data = BTreeMap::new();
    match found {
        Some(secret) => data.extend(secret.data.iter().flatten().map(|(k, v)| (k.clone(), v.0.clone()))),
        None if optional => {}
        None => return Err(format!("secret {:?} not found", source.name)),
    }
    select(data, source.items.as_deref(), mode, optional).map_err(|e| format!("secret {e}"))
}

fn downward_api(pod: &Pod, source: &DownwardAPIProjection, mode: i32, facts: &Facts) -> Result<Files> {
    let mut files = Files::new();
    for item in source.items.iter().flatten() {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => downward::field(pod, &field.field_path, facts)?,
            (None, Some(resource)) => downward::resource(pod, "", resource, facts)?,
            (None, None) => continue,
        };
        files.insert(item.path.clone(), file(text.into_bytes(), item.mode.unwrap_or(mode)));
    }
    Ok(files)
}

async fn token(
    ctx: &Context,
    pod: &Pod,
    volume: &str,
    source: &ServiceAccountTokenProjection,
    mode: i32,
    files: &mut Files,
) -> Result<Timestamp> {
    let (token, refresh_at) =
        ctx.tokens.get(pod, volume, source).await.map_err(|e| format!("failed to fetch token: {e}"))?;
    // One user for the whole pod may own the token; otherwise it is readable as the volume says.
    let owner = sole_user(pod).and_then(|uid| u32::try_from(uid).ok());
    let mode = if owner.is_some() { 0o600 } else { mode };
    files.insert(source.path.clone(), File { uid: owner, ..file(token.into_bytes(), mode) });
    Ok(refresh_at)
}

fn sole_user(pod: &Pod) -> Option<i64> {
    let all = pod.spec.as_ref()?.security_context.as_ref().and_then(|c| c.run_as_user);
    let own =
        |c: &k8s_openapi::api::core::v1::Container| c.security_context.as_ref().and_then(|s| s.run_as_user).or(all);
    let mut users = spec::containers(pod).iter().chain(spec::init_containers(pod)).map(own);
    let first = users.next()??;
    users.all(|user| user == Some(first)).then_some(first)
}
