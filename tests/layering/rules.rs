//! Which module may use which, and what may be said where.

use crate::names::Names;

/// The parts of the vocabulary: they may use each other, and everyone may use them.
const VOCABULARY: [&str; 5] = ["block", "buffer", "error", "io", "time"];

/// Each module with what it may use, beside itself. Whatever is not listed may not be used.
///
/// `path` gives `engine` and `control` its data types alone; both are kept from I/O by having no `reactor`.
const ALLOWED: [(&str, &[&str]); 17] = [
    ("os", &["vocabulary"]),
    ("sync", &[]),
    ("block", &["sync", "os", "vocabulary"]),
    ("buffer", &["sync", "os", "vocabulary"]),
    ("error", &["sync", "os", "vocabulary"]),
    ("io", &["sync", "os", "vocabulary"]),
    ("time", &["os"]),
    ("ring", &["sync", "os"]),
    ("reactor", &["vocabulary", "sync", "os"]),
    ("path", &["vocabulary", "reactor", "sync", "os"]),
    ("policy", &["vocabulary"]),
    ("engine", &["vocabulary", "policy", "path", "sync"]),
    ("control", &["vocabulary", "policy", "path", "engine", "sync"]),
    ("volume", BELOW_VOLUME),
    ("sim", &["volume", "below volume"]),
    ("path_suite", &["volume", "below volume"]),
    ("frontend", &["volume", "below volume"]),
];

const BELOW_VOLUME: &[&str] =
    &["vocabulary", "policy", "path", "engine", "control", "reactor", "ring", "sync", "os"];

/// The files, and directories of files, that may contain unsafe code.
const ISLANDS: [&str; 7] = [
    "buffer.rs",
    "os.rs",
    "reactor/",
    "path/block_device/",
    "path/block_device.rs",
    "ring/",
    "frontend/fuse/sys.rs",
];

/// What is wrong with a file of `module` that says `names`.
pub(crate) fn violations(module: &[String], file: &str, names: &Names) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(own) = module.first() {
        found.extend(names.paths.iter().filter_map(|path| upward(own, path)));
    }
    if module.first().is_none_or(|own| own != "sync") {
        found.extend(names.paths.iter().filter(|path| is_atomic(path)).map(|path| {
            format!(
                "`{}` is named outside `sync`: use `crate::sync`, so that loom can stand in",
                path.join("::")
            )
        }));
    }
    if names.unsafe_code && !ISLANDS.iter().any(|island| on_island(file, island)) {
        found.push("`unsafe_code` is allowed here, but this file is no island".to_owned());
    }
    found.into_iter().map(|what| format!("src/{file}: {what}")).collect()
}

/// What is wrong with naming `path` in the module `own`.
fn upward(own: &str, path: &[String]) -> Option<String> {
    let [root, used, ..] = path else { return None };
    if own == used || !matches!(root.as_str(), "crate" | "$crate") {
        return None;
    }
    let known = ALLOWED.iter().any(|(module, _)| module == used);
    match (known, root.as_str()) {
        // A macro for users names what users can name.
        (false, "$crate") => None,
        (false, _) => Some(format!("`{}` goes through the root: name the module", path.join("::"))),
        (true, _) if allows(own, used) => None,
        (true, _) => Some(format!("`{}` is not below `{own}`", path.join("::"))),
    }
}

fn allows(own: &str, used: &str) -> bool {
    let Some((_, allowed)) = ALLOWED.iter().find(|(module, _)| *module == own) else { return false };
    allowed.iter().any(|entry| match *entry {
        "vocabulary" => VOCABULARY.contains(&used),
        "below volume" => allows("volume", used),
        entry => entry == used,
    })
}

/// Whether the table has a row for the module.
pub(crate) fn is_known(module: &str) -> bool {
    ALLOWED.iter().any(|(known, _)| *known == module)
}

/// `std::sync::atomic`, `std::cell::UnsafeCell` and their likes in other crates.
fn is_atomic(path: &[String]) -> bool {
    let foreign = path.first().is_some_and(|root| root != "crate");
    let cell = path.windows(2).any(|pair| pair[0] == "cell" && pair[1].ends_with("UnsafeCell"));
    foreign && (cell || path.iter().any(|name| name == "atomic"))
}

fn on_island(file: &str, island: &str) -> bool {
    if island.ends_with('/') { file.starts_with(island) } else { file == island }
}
