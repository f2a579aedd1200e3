//! kube-proxy's rules in a real kernel, inside network namespaces made for the test.

mod kernel;
