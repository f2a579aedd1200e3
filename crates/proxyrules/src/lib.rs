//! From services, slices and a node to a rule set, and to text.
