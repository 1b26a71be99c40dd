//! Writes that become visible together.

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteOp {
    /// Sets a key.
    Put(Vec<u8>, Vec<u8>),
    /// Removes a key; removing what is not there is no error.
    Delete(Vec<u8>),
    /// Removes the keys with `start <= key < end`.
    DeleteRange(Vec<u8>, Vec<u8>),
}

/// Writes that become visible together, in order: a later one on the same key wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteBatch {
    ops: Vec<WriteOp>,
    size_bytes: usize,
}

impl WriteBatch {
    /// A batch without writes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key`.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.size_bytes += key.len() + value.len();
        self.ops.push(WriteOp::Put(key, value));
    }

    /// Removes `key`.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.size_bytes += key.len();
        self.ops.push(WriteOp::Delete(key));
    }

    /// Removes the keys with `start <= key < end`.
    pub fn delete_range(&mut self, start: Vec<u8>, end: Vec<u8>) {
        self.size_bytes += start.len() + end.len();
        self.ops.push(WriteOp::DeleteRange(start, end));
    }

    /// The writes, in order.
    pub fn ops(&self) -> &[WriteOp] {
        &self.ops
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Bytes of keys and values.
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }
}
