//! Doors through which requests come that are not made by the program itself.

pub mod fuse;
