//! Compiles the wire formats in `proto/` with protox, so that no `protoc` is needed for them.

const PROTOS: [&str; 6] = [
    "etcd/api/authpb/auth.proto",
    "etcd/api/mvccpb/kv.proto",
    "etcd/api/etcdserverpb/rpc.proto",
    "etcd/api/v3lockpb/v3lock.proto",
    "etcd/api/v3electionpb/v3election.proto",
    "kvraft/kvraft.proto",
];
const ROOT: &str = "../../proto";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for proto in PROTOS {
        println!("cargo::rerun-if-changed={ROOT}/{proto}");
    }
    let descriptors = protox::compile(PROTOS, [ROOT])?;
    tonic_prost_build::configure()
        // Of the clients only the peers' is used; etcd's own are for tests, which have a crate for them.
        .build_client(true)
        // Keys, values and blobs are shared, never copied per message.
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}
