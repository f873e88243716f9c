//! Enforces the directions of the house: reads every `use crate::…` and compares it with the layer map.

use std::fs;
use std::path::{Path, PathBuf};

/// Layers from the ground up. A room may use rooms of lower layers, and itself.
const LAYERS: [&[&str]; 5] = [
    &["base"],
    &["wire", "model", "config"],
    &["pki", "store", "link", "cri", "host"],
    &["daemon"],
    &["cmd"],
];

/// Pairs inside a layer that may be used.
const NEIGHBOURS: [(&str, &str); 5] =
    [("wire", "model"), ("config", "model"), ("link", "pki"), ("host", "pki"), ("host", "cri")];

fn layer(room: &str) -> Option<usize> {
    LAYERS.iter().position(|rooms| rooms.contains(&room))
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn allowed(from: &str, to: &str) -> bool {
    let (Some(a), Some(b)) = (layer(from), layer(to)) else { return true };
    from == to || b < a || NEIGHBOURS.contains(&(from, to))
}

#[test]
fn rooms_only_use_what_stands_left_of_them() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut wrong = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&src).unwrap().to_owned();
        let parts: Vec<String> =
            relative.components().map(|c| c.as_os_str().to_string_lossy().into_owned()).collect();
        let room = parts[0].trim_end_matches(".rs").to_owned();
        let text = fs::read_to_string(&file).unwrap();
        for (number, line) in text.lines().enumerate() {
            for rest in line.split("crate::").skip(1) {
                let path: Vec<&str> = rest.split("::").collect();
                let name = |text: &str| {
                    text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("").to_owned()
                };
                let to = name(path[0]);
                if !allowed(&room, &to) {
                    wrong.push(format!("{}:{}: {room} uses {to}", relative.display(), number + 1));
                }
                if room == "daemon" && to == "daemon" && parts.len() > 2 && path.len() > 1 {
                    let (wing, other) = (parts[1].clone(), name(path[1]));
                    let wings = ["cloud", "edge", "apiserver"];
                    if wings.contains(&wing.as_str()) && wings.contains(&other.as_str()) && wing != other {
                        wrong.push(format!(
                            "{}:{}: wing {wing} uses wing {other}",
                            relative.display(),
                            number + 1
                        ));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "imports against the layer map:\n{}", wrong.join("\n"));
}

/// CVE-2026-62369 was a path in an archive that led out of its directory. Nothing here unpacks archives: whoever has to,
/// refuses absolute paths, `..` and links, tests that, and names the file here.
#[test]
fn nobody_unpacks_an_archive() {
    const READERS: [&str; 0] = [];
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    for file in files {
        let name = file.strip_prefix(&src).unwrap().display().to_string();
        let text = fs::read_to_string(&file).unwrap();
        let product = text.split("#[cfg(test)]").next().unwrap_or_default();
        let unpacks =
            [".unpack(", ".unpack_in(", "\"tar\"", "\"unzip\""].iter().any(|word| product.contains(word));
        assert!(
            !unpacks || name == "layers.rs" || READERS.contains(&name.as_str()),
            "{name} unpacks an archive"
        );
    }
}
