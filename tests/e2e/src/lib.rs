//! Whole-system tests: a cluster, the real kubectl and what they should say to each other.
