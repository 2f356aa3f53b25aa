//! A server that is killed.
