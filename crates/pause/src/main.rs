//! `pause`: Holds a sandbox's namespaces: reaps zombies and waits for a signal.

fn main() {}
