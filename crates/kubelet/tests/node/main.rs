//! The kubelet against a real containerd, in a network namespace of its own, with a small API
//! server on loopback. One environment, one story: starting it is the expensive part.

mod api;
mod client;
mod env;
mod image;
mod story;

#[test]
fn the_life_of_pods_on_a_node() {
    // A thread of its own: what it unshares must not leak into the test harness.
    let story = std::thread::spawn(|| {
        env::enter_own_network();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(story::run());
    });
    if let Err(panic) = story.join() {
        std::panic::resume_unwind(panic);
    }
}
