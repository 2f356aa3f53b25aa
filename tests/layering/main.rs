//! The order of the house, checked: no module uses one above it, atomics are named in one place, and unsafe code
//! stays on its islands. `rules.rs` has the table.

#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot read the sources fails")]

mod names;
mod rules;

use std::path::{Path, PathBuf};

use names::Names;

/// Reads the file of `module` and those of the modules below it, and gives what is wrong in them.
fn check(src: &Path, module: &[String], found: &mut Vec<String>) {
    let file = file_of(src, module);
    let source = std::fs::read_to_string(src.join(&file)).expect("the file was just found");
    let names = Names::of(&source, module);
    found.extend(rules::violations(module, &file.to_string_lossy(), &names));
    for below in &names.modules {
        check(src, below, found);
    }
}

/// The file of a module, relative to `src`.
fn file_of(src: &Path, module: &[String]) -> PathBuf {
    if module.is_empty() {
        return PathBuf::from("lib.rs");
    }
    let place: PathBuf = module.iter().collect();
    let candidates = [place.with_extension("rs"), place.join("mod.rs")];
    let file = candidates.into_iter().find(|file| src.join(file).exists());
    file.unwrap_or_else(|| panic!("src has no file for the module {}", module.join("::")))
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// What is wrong with `source` as the file `file`.
fn wrong(file: &str, source: &str) -> Vec<String> {
    let place = file.trim_end_matches(".rs").trim_end_matches("/mod");
    let module: Vec<String> = place.split('/').filter(|name| *name != "lib").map(str::to_owned).collect();
    rules::violations(&module, file, &Names::of(source, &module))
}

#[test]
fn no_module_uses_one_above_it() {
    let mut found = Vec::new();
    check(&src(), &[], &mut found);
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn every_module_has_a_row_in_the_table() {
    let root = Names::of(&std::fs::read_to_string(src().join("lib.rs")).unwrap(), &[]);
    assert!(!root.modules.is_empty());
    for module in root.modules {
        assert!(rules::is_known(&module[0]), "rules.rs does not say what `{}` may use", module[0]);
    }
}

#[test]
fn a_planted_upward_import_is_caught() {
    let planted = [
        ("path/faulty.rs", "use crate::engine::Slot;"),
        ("path/faulty.rs", "use crate::{block::Lba, control};"),
        ("path/faulty.rs", "use crate::{block::{Extent, Lba}, io::{Operation}, control::health::{Up}};"),
        ("path/faulty.rs", "use super::super::engine::Slot;"),
        ("path/faulty.rs", "use super::{Incarnation, super::engine};"),
        ("path/faulty.rs", "pub(crate) fn f() -> crate :: engine :: Slot { todo!() }"),
        ("path/faulty.rs", "mod inner { use super::super::super::engine::Slot; }"),
        ("path/faulty.rs", "const X: Vec<u8> = vec![crate::engine::SIZE; 1];"),
        ("policy/mod.rs", "use crate::path::Attempt;"),
        ("policy/mod.rs", "use crate::sync::AtomicU64;"),
        ("engine/mod.rs", "use crate::reactor::Reactor;"),
        ("control/mod.rs", "fn f(_: &mut crate::reactor::Reactor) {}"),
        ("engine/slot.rs", "use crate::control::Health;"),
        ("ring/lane.rs", "use crate::io::Request;"),
        ("volume/mod.rs", "use crate::sim::World;"),
        ("sim/mod.rs", "use crate::frontend::Fuse;"),
        ("engine/mod.rs", "fn f() { Vec::<crate::control::X>::new() }"),
        ("io.rs", "macro_rules! m { () => { $crate::engine::Slot } }"),
    ];
    for (file, source) in planted {
        assert_eq!(wrong(file, source).len(), 1, "{file}: {source}");
    }
}

#[test]
fn a_detour_through_the_root_is_caught() {
    assert_eq!(wrong("path/faulty.rs", "use crate::Volume;").len(), 1);
    assert_eq!(wrong("path/faulty.rs", "use crate::*;").len(), 1);
    assert_eq!(wrong("path.rs", "use super::Volume;").len(), 1);
}

#[test]
fn downward_imports_and_a_module_s_own_are_allowed() {
    let allowed = [
        ("path/faulty.rs", "use crate::{block::Lba, reactor::{self, Port}, path::Attempt};"),
        ("path/faulty.rs", "use super::{Attempt, description::Identity}; use self::plan::Plan;"),
        ("engine/mod.rs", "use crate::{path::Attempt, policy::Policy, sync::AtomicU64, time::Tick};"),
        ("volume/mod.rs", "use crate::{control::Supervisor, engine::Engine, reactor::Reactor};"),
        ("sim/mod.rs", "use crate::{volume::Volume, engine::Engine, block::Lba};"),
        ("lib.rs", "pub use volume::Volume; use crate::sim::World;"),
        ("path/mod.rs", "macro_rules! path_suite { () => { $crate::Volume } }"),
        ("path/mod.rs", "pub(in crate::path) struct X;"),
    ];
    for (file, source) in allowed {
        assert_eq!(wrong(file, source), Vec::<String>::new(), "{file}: {source}");
    }
}

#[test]
fn comments_strings_and_test_code_do_not_count() {
    let ignored = [
        "// use crate::engine::Slot;\n/* crate::engine::Slot /* nested */ crate::control::X */",
        "/// See [`crate::engine::Slot`].\nstruct X;",
        r##"const X: &str = "crate::engine::Slot"; const Y: &str = r#"use crate::engine::"Slot";"#;"##,
        "#[cfg(test)]\nmod tests { use crate::engine::Slot; }",
        "#[cfg(all(test, not(loom)))]\n#[allow(dead_code)]\nuse crate::{engine::Slot, control};",
        "#[cfg(test)]\npub(crate) const fn slot() -> u8 { crate::engine::SIZE }",
        "struct X { #[cfg(test)] probe: crate::engine::Slot, rest: u8 }",
        "#![cfg(test)]\nuse crate::engine::Slot;",
        "#[cfg(test)]\nmod testing;",
    ];
    for source in ignored {
        assert_eq!(wrong("path/faulty.rs", source), Vec::<String>::new(), "{source}");
    }
}

#[test]
fn what_stands_after_test_code_counts_again() {
    let sources = [
        "#[cfg(test)]\nuse crate::volume::{Volume};\nuse crate::engine::Slot;",
        "#[cfg(test)]\nmod testing;\nuse crate::engine::Slot;",
        "#[cfg(test)]\nfn f<A, B>() {}\nuse crate::engine::Slot;",
        "#[cfg(test)]\nconst A: [u8; 1] = { [0] };\nuse crate::engine::Slot;",
        "struct X { #[cfg(test)] probe: u8, slot: crate::engine::Slot }",
        "#[cfg(not(test))]\nuse crate::engine::Slot;",
        "#[cfg(any(test, feature = \"testing\"))]\nuse crate::engine::Slot;",
    ];
    for source in sources {
        assert_eq!(wrong("path/faulty.rs", source).len(), 1, "{source}");
    }
}

#[test]
fn atomics_are_named_in_sync_alone() {
    let sources = [
        "use std::sync::atomic::AtomicU64;",
        "use core::{sync::{atomic::{fence}}};",
        "use std::{cell::UnsafeCell, sync::Arc};",
        "use std::cell; fn f(_: cell::UnsafeCell<u8>) {}",
        "use loom::sync::atomic::AtomicU64;",
        "use crossbeam::atomic::AtomicCell;",
        "use std::sync::{atomic, Arc};",
        "use ::std::sync::atomic::AtomicU64;",
    ];
    for source in sources {
        assert_eq!(wrong("reactor/waker.rs", source).len(), 1, "{source}");
        assert_eq!(wrong("sync.rs", source), Vec::<String>::new(), "{source}");
    }
    assert_eq!(wrong("reactor/waker.rs", "use crate::sync::{AtomicU64, Ordering};"), Vec::<String>::new());
    assert_eq!(wrong("reactor/waker.rs", "use std::{cell::Cell, sync::Arc};"), Vec::<String>::new());
}

#[test]
fn unsafe_code_is_allowed_on_islands_alone() {
    let source = "#![allow(unsafe_code)]";
    assert_eq!(wrong("engine/mod.rs", source).len(), 1);
    assert_eq!(wrong("engine/mod.rs", "#[cfg_attr(loom, expect(unsafe_code))] fn f() {}").len(), 1);
    assert_eq!(wrong("path/faulty.rs", source).len(), 1);
    for island in ["buffer.rs", "reactor/ring.rs", "path/block_device/open.rs"] {
        assert_eq!(wrong(island, source), Vec::<String>::new());
    }
}
