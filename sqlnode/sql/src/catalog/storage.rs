//! Where the catalog lies in the store, and how a statement changes it.
//!
//! ```text
//!   01 00                      version: counter u64, nonce u64, next id u32
//!   01 01 <schema id>          schema
//!   01 02 <table id>           table
//!   01 03 <sequence id>        sequence
//!   01 04 <oid> <column>       comment on an object, or on a column of a table (0: on the object itself)
//!   02 <sequence id> ...       the last value that a sequence gave, and its epoch: see numbers.rs
//!   03 <table id> <index id>   rows and index entries
//! ```

use std::collections::BTreeMap;

use super::codec::{decode_schema, decode_sequence, decode_table, encode_schema, encode_sequence, encode_table};
use super::{Catalog, Schema, Sequence, Table};
use crate::error::{Result, SqlError};
use crate::store::{Direction, Pair, Store, StoreError};

const VERSION_KEY: &[u8] = &[1, 0];
const SCHEMA: u8 = 1;
const TABLE: u8 = 2;
const SEQUENCE: u8 = 3;
const COMMENT: u8 = 4;

/// Names one state of the catalog: see the module above.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CatalogVersion {
    counter: u64,
    nonce: u64,
}

fn read_header(store: &dyn Store) -> Result<(CatalogVersion, u32)> {
    let Some(bytes) = store.get(VERSION_KEY)? else {
        return Ok((CatalogVersion::default(), 0));
    };
    let bytes: [u8; 20] =
        bytes.as_slice().try_into().map_err(|_| SqlError::corrupted("the catalog's version is damaged"))?;
    let number = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let next_id = u32::from_be_bytes(bytes[16..].try_into().expect("four bytes"));
    Ok((CatalogVersion { counter: number(0), nonce: number(8) }, next_id))
}

/// The version that this transaction sees.
pub(crate) fn read_version(store: &dyn Store) -> Result<CatalogVersion> {
    Ok(read_header(store)?.0)
}

fn key(kind: u8, id: u32) -> Vec<u8> {
    let mut key = vec![1, kind];
    key.extend(id.to_be_bytes());
    key
}

fn read_all<T>(store: &dyn Store, kind: u8, decode: fn(&[u8]) -> Result<T>) -> Result<Vec<T>> {
    store.scan(&[1, kind], &[1, kind + 1], Direction::Forward)?.map(|pair| decode(&pair?.1)).collect()
}

fn comment_key(oid: u32, column: u32) -> Vec<u8> {
    let mut key = key(COMMENT, oid);
    key.extend(column.to_be_bytes());
    key
}

fn read_comments(store: &dyn Store) -> Result<BTreeMap<(u32, u32), String>> {
    let damaged = || SqlError::corrupted("a comment is damaged");
    let comment = |pair: std::result::Result<Pair, StoreError>| -> Result<((u32, u32), String)> {
        let (key, text) = pair?;
        let numbers: [u8; 8] = key[2..].try_into().map_err(|_| damaged())?;
        let number = |at: usize| u32::from_be_bytes(numbers[at..at + 4].try_into().expect("four bytes"));
        Ok(((number(0), number(4)), String::from_utf8(text).map_err(|_| damaged())?))
    };
    store.scan(&[1, COMMENT], &[1, COMMENT + 1], Direction::Forward)?.map(comment).collect()
}

impl Catalog {
    /// Reads the whole catalog.
    pub(crate) fn read(store: &dyn Store) -> Result<Catalog> {
        let (version, next_id) = read_header(store)?;
        let schemas = read_all(store, SCHEMA, decode_schema)?;
        let tables = read_all(store, TABLE, decode_table)?;
        let sequences = read_all(store, SEQUENCE, decode_sequence)?;
        let mut catalog = Catalog::assemble(version, next_id, schemas, tables, sequences);
        catalog.comments = read_comments(store)?;
        Ok(catalog)
    }
}

