//! Which of several nodes a key lives on. The bytes are those of `idempotent_slot` and `idempotent_shard`.

use sha2::{Digest, Sha256};

use crate::core::error::Error;

/// How many slots there are.
pub const SLOTS: u16 = 16384;

/// The slot of an owner: of the scope where there is one, else of the key. It does not depend on the operation, so that all operations of one tenant live together.
pub fn slot(key: &str, scope: Option<&str>) -> u16 {
    let owner = scope.filter(|scope| !scope.is_empty()).unwrap_or(key);
    let digest = Sha256::digest(owner.as_bytes());
    u16::from_be_bytes([digest[0], digest[1]]) % SLOTS
}

/// The shard of a slot, of so many: jump consistent hash. From n to n + 1 shards one slot in n + 1 moves, and only to the new shard.
pub fn shard(slot: u16, shards: usize) -> usize {
    let (mut key, mut bucket, mut jump) = (u64::from(slot), 0, 0);
    while jump < shards {
        bucket = jump;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        let ratio = 2_f64.powi(31) / ((key >> 33) + 1) as f64;
        jump = ((bucket + 1) as f64 * ratio) as usize;
    }
    bucket
}

/// Pools of nodes, in the order of their shards.
#[derive(Clone, Debug)]
pub struct Router<D> {
    nodes: Vec<D>,
}

impl<D> Router<D> {
    /// None without a node.
    pub fn new(nodes: impl IntoIterator<Item = D>) -> Option<Self> {
        let nodes: Vec<D> = nodes.into_iter().collect();
        (!nodes.is_empty()).then_some(Self { nodes })
    }

    /// The pool of the node that a key lives on, for [`Once::run`](crate::Once::run) and its like. The scope is the one of the call.
    pub fn of(&self, key: &str, scope: Option<&str>) -> &D {
        &self.nodes[self.first(key, scope)]
    }

    /// Makes a call on the node that the key lives on: `router.run(key, scope, async |pool| once.clone().run(&pool, ..).await)`. While slots move, this router may know
    /// less than the nodes: where one says that the key is another's ([`Error::Misrouted`], so that nothing has happened there) the others are asked in turn.
    pub async fn run<F, Fut, T>(
        &self,
        key: &str,
        scope: Option<&str>,
        mut call: F,
    ) -> Result<T, Error>
    where
        D: Clone,
        F: FnMut(D) -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        let first = self.first(key, scope);
        let mut answer = call(self.nodes[first].clone()).await;
        for (_, node) in self.nodes.iter().enumerate().filter(|(number, _)| *number != first) {
            if !matches!(answer, Err(Error::Misrouted)) {
                break;
            }
            answer = call(node.clone()).await;
        }
        answer
    }

    fn first(&self, key: &str, scope: Option<&str>) -> usize {
        shard(slot(key, scope), self.nodes.len())
    }
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::Value;

    use super::{Router, shard, slot};

    #[test]
    fn slots_and_shards_are_those_of_the_extension() {
        let vectors = include_str!("../../conformance/vectors/identity.json");
        let vectors: Vec<Value> = serde_json::from_str(vectors).expect("vectors");
        assert!(vectors.len() >= 20);
        for vector in vectors {
            let text = |name: &str| vector[name].as_str().expect("a text");
            let found = slot(text("key"), Some(text("scope")));
            assert_eq!(u64::from(found), vector["slot"], "{vector}");
            let shards = vector["shards"].as_object().expect("shards");
            assert!(shards.len() >= 8);
            for (count, wanted) in shards {
                let count = count.parse().expect("a number");
                assert_eq!(shard(found, count) as u64, *wanted, "{count} shards, {vector}");
            }
        }
    }

    #[test]
    fn a_router_asks_for_the_scope_before_the_key() {
        let router = Router::new(0..5).expect("five nodes");
        assert_eq!(router.of("k", Some("t1")), &3);
        assert_eq!(router.of("another key", Some("t1")), &3);
        assert_eq!((router.of("k", Some("")), router.of("k", None)), (&4, &4));
        assert!(Router::<u8>::new([]).is_none());
    }
}
