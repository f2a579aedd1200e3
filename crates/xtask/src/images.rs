//! The images a development cluster runs on: our own `pause`, and test images made from Debian's static busybox and a
//! small server. Built without a network, the same bytes every time.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

use crate::network;
use crate::node_config::PAUSE_IMAGE;
use crate::oci::{Entry, Image, Store};

pub const USER_IMAGE: &str = "busybox:1.36";
pub const WEB_IMAGE: &str = "coxswain/web:v1";
const BUSYBOX: &str = "/bin/busybox";
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Builds what is missing in `out`. `bin` holds the static binaries `pause` and `web`.
pub fn ensure(root: &Path, bin: &Path, out: &Path) -> anyhow::Result<()> {
    let pause = static_binary(root, bin, "pause")?;
    let web = static_binary(root, bin, "web")?;
    let busybox = fs::read(BUSYBOX).with_context(|| format!("cannot read {BUSYBOX} (package busybox-static)"))?;
    let mut store = Store::create(&out.join("oci"))?;
    store.add(&pause_image(pause))?;
    let userland = userland(busybox, &applets()?);
    for tag in ["1.36", "latest"] {
        store.add(&busybox_image(tag, &userland))?;
    }
    for tag in ["v1", "v2"] {
        store.add(&web_image(tag, &userland, &web))?;
    }
    store.finish()
}

/// Imports the pause image into a containerd.
pub fn import_pause(images: &Path, socket: &Path) -> anyhow::Result<()> {
    import(&images.join("pause-3.10.tar"), socket)
}

/// Imports the image that the benchmark's pod runs.
pub fn import_user(images: &Path, socket: &Path) -> anyhow::Result<()> {
    import(&images.join("busybox-1.36.tar"), socket)
}

fn import(archive: &Path, socket: &Path) -> anyhow::Result<()> {
    let (archive, socket) = (archive.display().to_string(), socket.display().to_string());
    network::run("ctr", &["--address", &socket, "--namespace", "k8s.io", "images", "import", &archive]).map(drop)
}

/// A binary that runs in an empty file system must carry its libraries.
fn static_binary(root: &Path, bin: &Path, name: &str) -> anyhow::Result<Vec<u8>> {
    let path = bin.join(name);
    let data = fs::read(&path)
        .with_context(|| format!("{} is not built: run {}/hack/images", path.display(), root.display()))?;
    // An ELF program header of type PT_INTERP names the dynamic loader.
    if data.windows(17).any(|window| window == b"/lib64/ld-linux-x") {
        bail!("{} is linked dynamically: run {}/hack/images", path.display(), root.display());
    }
    Ok(data)
}

fn applets() -> anyhow::Result<Vec<String>> {
    let output = Command::new(BUSYBOX).arg("--list-full").output().with_context(|| format!("cannot run {BUSYBOX}"))?;
    let text = String::from_utf8(output.stdout).context("busybox lists its applets in ASCII")?;
    Ok(text.lines().filter(|l| *l != "bin/busybox").map(ToOwned::to_owned).collect())
}

fn file(path: &str, mode: u32, data: impl Into<Vec<u8>>) -> Entry {
    Entry::File { path: path.to_owned(), mode, data: data.into() }
}

fn dir(path: &str, mode: u32) -> Entry {
    Entry::Dir { path: path.to_owned(), mode }
}

fn pause_image(pause: Vec<u8>) -> Image {
    Image {
        repository: "pause".to_owned(),
        tag: "3.10".to_owned(),
        name: PAUSE_IMAGE.to_owned(),
        layers: vec![vec![file("pause", 0o755, pause)]],
        entrypoint: vec!["/pause".to_owned()],
        cmd: vec![],
        env: vec![PATH.to_owned()],
    }
}

/// A root file system with every applet linked to busybox.
fn userland(busybox: Vec<u8>, applets: &[String]) -> Vec<Entry> {
    let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
    for (path, mode) in [
        ("bin", 0o755),
        ("etc", 0o755),
        ("home", 0o755),
        ("root", 0o700),
        ("sbin", 0o755),
        ("tmp", 0o1777),
        ("usr", 0o755),
        ("usr/bin", 0o755),
        ("usr/sbin", 0o755),
        ("var", 0o755),
        ("var/tmp", 0o1777),
        ("www", 0o755),
    ] {
        entries.insert(path.to_owned(), dir(path, mode));
    }
    for applet in applets {
        entries.insert(applet.clone(), Entry::Link { path: applet.clone(), target: "/bin/busybox".to_owned() });
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n";
    entries.insert("etc/passwd".to_owned(), file("etc/passwd", 0o644, passwd));
    entries.insert("etc/group".to_owned(), file("etc/group", 0o644, "root:x:0:\nnogroup:x:65534:\n"));
    entries.insert("bin/busybox".to_owned(), file("bin/busybox", 0o755, busybox));
    entries.into_values().collect()
}

fn busybox_image(tag: &str, userland: &[Entry]) -> Image {
    Image {
        repository: "library/busybox".to_owned(),
        tag: tag.to_owned(),
        name: format!("docker.io/library/busybox:{tag}"),
        layers: vec![userland.to_vec()],
        entrypoint: vec![],
        cmd: vec!["sh".to_owned()],
        env: vec![PATH.to_owned()],
    }
}

fn web_image(tag: &str, userland: &[Entry], web: &[u8]) -> Image {
    Image {
        repository: "coxswain/web".to_owned(),
        tag: tag.to_owned(),
        name: format!("docker.io/coxswain/web:{tag}"),
        layers: vec![userland.to_vec(), vec![file("web", 0o755, web)]],
        entrypoint: vec!["/web".to_owned()],
        cmd: vec![],
        env: vec![PATH.to_owned(), format!("VERSION={tag}")],
    }
}
