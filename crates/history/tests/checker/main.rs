//! The checkers against histories made by hand and by chance.

mod broken;
mod corruption;
mod generator;
mod random;
mod script;
mod store;
