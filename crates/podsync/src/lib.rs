//! From a pod, its runtime state and the time to the next actions, phase and conditions.
