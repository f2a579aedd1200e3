//! Compiles the CRI v1 contract in pure Rust, without `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto/cri");
    println!("cargo:rerun-if-changed={root}/v1/api.proto");
    let files = protox::compile(["v1/api.proto"], [root])?;
    tonic_prost_build::configure().build_server(false).compile_fds(files)?;
    Ok(())
}
