//! One way to build a kube client, informers, leader election, events and work queues.
