//! Queues, cache and binding around the pure scheduling core.
