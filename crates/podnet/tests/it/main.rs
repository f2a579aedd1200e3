//! Routes, rules and configuration in a real kernel, inside network namespaces made for the test.

mod kernel;
