//! A CRI v1 client.
