//! Which node has which slots, as clients are told: once a move is over, and they may not look at once.

use std::sync::Mutex;
use std::sync::PoisonError;

use super::{PARTS, first_node_of};

/// A node for each part.
pub type Table = [u32; PARTS];

pub struct Routes {
    published: Mutex<Table>,
    nodes: u32,
}

impl Routes {
    pub fn new(nodes: u32) -> Self {
        Self {
            published: Mutex::new(std::array::from_fn(|part| first_node_of(part, nodes))),
            nodes,
        }
    }

    pub fn nodes(&self) -> u32 {
        self.nodes
    }

    pub fn read(&self) -> Table {
        *self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn publish(&self, part: usize, node: u32) {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)[part] = node;
    }
}
