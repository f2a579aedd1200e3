//! Writing container images: deterministic layers, configurations and manifests as blobs named by their digest, and
//! archives that `ctr images import` reads.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// One entry of a layer.
#[derive(Clone, Debug)]
pub enum Entry {
    Dir { path: String, mode: u32 },
    File { path: String, mode: u32, data: Vec<u8> },
    Link { path: String, target: String },
}

/// An image: where it is found, and what is in it.
#[derive(Clone, Debug)]
pub struct Image {
    /// Without the registry's host: `library/busybox`.
    pub repository: String,
    pub tag: String,
    /// The full name that containerd knows it by.
    pub name: String,
    pub layers: Vec<Vec<Entry>>,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    pub env: Vec<String>,
}

/// A directory of blobs with an index of tags.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    tags: BTreeMap<String, String>,
}

impl Store {
    pub fn create(dir: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(dir.join("blobs/sha256")).with_context(|| format!("cannot create {}", dir.display()))?;
        Ok(Self { dir: dir.to_owned(), tags: BTreeMap::new() })
    }

    /// Writes the image's blobs; its tag counts once `finish` is called.
    pub fn add(&mut self, image: &Image) -> anyhow::Result<()> {
        let mut layers = Vec::new();
        for entries in &image.layers {
            layers.push(self.blob(&layer(entries)?, LAYER)?);
        }
        let diff_ids: Vec<&Value> = layers.iter().map(|l| &l["digest"]).collect();
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": { "Env": image.env, "Entrypoint": image.entrypoint, "Cmd": image.cmd },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = self.blob(&serde_json::to_vec(&config)?, CONFIG)?;
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
        let manifest = self.blob(&serde_json::to_vec(&manifest)?, MANIFEST)?;
        let digest = manifest["digest"].as_str().unwrap_or_default().to_owned();
        self.archive(image, &manifest, &config, &layers)?;
        self.tags.insert(format!("{}:{}", image.repository, image.tag), digest);
        Ok(())
    }

    pub fn finish(self) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(&self.tags)?;
        kubeadm::files::write(&self.dir.join("tags.json"), &text, kubeadm::files::PUBLIC)
    }

    fn blob(&self, data: &[u8], media_type: &str) -> anyhow::Result<Value> {
        let hex = hex::encode(Sha256::digest(data));
        let path = self.dir.join("blobs/sha256").join(&hex);
        if !path.exists() {
            let beside = path.with_extension("new");
            fs::write(&beside, data)
                .and_then(|()| fs::rename(&beside, &path))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(json!({ "mediaType": media_type, "digest": format!("sha256:{hex}"), "size": data.len() }))
    }

    /// An OCI layout in a tar, `<repository's last part>-<tag>.tar` beside the blobs' directory.
    fn archive(&self, image: &Image, manifest: &Value, config: &Value, layers: &[Value]) -> anyhow::Result<()> {
        let base = image.repository.rsplit('/').next().unwrap_or_default();
        let path = self.dir.parent().unwrap_or(&self.dir).join(format!("{base}-{}.tar", image.tag));
        let mut described = manifest.clone();
        described["annotations"] =
            json!({ "io.containerd.image.name": image.name, "org.opencontainers.image.ref.name": image.tag });
        let index = json!({ "schemaVersion": 2, "manifests": [described] });
        let mut tar = tar::Builder::new(Vec::new());
        append(&mut tar, "oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        append(&mut tar, "index.json", 0o644, &serde_json::to_vec(&index)?)?;
        for blob in [manifest, config].into_iter().chain(layers) {
            let hex = blob["digest"].as_str().unwrap_or_default().trim_start_matches("sha256:");
            let name = format!("blobs/sha256/{hex}");
            append(&mut tar, &name, 0o644, &fs::read(self.dir.join(&name))?)?;
        }
        let data = tar.into_inner()?;
        let beside = path.with_extension("new");
        fs::write(&beside, data)
            .and_then(|()| fs::rename(&beside, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

fn layer(entries: &[Entry]) -> anyhow::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for entry in entries {
        match entry {
            Entry::File { path, mode, data } => append(&mut tar, path, *mode, data)?,
            Entry::Dir { path, mode } => {
                let mut header = header(*mode, 0);
                header.set_entry_type(tar::EntryType::Directory);
                tar.append_data(&mut header, path, std::io::empty())?;
            }
            Entry::Link { path, target } => {
                let mut header = header(0o777, 0);
                header.set_entry_type(tar::EntryType::Symlink);
                tar.append_link(&mut header, path, target)?;
            }
        }
    }
    Ok(tar.into_inner()?)
}

fn append(tar: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32, data: &[u8]) -> anyhow::Result<()> {
    tar.append_data(&mut header(mode, data.len()), path, data).with_context(|| format!("cannot pack {path}"))
}

/// No times and no owners: the same contents make the same digest.
fn header(mode: u32, size: usize) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_size(size as u64);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_contents_make_the_same_blobs() {
        let dir = std::env::temp_dir().join(format!("coxswain-oci-{}", std::process::id()));
        let entries = vec![
            Entry::Dir { path: "bin".into(), mode: 0o755 },
            Entry::File { path: "bin/x".into(), mode: 0o755, data: b"x".to_vec() },
            Entry::Link { path: "bin/y".into(), target: "x".into() },
        ];
        let image = Image {
            repository: "library/x".into(),
            tag: "1".into(),
            name: "docker.io/library/x:1".into(),
            layers: vec![entries],
            entrypoint: vec![],
            cmd: vec![],
            env: vec![],
        };
        let mut blobs = Vec::new();
        for round in ["a", "b"] {
            let oci = dir.join(round).join("oci");
            let mut store = Store::create(&oci).expect("temp dir is writable");
            store.add(&image).expect("added");
            store.finish().expect("finished");
            let mut names: Vec<_> =
                fs::read_dir(oci.join("blobs/sha256")).expect("made").flatten().map(|e| e.file_name()).collect();
            names.sort();
            blobs.push((names, fs::read_to_string(oci.join("tags.json")).expect("written")));
        }
        fs::remove_dir_all(&dir).expect("made above");
        assert_eq!(blobs[0], blobs[1]);
        assert_eq!(blobs[0].0.len(), 3);
    }
}