/// One schema change in the making: writes objects and, at the end, a new version.
pub(crate) struct CatalogWriter<'a> {
    store: &'a mut dyn Store,
    next_id: u32,
}

impl<'a> CatalogWriter<'a> {
    pub(crate) fn new(store: &'a mut dyn Store, catalog: &Catalog) -> Self {
        CatalogWriter { store, next_id: catalog.next_id }
    }

    pub(crate) fn store(&mut self) -> &mut dyn Store {
        self.store
    }

    pub(crate) fn new_id(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id - 1
    }

    pub(crate) fn put_schema(&mut self, schema: &Schema) -> Result<()> {
        Ok(self.store.put(key(SCHEMA, schema.id), encode_schema(schema))?)
    }

    /// Sets the comment on an object, or on a column of a table; nothing takes it away.
    pub(crate) fn put_comment(&mut self, oid: u32, column: u32, text: Option<&str>) -> Result<()> {
        let key = comment_key(oid, column);
        match text {
            Some(text) => self.store.put(key, text.as_bytes().to_vec())?,
            None => self.store.delete(key)?,
        }
        Ok(())
    }

    /// Takes away the comments on an object and its columns.
    pub(crate) fn drop_comments(&mut self, oid: u32) -> Result<()> {
        let end = comment_key(oid + 1, 0);
        let found = self.store.scan(&comment_key(oid, 0), &end, Direction::Forward)?;
        let keys: Vec<Vec<u8>> = found.map(|pair| Ok(pair?.0)).collect::<Result<_>>()?;
        keys.into_iter().try_for_each(|key| Ok(self.store.delete(key)?))
    }

    pub(crate) fn drop_schema(&mut self, id: u32) -> Result<()> {
        self.drop_comments(id)?;
        Ok(self.store.delete(key(SCHEMA, id))?)
    }

    pub(crate) fn put_table(&mut self, table: &Table) -> Result<()> {
        Ok(self.store.put(key(TABLE, table.id), encode_table(table))?)
    }

    pub(crate) fn drop_table(&mut self, id: u32) -> Result<()> {
        self.drop_comments(id)?;
        Ok(self.store.delete(key(TABLE, id))?)
    }

    /// A new sequence, in an epoch named by fresh randomness.
    pub(crate) fn put_sequence(&mut self, sequence: &Sequence, epoch: u64) -> Result<()> {
        crate::numbers::write_epoch(self.store, sequence.id, epoch)?;
        Ok(self.store.put(key(SEQUENCE, sequence.id), encode_sequence(sequence))?)
    }

    pub(crate) fn drop_sequence(&mut self, id: u32) -> Result<()> {
        self.drop_comments(id)?;
        self.store.delete(sequence_key(id))?;
        self.store.delete(epoch_key(id))?;
        Ok(self.store.delete(key(SEQUENCE, id))?)
    }

    /// Writes the new version; `nonce` is fresh randomness.
    pub(crate) fn finish(self, before: CatalogVersion, nonce: u64) -> Result<()> {
        let mut bytes = Vec::with_capacity(20);
        bytes.extend((before.counter + 1).to_be_bytes());
        bytes.extend(nonce.to_be_bytes());
        bytes.extend(self.next_id.to_be_bytes());
        Ok(self.store.put(VERSION_KEY.to_vec(), bytes)?)
    }
}

/// Where a sequence's last value is.
pub(crate) fn sequence_key(id: u32) -> Vec<u8> {
    let mut key = vec![2];
    key.extend(id.to_be_bytes());
    key
}

/// Where a sequence's epoch is.
pub(crate) fn epoch_key(id: u32) -> Vec<u8> {
    let mut key = sequence_key(id);
    key.push(0);
    key
}

/// The prefix of an index's entries.
pub(crate) fn index_prefix(table: u32, index: u32) -> Vec<u8> {
    let mut key = vec![3];
    key.extend(table.to_be_bytes());
    key.extend(index.to_be_bytes());
    key
}
