//! Compiles etcd's messages from `proto/`.

const PROTOS: [&str; 2] = ["etcd/api/mvccpb/kv.proto", "etcd/api/etcdserverpb/rpc.proto"];
const ROOT: &str = "../../proto";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for proto in PROTOS {
        println!("cargo::rerun-if-changed={ROOT}/{proto}");
    }
    let descriptors = protox::compile(PROTOS, [ROOT])?;
    prost_build::Config::new().bytes(["."]).compile_fds(descriptors)?;
    Ok(())
}
