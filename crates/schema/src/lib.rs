//! The schema model: strict decoding, pruning, strategic merge, explain, OpenAPI documents.
