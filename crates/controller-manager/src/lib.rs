//! Informers in, one executor out.
