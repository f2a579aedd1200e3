//! Drives containerd over CRI v1 to run the pods bound to this node.
