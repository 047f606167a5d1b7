//! Files beside the database that a later nagaya has written: this one leaves them as they are.

use std::io::Read;
use std::path::Path;

use super::App;
use crate::model::stored;

/// The version is on the first line.
const HEAD: u64 = 64;

/// Whether what stands at `path` has a version above `known`; the operator is told of it then. It is to be
/// asked before the file is replaced, by which what this version does not know of it would be lost.
pub fn has_written(app: &App, path: &Path, known: u32) -> bool {
    let mut head = Vec::new();
    let is_read = std::fs::File::open(path).and_then(|file| file.take(HEAD).read_to_end(&mut head)).is_ok();
    let is_later = is_read && stored::is_newer(&String::from_utf8_lossy(&head), known);
    if is_later {
        (app.tell)(&format!(
            "{} is of a later nagaya, and stays as it is: 'nagaya repair' would not know of this change. Install \
             that nagaya again",
            path.display()
        ));
    }
    is_later
}
