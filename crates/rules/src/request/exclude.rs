//! Which members of a request do not count for its fingerprint (`fingerprint_exclude`).

use crate::error::{Code, Error, Result};
use crate::identity::printable;
use crate::request::token::Token;

/// The members that a fingerprint leaves out.
///
/// Each entry is the name of a top-level member, or, when it starts with `/`, a JSON Pointer (RFC
/// 6901) to a member at any depth. A pointer leads through objects and, where it says `*`, through
/// every element of an array: `/items/*/seen_at`. One element alone cannot be named, so `/items/0`
/// names the member `0` of an object `items` and nothing in an array of that name; `*` in an object
/// is the member of that name.
/// A top-level member whose name starts with `/` is named by a pointer (`/~1name`).
#[derive(Default, Clone, Debug, PartialEq, Eq)]
pub struct Exclusions {
    /// A tree of names in one vector, its root first (or empty without entries): built from sorted
    /// paths, so that equal sets have equal trees, and flat, so that no depth can overflow a stack.
    nodes: Vec<Node>,
}

#[derive(Default, Clone, Debug, PartialEq, Eq)]
struct Node {
    /// The member itself is left out; it then has no children.
    excluded: bool,
    /// Sorted by name.
    children: Vec<(Vec<u8>, usize)>,
}

impl Exclusions {
    /// Reads the entries of a `fingerprint_exclude`. Order and repetition do not matter, nor do
    /// entries below a member that is itself left out.
    ///
    /// # Errors
    /// `22023` for an empty entry, and for a pointer with a `~` that neither `0` nor `1` follows.
    pub fn parse<E: AsRef<[u8]>>(entries: impl IntoIterator<Item = E>) -> Result<Self> {
        let mut paths = entries
            .into_iter()
            .map(|entry| parse_entry(entry.as_ref()))
            .collect::<Result<Vec<_>>>()?;
        // Sorted, a path comes right before everything below it.
        paths.sort();
        let mut exclusions = Self::default();
        for path in &paths {
            exclusions.insert(path);
        }
        Ok(exclusions)
    }

    /// Whether every member counts.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Whether the top-level member of a name does not count.
    #[must_use]
    pub fn excludes(&self, name: &[u8]) -> bool {
        !self.is_empty() && self.child(0, name).is_some_and(|node| self.nodes[node].excluded)
    }

    fn insert(&mut self, path: &[Vec<u8>]) {
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
        }
        let mut at = 0;
        for name in path {
            if self.nodes[at].excluded {
                return;
            }
            at = self.child(at, name).unwrap_or_else(|| {
                let child = self.nodes.len();
                self.nodes.push(Node::default());
                self.nodes[at].children.push((name.clone(), child));
                child
            });
        }
        self.nodes[at].excluded = true;
    }

    fn child(&self, at: usize, name: &[u8]) -> Option<usize> {
        let children = &self.nodes[at].children;
        let found = children.binary_search_by(|(child, _)| child.as_slice().cmp(name));
        found.ok().map(|index| children[index].1)
    }
}

/// The names from the root to the member that an entry means.
fn parse_entry(entry: &[u8]) -> Result<Vec<Vec<u8>>> {
    let refuse = |problem: &str| {
        Error::new(Code::InvalidParameter, format!("fingerprint_exclude has {problem}")).hint(
            "Name a top-level member, such as 'sent_at', or a member further down by a \
            JSON Pointer, such as '/meta/sent_at', or '/items/*/sent_at' in every element of \
            an array; in a pointer '~' is written '~0' and '/' is written '~1'.",
        )
    };
    let Some((&first, rest)) = entry.split_first() else {
        return Err(refuse("an empty entry"));
    };
    if first != b'/' {
        return Ok(vec![entry.to_vec()]);
    }
    rest.split(|&byte| byte == b'/').map(unescape).collect::<Option<_>>().ok_or_else(|| {
        refuse("a JSON Pointer with a bad escape")
            .detail(format!("The entry is \"{}\".", printable(entry)))
    })
}

/// One name of a pointer without its escapes, or `None` when `~` is followed by neither 0 nor 1.
fn unescape(name: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(name.len());
    let mut bytes = name.iter();
    while let Some(&byte) = bytes.next() {
        plain.push(match byte {
            b'~' => match bytes.next()? {
                b'0' => b'~',
                b'1' => b'/',
                _ => return None,
            },
            _ => byte,
        });
    }
    Some(plain)
}

/// What stands for every element of an array.
const EVERY: &[u8] = b"*";

/// An object or array that is open, and that the tree leads through.
#[derive(Clone, Copy)]
enum Open {
    /// An object, and its node.
    Members(usize),
    /// An array, and the node of each of its elements.
    Elements(usize),
}

/// Follows a document along the tree of names and says which tokens count.
pub(crate) struct Tracker<'e> {
    exclusions: &'e Exclusions,
    /// The open objects and arrays that the tree leads through, outermost first: never more than the
    /// longest entry has names.
    path: Vec<Open>,
    /// The node that the last name led to: that of the value right behind it.
    next: Option<usize>,
    /// How many objects and arrays are open below the path, where nothing can be excluded.
    aside: usize,
    /// The value that comes next is left out.
    omit: bool,
    /// How many objects and arrays are open in a value that is being left out.
    omitting: usize,
}

impl<'e> Tracker<'e> {
    pub(crate) fn new(exclusions: &'e Exclusions) -> Self {
        Self { exclusions, path: Vec::new(), next: Some(0), aside: 0, omit: false, omitting: 0 }
    }

    /// Takes the next token of the document, and says whether it counts.
    pub(crate) fn admits(&mut self, token: Token<'_>) -> bool {
        if self.omitting > 0 {
            match token {
                Token::BeginObject | Token::BeginArray => self.omitting += 1,
                Token::EndObject | Token::EndArray => self.omitting -= 1,
                _ => {}
            }
            return false;
        }
        let ends = matches!(token, Token::EndObject | Token::EndArray);
        if self.aside == 0
            && !ends
            && let Some(Open::Elements(node)) = self.path.last()
        {
            self.lead_to(Some(*node));
        }
        if self.omit {
            self.omit = false;
            self.omitting = usize::from(matches!(token, Token::BeginObject | Token::BeginArray));
            return false;
        }
        match token {
            Token::Member(name) => return self.enter(name),
            Token::BeginObject => self.open(self.next.map(Open::Members)),
            Token::BeginArray => {
                let every = self.next.and_then(|node| self.exclusions.child(node, EVERY));
                self.open(every.map(Open::Elements));
            }
            Token::EndObject | Token::EndArray => {
                if self.aside > 0 {
                    self.aside -= 1;
                } else {
                    self.path.pop();
                }
            }
            _ => {}
        }
        true
    }

    fn open(&mut self, led_through: Option<Open>) {
        match led_through {
            Some(open) if self.aside == 0 => self.path.push(open),
            _ => self.aside += 1,
        }
    }

    fn enter(&mut self, name: &[u8]) -> bool {
        let node = match self.path.last() {
            Some(Open::Members(parent)) if self.aside == 0 => self.exclusions.child(*parent, name),
            _ => None,
        };
        self.lead_to(node);
        !self.omit
    }

    /// The value that comes next is that of a node, or of none.
    fn lead_to(&mut self, node: Option<usize>) {
        self.next = node;
        self.omit = node.is_some_and(|node| self.exclusions.nodes[node].excluded);
    }
}

#[cfg(test)]
#[path = "../tests/exclude.rs"]
mod tests;
