//! The repository's documents: every link from one to another leads somewhere.

use std::path::{Path, PathBuf};

/// The links of a document that lead to files of the repository, without their anchors.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let ends = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    ends.map(|link| link.split('#').next().unwrap_or_default())
        .filter(|link| !link.is_empty() && !link.contains([':', ' ', '\n']))
}

/// All Markdown files below `folder` that belong to the repository.
fn documents(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let foreign = ["node_modules", "target", "dist"]
            .iter()
            .any(|one| name == *one);
        if path.is_dir() && !foreign && !name.to_string_lossy().starts_with('.') {
            documents(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = Vec::new();
    documents(&root, &mut found);
    assert!(found.len() > 5, "{found:?}");
    for document in found {
        let text = std::fs::read_to_string(&document).unwrap_or_default();
        for link in links(&text) {
            let target = document.with_file_name(link);
            assert!(target.exists(), "{}: {link}", document.display());
        }
    }
}
