//! `small-model FOLDER`: a folder like the page's `models/` with the two-block random model in it, for tests in a browser.

use std::path::PathBuf;

fn main() {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.expect("usage: small-model FOLDER");
    trimtab_testing::chat_model::write_catalogue(&folder);
}
