//! The resource table and the vocabulary of the API: metadata, selectors, quantities, errors, names.
