//! The journal of temporary directories in the pool.

use super::{Store, StoreError};

/// Work that was begun and not finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// 16 hexadecimal digits, drawn at random: names the temporary directory.
    pub id: String,
    pub kind: String,
    /// Seconds since 1970.
    pub started_at: i64,
}

impl Store {
    /// Records that a temporary directory is about to be made, and returns the name it gets.
    pub fn begin_work(&mut self, kind: &str) -> Result<String, StoreError> {
        self.write("record the beginning of work", |tx| {
            let sql = "INSERT INTO work VALUES (lower(hex(randomblob(8))), ?1, unixepoch()) RETURNING id";
            Ok(tx.query_row(sql, [kind], |row| row.get(0))?)
        })
    }

    /// Records that the directory is gone or has its final name. No error if that is known.
    pub fn finish_work(&mut self, id: &str) -> Result<(), StoreError> {
        self.write("record the end of work", |tx| {
            tx.execute("DELETE FROM work WHERE id = ?1", [id])?;
            Ok(())
        })
    }

    /// All work not finished, oldest first. It is abandoned if its directory's lock is free; while
    /// there is no directory yet, only its age tells whether one is about to be made.
    pub fn unfinished_work(&self) -> Result<Vec<Work>, StoreError> {
        self.read("list unfinished work", |conn| {
            conn.prepare_cached("SELECT id, kind, started_at FROM work ORDER BY started_at, id")?
                .query_map([], |row| {
                    Ok(Work { id: row.get(0)?, kind: row.get(1)?, started_at: row.get(2)? })
                })?
                .collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture::store;

    #[test]
    fn work_is_listed_until_it_is_finished() {
        let (_dir, mut store) = store();
        let first = store.begin_work("template").unwrap();
        let second = store.begin_work("template").unwrap();
        assert_ne!(first, second);
        assert!(first.len() == 16 && first.bytes().all(|b| b.is_ascii_hexdigit()), "{first}");
        let path = store.path().to_owned();
        drop(store);
        let mut store = Store::open_existing(&path).unwrap();
        assert_eq!(store.unfinished_work().unwrap().len(), 2);
        store.finish_work(&first).unwrap();
        store.finish_work(&first).unwrap();
        let left = store.unfinished_work().unwrap();
        assert_eq!(left.len(), 1);
        assert_eq!((left[0].id.as_str(), left[0].kind.as_str()), (second.as_str(), "template"));
        assert!(left[0].started_at > 1_700_000_000);
    }
}
