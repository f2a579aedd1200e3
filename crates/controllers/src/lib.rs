//! One file per controller: plan(observed, now).
