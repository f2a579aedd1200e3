//! Runs every case, in order, on one cluster that it brings up and takes down, whatever happens.
//!   cargo test -p e2e [-- FILTER]

fn main() -> std::process::ExitCode {
    e2e::harness::main(e2e::cases::ALL)
}
