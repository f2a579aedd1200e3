//! An image archive made of Debian's static busybox, under two names.

use std::io::Write;
use std::path::Path;

use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

const APPLETS: [&str; 9] = ["sh", "sleep", "cat", "echo", "httpd", "mkdir", "true", "false", "id"];

fn add(builder: &mut Builder<Vec<u8>>, path: &str, data: &[u8], mode: u32) {
    let mut header = Header::new_gnu();
    header.set_size(data.len() as u64);
    header.set_mode(mode);
    header.set_cksum();
    builder.append_data(&mut header, path, data).expect("a tar in memory");
}

fn layer() -> Vec<u8> {
    let busybox = std::fs::read("/bin/busybox").expect("busybox-static is installed");
    let mut builder = Builder::new(Vec::new());
    add(&mut builder, "bin/busybox", &busybox, 0o755);
    add(&mut builder, "etc/passwd", b"root:x:0:0:root:/:/bin/sh\n", 0o644);
    for applet in APPLETS {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        builder.append_link(&mut header, format!("bin/{applet}"), "busybox").expect("a tar in memory");
    }
    builder.into_inner().expect("a tar in memory")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn write(path: &Path) {
    let layer = layer();
    let diff_id = format!("sha256:{}", hex(&Sha256::digest(&layer)));
    let config = |command: &[&str]| {
        serde_json::json!({"architecture": "amd64", "os": "linux", "config": {"Entrypoint": command, "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [diff_id]}, "history": [{}]})
        .to_string()
    };
    let entry =
        |config: &str, name: &str| serde_json::json!({"Config": config, "RepoTags": [name], "Layers": ["layer.tar"]});
    let manifest = serde_json::json!([
        entry("tool.json", "docker.io/library/tool:1"),
        entry("pause.json", "registry.k8s.io/pause:3.10"),
    ]);
    let mut builder = Builder::new(Vec::new());
    add(&mut builder, "layer.tar", &layer, 0o644);
    add(&mut builder, "tool.json", config(&["/bin/sh"]).as_bytes(), 0o644);
    add(&mut builder, "pause.json", config(&["/bin/busybox", "sleep", "86400"]).as_bytes(), 0o644);
    add(&mut builder, "manifest.json", manifest.to_string().as_bytes(), 0o644);
    let bytes = builder.into_inner().expect("a tar in memory");
    std::fs::File::create(path).and_then(|mut file| file.write_all(&bytes)).expect("writable");
}
